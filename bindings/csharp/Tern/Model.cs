using System;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;

namespace Tern
{
    /// <summary>How a model is loaded.</summary>
    [Flags]
    public enum LoadFlags : uint
    {
        /// <summary>Mapped, all of it.</summary>
        None = 0,
        /// <summary>Tokens only, no weights.</summary>
        VocabOnly = 1,
        /// <summary>Read instead of mapped.</summary>
        NoMmap = 2,
        /// <summary>Kept in memory.</summary>
        Mlock = 4,
        /// <summary>Every byte is checked.</summary>
        Verify = 8,
    }

    /// <summary>How a model is loaded; the defaults are what most programs want.</summary>
    public sealed class LoadOptions
    {
        /// <summary>How the file is used.</summary>
        public LoadFlags Flags { get; set; }
        /// <summary>A kernel table of <see cref="Library.SystemInfo"/>; null: the best that passes its check.</summary>
        public string Kernels { get; set; }
        /// <summary>Hears how far the load is, from 0 to 1, on the loading thread; false stops it.</summary>
        public Func<float, bool> Progress { get; set; }
    }

    /// <summary>A model's sizes and special tokens; -1 is a token that it lacks.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ModelInfo
    {
        internal UIntPtr Size;
        /// <summary>Tokens known.</summary>
        public uint Vocab;
        /// <summary>Tokens of context in training.</summary>
        public uint TrainContext;
        /// <summary>Width.</summary>
        public uint Embedding;
        /// <summary>Layers.</summary>
        public uint Layers;
        /// <summary>Attention heads.</summary>
        public uint Heads;
        /// <summary>Heads of keys and values.</summary>
        public uint KVHeads;
        /// <summary>Parameters.</summary>
        public ulong Params;
        /// <summary>Bytes of weights.</summary>
        public ulong WeightBytes;
        /// <summary>Bytes of the file.</summary>
        public ulong FileBytes;
        /// <summary>Begin of text.</summary>
        public int Bos;
        /// <summary>End of text.</summary>
        public int Eos;
        /// <summary>End of turn.</summary>
        public int Eot;
    }

    /// <summary>What was learnt: immutable, for any number of threads, contexts and sessions.</summary>
    public sealed partial class Model : IDisposable
    {
        [StructLayout(LayoutKind.Sequential)]
        internal struct Params
        {
            internal UIntPtr Size;
            internal uint Flags;
            internal IntPtr Kernels;
            internal UIntPtr KernelsLen;
            internal IntPtr Progress, ProgressUserData, Cancel;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct ConvertParams
        {
            internal UIntPtr Size;
            internal uint Flags;
            internal IntPtr Progress, ProgressUserData, Cancel;
        }

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        delegate int ProgressCall(IntPtr userData, float fraction);

        [DllImport(Library.Name)] static extern int tern_model_load_from_file(byte[] path, ref Params p, out IntPtr made, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_model_load_from_memory(byte[] data, UIntPtr len, IntPtr release,
            IntPtr userData, ref Params p, out IntPtr made, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_model_load_from_fd(int fd, ulong offset, ulong length, ref Params p, out IntPtr made,
            out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_model_convert(ModelHandle m, byte[] path, ref ConvertParams p, out IntPtr error);
        [DllImport(Library.Name)] static extern int tern_model_get_info(ModelHandle m, ref ModelInfo info);
        [DllImport(Library.Name)] static extern int tern_model_meta_get(ModelHandle m, byte[] key, UIntPtr keyLen, byte[] buf, UIntPtr cap,
            out UIntPtr outLen);
        [DllImport(Library.Name)] static extern int tern_model_chat_template(ModelHandle m, byte[] buf, UIntPtr cap, out UIntPtr outLen);

        internal readonly ModelHandle Handle;

        Model(IntPtr reference)
        {
            Handle = new ModelHandle().Holding<ModelHandle>(reference);
        }

        /// <summary>Opens a model file, GGUF or a packed one.</summary>
        public static Model Load(string path, LoadOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            byte[] name = Utf8.Bytes(path ?? throw new ArgumentNullException(nameof(path)));
            return Load(options, cancellation, delegate (ref Params p, out IntPtr made, out IntPtr error)
            { return tern_model_load_from_file(name, ref p, out made, out error); });
        }

        /// <summary>Opens a model from memory; what is needed of it is copied.</summary>
        public static Model Load(byte[] data, LoadOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            if (data == null) throw new ArgumentNullException(nameof(data));
            return Load(options, cancellation, delegate (ref Params p, out IntPtr made, out IntPtr error)
            { return tern_model_load_from_memory(data, (UIntPtr)(uint)data.Length, IntPtr.Zero, IntPtr.Zero, ref p, out made, out error); });
        }

        /// <summary>Opens a model inside an open file, from `offset` for `length` bytes, 0: to its end. Not on Windows.</summary>
        public static Model Load(int descriptor, long offset, long length, LoadOptions options = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Load(options, cancellation, delegate (ref Params p, out IntPtr made, out IntPtr error)
            { return tern_model_load_from_fd(descriptor, (ulong)offset, (ulong)length, ref p, out made, out error); });
        }

        /// <summary>Opens a model file on a thread of its own.</summary>
        public static Task<Model> LoadAsync(string path, LoadOptions options = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Task.Factory.StartNew(() => Load(path, options, cancellation), cancellation, TaskCreationOptions.LongRunning,
                TaskScheduler.Default);
        }

        delegate int Opening(ref Params p, out IntPtr made, out IntPtr error);

        static Model Load(LoadOptions options, CancellationToken token, Opening open)
        {
            Library.Check();
            options = options ?? new LoadOptions();
            Exception thrown = null;
            ProgressCall progress = (_, fraction) =>
            {
                try
                {
                    return options.Progress(fraction) ? 1 : 0;
                }
                catch (Exception e) // must not cross the library: the load stops, then it is thrown
                {
                    thrown = e;
                    return 0;
                }
            };
            using (var cancel = new Cancellation(token))
            using (var block = new Block())
            {
                byte[] kernels = Utf8.Bytes(options.Kernels);
                var p = new Params
                {
                    Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(Params)), Flags = (uint)options.Flags, Kernels = block.Copy(kernels),
                    KernelsLen = Utf8.Length(kernels), Cancel = cancel.Pointer,
                    Progress = options.Progress == null ? IntPtr.Zero : Marshal.GetFunctionPointerForDelegate(progress),
                };
                IntPtr made, error;
                int status = open(ref p, out made, out error);
                GC.KeepAlive(progress);
                if (thrown != null)
                {
                    try { TernException.Check(status, error); } catch (TernException) { }
                    throw thrown;
                }
                cancel.Check(status, error);
                return new Model(made);
            }
        }

        /// <summary>Writes the packed form, which maps in milliseconds and opens on every CPU.</summary>
        public void Convert(string path, CancellationToken cancellation = default(CancellationToken))
        {
            using (var cancel = new Cancellation(cancellation))
            {
                var p = new ConvertParams { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(ConvertParams)), Cancel = cancel.Pointer };
                IntPtr error;
                int status = tern_model_convert(Handle, Utf8.Bytes(path), ref p, out error);
                cancel.Check(status, error);
            }
        }

        /// <summary>Sizes and special tokens.</summary>
        public ModelInfo Info
        {
            get
            {
                var info = new ModelInfo { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(ModelInfo)) };
                TernException.Check(tern_model_get_info(Handle, ref info));
                return info;
            }
        }

        /// <summary>One value of the file's metadata as text; NotFound if it has no such key.</summary>
        public string Meta(string key)
        {
            byte[] k = Utf8.Bytes(key ?? throw new ArgumentNullException(nameof(key)));
            return Utf8.Text((byte[] buf, UIntPtr cap, out UIntPtr n) => tern_model_meta_get(Handle, k, Utf8.Length(k), buf, cap, out n));
        }

        /// <summary>The Jinja template in use; NotFound if the model has none.</summary>
        public string ChatTemplate =>
            Utf8.Text((byte[] buf, UIntPtr cap, out UIntPtr n) => tern_model_chat_template(Handle, buf, cap, out n));

        /// <summary>Gives the model back. Contexts and sessions on it go on: they hold references of their own.</summary>
        public void Dispose() => Handle.Dispose();
    }
}
