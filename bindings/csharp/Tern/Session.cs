using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Tern
{
    /// <summary>What happens when a conversation outgrows its context.</summary>
    public enum OnFull
    {
        /// <summary>The answer ends.</summary>
        Error = 0,
        /// <summary>The oldest turns go, instructions stay.</summary>
        DropTurns = 1,
        /// <summary>The first tokens stay; outside the determinism contract.</summary>
        Shift = 2,
    }

    /// <summary>How a session is made; the defaults are what most programs want.</summary>
    public sealed class SessionOptions
    {
        /// <summary>Jinja; null: the model's.</summary>
        public string ChatTemplate { get; set; }
        /// <summary>What happens when the context is full.</summary>
        public OnFull OnFull { get; set; }
        /// <summary>Shift: first tokens kept; 0: the instructions.</summary>
        public int Keep { get; set; }
        /// <summary>The context underneath; null: the defaults.</summary>
        public ContextOptions Context { get; set; }
    }

    /// <summary>How one answer is made; the defaults are the model's recommended sampling, to the end of the context.</summary>
    public sealed class GenerateOptions
    {
        /// <summary>0: to the end of the context.</summary>
        public int MaxTokens { get; set; }
        /// <summary>Each ends the answer and is never shown, not even in part.</summary>
        public IReadOnlyList<string> Stop { get; set; }
        /// <summary>Copied; null: the model's recommended chain.</summary>
        public Sampler Sampler { get; set; }
        /// <summary>null: anything may be said.</summary>
        public Grammar Grammar { get; set; }
        /// <summary>Drafts from the prompt: the same text, sooner.</summary>
        public bool Lookup { get; set; }
    }

    /// <summary>Why an answer ended.</summary>
    public enum FinishReason
    {
        /// <summary>It did not.</summary>
        None = 0,
        /// <summary>The model had said it all.</summary>
        Eog = 1,
        /// <summary>A stop string.</summary>
        Stop = 2,
        /// <summary>MaxTokens.</summary>
        Length = 3,
        /// <summary>The context is full.</summary>
        ContextFull = 4,
        /// <summary>Cancelled or stopped.</summary>
        Cancelled = 5,
    }

    /// <summary>A step of an answer.</summary>
    public struct Chunk
    {
        /// <summary>Ok, Pending or Done.</summary>
        public TernStatus Status { get; internal set; }
        /// <summary>Whole characters, often none.</summary>
        public string Text { get; internal set; }
        /// <summary>The newest token, -1: none.</summary>
        public int Token { get; internal set; }
        /// <summary>Its log-probability.</summary>
        public float Logprob { get; internal set; }
        /// <summary>Why the answer ended, once Status is Done.</summary>
        public FinishReason Finish { get; internal set; }
    }

    /// <summary>A conversation. One thread at a time.</summary>
    public sealed partial class Session : IDisposable
    {
        [StructLayout(LayoutKind.Sequential)]
        struct Params
        {
            internal UIntPtr Size;
            internal IntPtr Instructions;
            internal UIntPtr InstructionsLen;
            internal IntPtr ChatTemplate;
            internal UIntPtr ChatTemplateLen;
            internal int OnFull;
            internal uint NKeep, Flags;
            internal IntPtr Context;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct NativeOptions
        {
            internal UIntPtr Size;
            internal uint MaxTokens;
            internal int Draft;
            internal uint NDraftMax;
            internal IntPtr Stop, StopLens;
            internal UIntPtr NStop;
            internal IntPtr Sampler, Grammar, Cancel;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct NativeChunk
        {
            internal UIntPtr Size;
            internal IntPtr Utf8;
            internal UIntPtr Len;
            internal int Token;
            internal float Logprob;
            internal int FinishReason;
        }

        [DllImport(Library.Name)] static extern int tern_session_new(ModelHandle m, ref Params p, out IntPtr made, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_session_restore(ModelHandle m, byte[] data, UIntPtr len, ref Params p, out IntPtr made,
            out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_session_prewarm(SessionHandle s, IntPtr cancel);
        [DllImport(Library.Name)] static extern int tern_session_set_messages(SessionHandle s, Message.Native[] messages, UIntPtr itemSize,
            UIntPtr n, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_session_transcript_to_json(SessionHandle s, byte[] buf, UIntPtr cap, out UIntPtr len);
        [DllImport(Library.Name)] static extern int tern_session_transcript_from_json(SessionHandle s, byte[] json, UIntPtr len,
            out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_session_start(SessionHandle s, byte[] text, UIntPtr len, ref NativeOptions o,
            out IntPtr error);
#if NET8_0_OR_GREATER
        // Modern/Session.Modern.cs has the source-generated one.
#else
        [DllImport(Library.Name)] static extern int tern_session_next(SessionHandle s, ulong budgetUs, ref NativeChunk chunk);
#endif
        [DllImport(Library.Name)] static extern int tern_session_stop(SessionHandle s);
        [DllImport(Library.Name)] static extern int tern_session_fork(SessionHandle s, out IntPtr made);
        [DllImport(Library.Name)] static extern int tern_session_save(SessionHandle s, byte[] buf, UIntPtr cap, out UIntPtr len);

        readonly SessionHandle handle;
        Cancellation running; // follows the token of the answer that runs

        Session(IntPtr reference)
        {
            handle = new SessionHandle().Holding<SessionHandle>(reference);
        }

        internal static Session New(Model model, string instructions, SessionOptions options, byte[] saved)
        {
            options = options ?? new SessionOptions();
            using (var block = new Block())
            using (Lease pool = ContextOptions.Pool(options.Context))
            {
                byte[] text = Utf8.Bytes(instructions), template = Utf8.Bytes(options.ChatTemplate);
                var p = new Params { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(Params)), Instructions = block.Copy(text),
                    InstructionsLen = Utf8.Length(text), ChatTemplate = block.Copy(template), ChatTemplateLen = Utf8.Length(template),
                    OnFull = (int)options.OnFull, NKeep = (uint)options.Keep, Context = block.Copy(ContextOptions.Of(options.Context, pool)) };
                IntPtr made, error;
                int status = saved == null
                    ? tern_session_new(model.Handle, ref p, out made, out error)
                    : tern_session_restore(model.Handle, saved.Length > 0 ? saved : new byte[1], (UIntPtr)(uint)saved.Length, ref p, out made,
                        out error);
                TernException.Check(status, error);
                return new Session(made);
            }
        }

        /// <summary>Streams the answer in pieces of whole characters. Leaving the loop ends the answer; what was said stays in the
        /// transcript. The loop's thread computes.</summary>
        public IEnumerable<string> Ask(string text, GenerateOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            Start(text, options, cancellation);
            bool open = true;
            try
            {
                while (open)
                {
                    open = false; // an exception ends the answer in the library
                    Chunk chunk = Next();
                    open = chunk.Status != TernStatus.Done;
                    if (chunk.Text.Length > 0) yield return chunk.Text;
                }
            }
            finally
            {
                if (open && !handle.IsClosed) Stop();
            }
        }

        /// <summary>The same with the usual options.</summary>
        public IEnumerable<string> Ask(string text, CancellationToken cancellation) => Ask(text, null, cancellation);

        /// <summary>The whole answer.</summary>
        public string Respond(string text, GenerateOptions options = null, CancellationToken cancellation = default(CancellationToken)) =>
            string.Concat(Ask(text, options, cancellation));

        /// <summary>The whole answer, computed on a thread of its own, which calls `onPiece` with each piece.</summary>
        public Task<string> RespondAsync(string text, GenerateOptions options = null, Action<string> onPiece = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Task.Factory.StartNew(() =>
            {
                var answer = new StringBuilder();
                foreach (string piece in Ask(text, options, cancellation))
                {
                    answer.Append(piece);
                    if (onPiece != null) onPiece(piece);
                }
                return answer.ToString();
            }, cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        /// <summary>Begins an answer and evaluates nothing; Next does. For programs that step an answer themselves, within a frame
        /// say. null answers the transcript as it stands.</summary>
        public void Start(string text, GenerateOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            options = options ?? new GenerateOptions();
            IReadOnlyList<string> stops = options.Stop ?? new string[0];
            var cancel = new Cancellation(cancellation);
            bool started = false;
            try
            {
                using (var block = new Block())
                using (var sampler = new Lease(options.Sampler == null ? null : options.Sampler.Handle))
                using (var grammar = new Lease(options.Grammar == null ? null : options.Grammar.Handle))
                {
                    var pointers = new IntPtr[stops.Count];
                    var lens = new IntPtr[stops.Count];
                    for (int i = 0; i < stops.Count; i++)
                    {
                        byte[] stop = Utf8.Bytes(stops[i]);
                        pointers[i] = block.Copy(stop);
                        lens[i] = (IntPtr)(stop.Length - 1);
                    }
                    var o = new NativeOptions { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(NativeOptions)),
                        MaxTokens = (uint)options.MaxTokens, Draft = options.Lookup ? 1 : 0, Stop = block.Copy(pointers),
                        StopLens = block.Copy(lens), NStop = (UIntPtr)(uint)stops.Count, Sampler = sampler.Pointer, Grammar = grammar.Pointer,
                        Cancel = cancel.Pointer };
                    byte[] bytes = Utf8.Bytes(text);
                    IntPtr error;
                    int status = tern_session_start(handle, bytes, Utf8.Length(bytes), ref o, out error);
                    cancel.Check(status, error);
                    started = true;
                }
            }
            finally
            {
                if (!started) cancel.Dispose();
            }
            running = cancel;
        }

        /// <summary>Takes one step of the answer. With a budget it returns Pending after about that time.</summary>
        public Chunk Next(long budgetMicroseconds = 0)
        {
            using (var held = new Lease(handle)) // the text is the session's until it is copied
            {
                var chunk = new NativeChunk { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(NativeChunk)) };
                int status = tern_session_next(handle, (ulong)budgetMicroseconds, ref chunk);
                Cancellation cancel = running;
                try
                {
                    TernStatus done = cancel == null ? TernException.Check(status) : cancel.Check(status);
                    return new Chunk { Status = done, Text = Utf8.Borrowed(chunk.Utf8, chunk.Len), Token = chunk.Token,
                        Logprob = chunk.Logprob, Finish = (FinishReason)chunk.FinishReason };
                }
                finally
                {
                    if (status == (int)TernStatus.Done || status < 0) Over(status);
                }
            }
        }

        /// <summary>Ends an answer early; what was said stays in the transcript.</summary>
        public void Stop()
        {
            int status = tern_session_stop(handle);
            Over(status);
            TernException.Check(status);
        }

        /// <summary>Lets go of the token that the answer followed, unless the answer is another thread's.</summary>
        void Over(int status)
        {
            if (status == (int)TernStatus.Busy) return;
            Cancellation cancel = Interlocked.Exchange(ref running, null);
            if (cancel != null) cancel.Dispose();
        }

        /// <summary>Evaluates what the transcript holds, so that the first token comes sooner.</summary>
        public void Prewarm(CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation)) cancel.Check(tern_session_prewarm(handle, cancel.Pointer));
        }

        /// <summary>Replaces the transcript; what it shares with the old one is not evaluated again.</summary>
        public void SetMessages(IReadOnlyList<Message> messages)
        {
            using (var block = new Block())
            {
                IntPtr error;
                int status = tern_session_set_messages(handle, Message.Copy(messages, block), Message.NativeSize, (UIntPtr)(uint)messages.Count,
                    out error);
                TernException.Check(status, error);
            }
        }

        /// <summary>The transcript as JSON, [{"role", "content"}, ...]. Setting it is SetMessages.</summary>
        public string Transcript
        {
            get { return Utf8.Text((byte[] buf, UIntPtr cap, out UIntPtr n) => tern_session_transcript_to_json(handle, buf, cap, out n)); }
            set
            {
                byte[] json = Utf8.Bytes(value ?? throw new ArgumentNullException(nameof(value)));
                IntPtr error;
                TernException.Check(tern_session_transcript_from_json(handle, json, Utf8.Length(json), out error), error);
            }
        }

        /// <summary>The same conversation once more, with a context of its own.</summary>
        public Session Fork()
        {
            IntPtr made;
            TernException.Check(tern_session_fork(handle, out made));
            return new Session(made);
        }

        /// <summary>The conversation as bytes.</summary>
        public byte[] Save() => Utf8.Data((byte[] buf, UIntPtr cap, out UIntPtr n) => tern_session_save(handle, buf, cap, out n));

        /// <summary>Gives the session back.</summary>
        public void Dispose()
        {
            handle.Dispose();
            Over(0);
        }
    }

    public sealed partial class Model
    {
        /// <summary>Starts a conversation; null is no instructions.</summary>
        public Session CreateSession(string instructions = null, SessionOptions options = null) =>
            Session.New(this, instructions, options, null);

        /// <summary>Makes the session that Save wrote. Instructions and template are the saved ones.</summary>
        public Session RestoreSession(byte[] saved, SessionOptions options = null) =>
            Session.New(this, null, options, saved ?? throw new ArgumentNullException(nameof(saved)));

        /// <summary>An empty context.</summary>
        public Context CreateContext(ContextOptions options = null) => new Context(this, options);

        /// <summary>Compiles a grammar for this model's tokens.</summary>
        public Grammar CreateGrammar(GrammarKind kind, string source = "") => new Grammar(this, kind, source);
    }
}
