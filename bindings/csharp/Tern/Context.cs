using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;

namespace Tern
{
    /// <summary>How a context is made; the defaults are the model's whole context and one sequence.</summary>
    public sealed class ContextOptions
    {
        /// <summary>Tokens a sequence; 0: what the model was trained with.</summary>
        public int Tokens { get; set; }
        /// <summary>Sequences; 0: one.</summary>
        public int Sequences { get; set; }
        /// <summary>Tokens evaluated at once, bounds scratch; 0: tern's choice.</summary>
        public int Batch { get; set; }
        /// <summary>Keys and values in 8 bits instead of 16.</summary>
        public bool KVInt8 { get; set; }
        /// <summary>Makes <see cref="Context.Embedding"/> work.</summary>
        public bool Embeddings { get; set; }
        /// <summary>An embedding is the mean instead of the last token.</summary>
        public bool PoolMean { get; set; }
        /// <summary>An approximate head.</summary>
        public bool FastHead { get; set; }
        /// <summary>Cap on the pages held by all sequences; 0: none.</summary>
        public ulong KVBytesMax { get; set; }
        /// <summary>null: the model's own.</summary>
        public TernThreadPool Threads { get; set; }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Native
        {
            internal UIntPtr Size;
            internal uint NCtx, NSeqMax, NBatch;
            internal int KvType, Pooling;
            internal uint Flags;
            internal ulong KvBytesMax;
            internal IntPtr Threadpool;
        }

        internal static Lease Pool(ContextOptions o) => new Lease(o == null || o.Threads == null ? null : o.Threads.Handle);

        /// <summary>The options as C's struct; `pool` must be held during its use.</summary>
        internal static Native Of(ContextOptions o, Lease pool)
        {
            o = o ?? new ContextOptions();
            return new Native { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(Native)), NCtx = (uint)o.Tokens, NSeqMax = (uint)o.Sequences,
                NBatch = (uint)o.Batch, KvType = o.KVInt8 ? 1 : 0, Pooling = o.PoolMean ? 1 : 0,
                Flags = (o.Embeddings ? 1u : 0) | (o.FastHead ? 2u : 0), KvBytesMax = o.KVBytesMax, Threadpool = pool.Pointer };
        }
    }

    /// <summary>For which tokens of an evaluation logits can be had.</summary>
    public enum Rows : uint
    {
        /// <summary>The last.</summary>
        Last = 0,
        /// <summary>Every one.</summary>
        All = 1,
        /// <summary>None.</summary>
        None = 2,
    }

    /// <summary>One token of an evaluation over many sequences.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct BatchItem
    {
        /// <summary>The token.</summary>
        public int Token;
        /// <summary>Its sequence.</summary>
        public int Sequence;
        /// <summary>Not 0: logits can be had.</summary>
        public uint WantLogits;
    }

    /// <summary>What moves: sequences of tokens, their keys and values. One thread at a time.</summary>
    public sealed class Context : IDisposable
    {
        [StructLayout(LayoutKind.Sequential)]
        struct EvalOptions
        {
            internal UIntPtr Size;
            internal int Seq;
            internal uint Flags;
            internal ulong BudgetUs;
            internal IntPtr Cancel;
        }

        static EvalOptions Options(int sequence, Rows rows, long budgetMicroseconds, Cancellation cancel)
        {
            return new EvalOptions { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(EvalOptions)), Seq = sequence, Flags = (uint)rows,
                BudgetUs = (ulong)budgetMicroseconds, Cancel = cancel.Pointer };
        }

        [DllImport(Library.Name)] static extern int tern_context_new(ModelHandle m, ref ContextOptions.Native p, out IntPtr made,
            out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_eval(ContextHandle c, int[] tokens, UIntPtr n, ref EvalOptions o, out UIntPtr done);
        [DllImport(Library.Name)] static extern int tern_eval_batch(ContextHandle c, BatchItem[] items, UIntPtr itemSize, UIntPtr n,
            ref EvalOptions o, out UIntPtr done);
        [DllImport(Library.Name)] static extern int tern_logits(ContextHandle c, UIntPtr i, out IntPtr values, out UIntPtr n);
        [DllImport(Library.Name)] static extern int tern_embedding(ContextHandle c, int seq, out IntPtr values, out UIntPtr n);
        [DllImport(Library.Name)] static extern int tern_score(ContextHandle c, int[] tokens, UIntPtr n, ref EvalOptions o,
            [Out] float[] values, UIntPtr cap, out UIntPtr used);
        [DllImport(Library.Name)] static extern int tern_seq_length(ContextHandle c, int seq, out uint n);
        [DllImport(Library.Name)] static extern int tern_seq_truncate(ContextHandle c, int seq, uint length);
        [DllImport(Library.Name)] static extern int tern_seq_fork(ContextHandle c, int from, int to);
        [DllImport(Library.Name)] static extern int tern_seq_clear(ContextHandle c, int seq);
        [DllImport(Library.Name)] static extern int tern_seq_common_prefix(ContextHandle c, int seq, int[] tokens, UIntPtr n, out UIntPtr same);
        [DllImport(Library.Name)] static extern int tern_seq_state_save(ContextHandle c, int seq, byte[] buf, UIntPtr cap, out UIntPtr len);
        [DllImport(Library.Name)] static extern int tern_seq_state_load(ContextHandle c, int seq, byte[] data, UIntPtr len);
        [DllImport(Library.Name)] static extern int tern_seq_prefix_save(ContextHandle c, int seq, byte[] path, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_seq_prefix_map(ContextHandle c, int seq, byte[] path, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_logprobs_top(ContextHandle c, UIntPtr i, UIntPtr k, [Out] int[] tokens,
            [Out] float[] logprobs, out UIntPtr n);
        [DllImport(Library.Name)] static extern int tern_choose(ContextHandle c, IntPtr[] choices, UIntPtr[] lens, UIntPtr n,
            ref EvalOptions o, out UIntPtr index, [Out] float[] probs);
        [DllImport(Library.Name)] static extern int tern_context_trim(ContextHandle c, int level, out ulong freed);

        internal readonly ContextHandle Handle;

        /// <summary>An empty context.</summary>
        public Context(Model model, ContextOptions options = null)
        {
            using (Lease pool = ContextOptions.Pool(options))
            {
                ContextOptions.Native p = ContextOptions.Of(options, pool);
                IntPtr made, error;
                int status = tern_context_new(model.Handle, ref p, out made, out error);
                TernException.Check(status, error);
                Handle = new ContextHandle().Holding<ContextHandle>(made);
            }
        }

        /// <summary>Appends tokens to a sequence. Gives back how many: fewer when the budget is spent, then call again with the
        /// rest. Cancelled: throws; <see cref="Length"/> says how many were appended.</summary>
        public int Eval(int[] tokens, int sequence = 0, Rows rows = Rows.Last, long budgetMicroseconds = 0,
            CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation))
            {
                EvalOptions o = Options(sequence, rows, budgetMicroseconds, cancel);
                UIntPtr done;
                cancel.Check(tern_eval(Handle, NotEmpty(tokens), (UIntPtr)(uint)tokens.Length, ref o, out done));
                return (int)done;
            }
        }

        /// <summary>Appends tokens to many sequences in one pass over the weights.</summary>
        public int EvalBatch(BatchItem[] items, long budgetMicroseconds = 0, CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation))
            {
                EvalOptions o = Options(0, Rows.Last, budgetMicroseconds, cancel);
                UIntPtr done;
                cancel.Check(tern_eval_batch(Handle, items.Length > 0 ? items : new BatchItem[1], (UIntPtr)(uint)Marshal.SizeOf(typeof(BatchItem)),
                    (UIntPtr)(uint)items.Length, ref o, out done));
                return (int)done;
            }
        }

        static int[] NotEmpty(int[] tokens) => tokens.Length > 0 ? tokens : new int[1];

        /// <summary>Copies row i of the last evaluation, counting the requested rows from 0.</summary>
        public float[] Logits(int i = 0)
        {
            using (var held = new Lease(Handle)) // the row is the context's until it is copied
            {
                IntPtr values;
                UIntPtr n;
                TernException.Check(tern_logits(Handle, (UIntPtr)(uint)i, out values, out n));
                return Floats(values, n);
            }
        }

        /// <summary>Copies the pooled sequence, of length 1.</summary>
        public float[] Embedding(int sequence = 0)
        {
            using (var held = new Lease(Handle))
            {
                IntPtr values;
                UIntPtr n;
                TernException.Check(tern_embedding(Handle, sequence, out values, out n));
                return Floats(values, n);
            }
        }

        static float[] Floats(IntPtr values, UIntPtr n)
        {
            var row = new float[(int)n];
            if (row.Length > 0) Marshal.Copy(values, row, 0, row.Length);
            return row;
        }

        /// <summary>Log-probabilities of tokens as the continuation of a sequence, which stays as it was: one for each, or one
        /// fewer if the sequence is empty.</summary>
        public float[] Score(int[] tokens, int sequence = 0, CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation))
            {
                EvalOptions o = Options(sequence, Rows.Last, 0, cancel);
                var values = new float[tokens.Length + 1];
                UIntPtr used;
                cancel.Check(tern_score(Handle, NotEmpty(tokens), (UIntPtr)(uint)tokens.Length, ref o, values, (UIntPtr)(uint)values.Length,
                    out used));
                Array.Resize(ref values, (int)used);
                return values;
            }
        }

        /// <summary>Tokens in a sequence.</summary>
        public int Length(int sequence = 0)
        {
            uint n;
            TernException.Check(tern_seq_length(Handle, sequence, out n));
            return (int)n;
        }

        /// <summary>Drops the tokens of a sequence from `length` on.</summary>
        public void Truncate(int length, int sequence = 0) => TernException.Check(tern_seq_truncate(Handle, sequence, (uint)length));

        /// <summary>Makes an empty sequence the same as another, at no cost.</summary>
        public void Fork(int from, int to) => TernException.Check(tern_seq_fork(Handle, from, to));

        /// <summary>Empties a sequence.</summary>
        public void Clear(int sequence = 0) => TernException.Check(tern_seq_clear(Handle, sequence));

        /// <summary>How many of these tokens a sequence begins with.</summary>
        public int CommonPrefix(int[] tokens, int sequence = 0)
        {
            UIntPtr same;
            TernException.Check(tern_seq_common_prefix(Handle, sequence, NotEmpty(tokens), (UIntPtr)(uint)tokens.Length, out same));
            return (int)same;
        }

        /// <summary>A sequence as bytes.</summary>
        public byte[] SaveState(int sequence = 0) =>
            Utf8.Data((byte[] buf, UIntPtr cap, out UIntPtr n) => tern_seq_state_save(Handle, sequence, buf, cap, out n));

        /// <summary>Replaces a sequence with a saved one.</summary>
        public void LoadState(byte[] data, int sequence = 0) =>
            TernException.Check(tern_seq_state_load(Handle, sequence, data.Length > 0 ? data : new byte[1], (UIntPtr)(uint)data.Length));

        /// <summary>Writes a sequence to a file that any number of processes can map.</summary>
        public void SavePrefix(string path, int sequence = 0)
        {
            IntPtr error;
            int status = tern_seq_prefix_save(Handle, sequence, Utf8.Bytes(path), out error);
            TernException.Check(status, error);
        }

        /// <summary>Maps such a file into an empty sequence, with nothing to evaluate.</summary>
        public void MapPrefix(string path, int sequence = 0)
        {
            IntPtr error;
            int status = tern_seq_prefix_map(Handle, sequence, Utf8.Bytes(path), out error);
            TernException.Check(status, error);
        }

        /// <summary>The k likeliest tokens of row i with their log-probabilities, best first.</summary>
        public KeyValuePair<int, float>[] LogprobsTop(int k, int i = 0)
        {
            var tokens = new int[Math.Max(1, k)];
            var values = new float[tokens.Length];
            UIntPtr n;
            TernException.Check(tern_logprobs_top(Handle, (UIntPtr)(uint)i, (UIntPtr)(uint)k, tokens, values, out n));
            var top = new KeyValuePair<int, float>[(int)n];
            for (int j = 0; j < top.Length; j++) top[j] = new KeyValuePair<int, float>(tokens[j], values[j]);
            return top;
        }

        /// <summary>Which string continues a sequence, which stays as it was. `probabilities` get those of all, and sum to 1.</summary>
        public int Choose(IReadOnlyList<string> choices, out float[] probabilities, int sequence = 0,
            CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation))
            using (var block = new Block())
            {
                EvalOptions o = Options(sequence, Rows.Last, 0, cancel);
                var pointers = new IntPtr[choices.Count + 1]; // never empty
                var lens = new UIntPtr[choices.Count + 1];
                for (int i = 0; i < choices.Count; i++)
                {
                    byte[] text = Utf8.Bytes(choices[i]);
                    pointers[i] = block.Copy(text);
                    lens[i] = Utf8.Length(text);
                }
                probabilities = new float[choices.Count];
                UIntPtr index;
                cancel.Check(tern_choose(Handle, pointers, lens, (UIntPtr)(uint)choices.Count, ref o, out index, probabilities));
                return (int)index;
            }
        }

        /// <summary>Frees scratch memory, and with `kv` the pages too, which the next evaluation computes again. The bytes freed.</summary>
        public ulong Trim(bool kv = false)
        {
            ulong freed;
            TernException.Check(tern_context_trim(Handle, kv ? 1 : 0, out freed));
            return freed;
        }

        /// <summary>Gives the context back.</summary>
        public void Dispose() => Handle.Dispose();
    }
}
