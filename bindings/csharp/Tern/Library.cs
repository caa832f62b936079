using System;
using System.Runtime.InteropServices;
using System.Text;

[assembly: System.Runtime.CompilerServices.InternalsVisibleTo("Tern.Tests")]

namespace Tern
{
    /// <summary>The shared library: its version, its system, and the log.</summary>
    public static class Library
    {
#if UNITY_IOS && !UNITY_EDITOR
        internal const string Name = "__Internal"; // linked into the program
#else
        internal const string Name = "tern"; // tern.dll, libtern.so, libtern.dylib
#endif
        internal static readonly int Major = 0, Minor = 1; // of the header this assembly was written for

        [DllImport(Library.Name)] static extern uint tern_version_number();
        [DllImport(Library.Name)] static extern IntPtr tern_version_string();
        [DllImport(Library.Name)] static extern int tern_system_info(byte[] buf, UIntPtr cap, out UIntPtr outLen);
        [DllImport(Library.Name)] static extern int tern_self_test(out IntPtr outError);

        static bool versionIsRight;

        /// <summary>Throws unless the library that was found has the ABI of this assembly. Every handle's maker calls it.</summary>
        internal static void Check()
        {
            if (versionIsRight) return;
            CheckVersion(tern_version_number());
            versionIsRight = true;
        }

        /// <summary>While the major is 0 a minor may break; from 1 on only the major does, and newer minors are fine.</summary>
        internal static void CheckVersion(uint number)
        {
            uint major = number / 1000000, minor = number / 1000 % 1000;
            bool right = major == Major && (Major == 0 ? minor == Minor : minor >= Minor);
            if (!right)
                throw new DllNotFoundException("the tern library is " + major + "." + minor + ", this assembly is for " + Major + "." + Minor);
        }

        /// <summary>The version of the library, "0.1.0".</summary>
        public static string Version => Utf8.FromStatic(tern_version_string());

        /// <summary>CPU, kernel tables and build, as JSON.</summary>
        public static string SystemInfo => Utf8.Text(tern_system_info);

        /// <summary>How much a log line matters.</summary>
        public enum LogLevel
        {
            /// <summary>For those who work on tern.</summary>
            Debug = 0,
            /// <summary>What happens.</summary>
            Info = 1,
            /// <summary>What may surprise.</summary>
            Warn = 2,
            /// <summary>What went wrong.</summary>
            Error = 3,
        }

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        delegate void LogCall(IntPtr userData, int level, IntPtr utf8, UIntPtr len);

        [DllImport(Library.Name)] static extern void tern_log_set(IntPtr fn, IntPtr userData, int minLevel);

        static readonly object logLock = new object();
        static LogCall log; // the library's while it is set

        /// <summary>Calls `line` for each log line of the library, on any thread; null turns it off. The library is silent unless it
        /// is set. Not to be called from within `line`, which must not throw.</summary>
        public static void SetLog(Action<LogLevel, string> line, LogLevel least = LogLevel.Info)
        {
            lock (logLock)
            {
                tern_log_set(IntPtr.Zero, IntPtr.Zero, 0); // waits for calls that run
                log = line == null ? null : new LogCall((_, level, utf8, len) => line((LogLevel)level, Utf8.Borrowed(utf8, len)));
                if (log != null) tern_log_set(Marshal.GetFunctionPointerForDelegate(log), IntPtr.Zero, (int)least);
            }
        }

        /// <summary>Checks every kernel table this CPU can run against the scalar one.</summary>
        public static void SelfTest()
        {
            IntPtr error;
            TernException.Check(tern_self_test(out error), error);
        }
    }

    /// <summary>Threads that contexts share.</summary>
    public sealed class TernThreadPool : IDisposable
    {
        [StructLayout(LayoutKind.Sequential)]
        struct Params
        {
            internal UIntPtr Size;
            internal uint NThreads;
            internal int Qos, SpinUs;
            internal IntPtr Cpus;
            internal UIntPtr NCpus;
            internal IntPtr ParallelFor, ParallelForUserData;
        }

        [DllImport(Library.Name)] static extern int tern_threadpool_new(ref Params p, out IntPtr made);

        internal readonly ThreadPoolHandle Handle;

        /// <summary>Starts threads; 0 is the number of performance cores.</summary>
        public TernThreadPool(int threads = 0)
        {
            Library.Check();
            var p = new Params { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(Params)), NThreads = (uint)threads };
            IntPtr made;
            TernException.Check(tern_threadpool_new(ref p, out made));
            Handle = new ThreadPoolHandle().Holding<ThreadPoolHandle>(made);
        }

        /// <summary>Gives the pool back. Its threads end with the last context on it.</summary>
        public void Dispose() => Handle.Dispose();
    }

    /// <summary>A call that writes text: for its size with no buffer, then for its bytes.</summary>
    internal delegate int TextCall(byte[] buffer, UIntPtr capacity, out UIntPtr length);

    /// <summary>Text and data across the border. The library speaks UTF-8 with lengths, never the system's code page.</summary>
    internal static class Utf8
    {
        static readonly UTF8Encoding Encoding = new UTF8Encoding(false);

        /// <summary>The bytes of a string and a NUL, which `Length` does not count; null for null.</summary>
        internal static byte[] Bytes(string text)
        {
            if (text == null) return null;
            var bytes = new byte[Encoding.GetByteCount(text) + 1];
            Encoding.GetBytes(text, 0, text.Length, bytes, 0);
            return bytes;
        }

        internal static UIntPtr Length(byte[] bytes) => (UIntPtr)(uint)(bytes == null ? 0 : bytes.Length - 1);

        internal static string Text(TextCall call)
        {
            byte[] data = Data(call);
            return Encoding.GetString(data, 0, data.Length);
        }

        internal static byte[] Data(TextCall call)
        {
            UIntPtr length;
            TernException.Check(call(null, UIntPtr.Zero, out length));
            var buffer = new byte[(int)length + 1]; // room for a NUL
            TernException.Check(call(buffer, (UIntPtr)(uint)buffer.Length, out length));
            Array.Resize(ref buffer, (int)length);
            return buffer;
        }

        /// <summary>Copies borrowed text.</summary>
        internal static string Borrowed(IntPtr utf8, UIntPtr length)
        {
            if (length == UIntPtr.Zero) return "";
            var bytes = new byte[(int)length];
            Marshal.Copy(utf8, bytes, 0, bytes.Length);
            return Encoding.GetString(bytes);
        }

        /// <summary>Copies a NUL-terminated text.</summary>
        internal static string FromStatic(IntPtr utf8)
        {
            if (utf8 == IntPtr.Zero) return "";
            int length = 0;
            while (Marshal.ReadByte(utf8, length) != 0) length++;
            return Borrowed(utf8, (UIntPtr)(uint)length);
        }
    }

    /// <summary>Memory of the C heap for what structs point to: a collector moves arrays. Freed with Dispose.</summary>
    internal sealed class Block : IDisposable
    {
        readonly System.Collections.Generic.List<IntPtr> blocks = new System.Collections.Generic.List<IntPtr>();

        internal IntPtr Copy(byte[] bytes)
        {
            if (bytes == null) return IntPtr.Zero;
            IntPtr p = Allocate(bytes.Length);
            Marshal.Copy(bytes, 0, p, bytes.Length);
            return p;
        }

        internal IntPtr Copy<T>(T value) where T : struct
        {
            IntPtr p = Allocate(Marshal.SizeOf(typeof(T)));
            Marshal.StructureToPtr(value, p, false);
            return p;
        }

        internal IntPtr Copy(IntPtr[] values)
        {
            IntPtr p = Allocate(Math.Max(1, values.Length) * IntPtr.Size);
            Marshal.Copy(values, 0, p, values.Length);
            return p;
        }

        IntPtr Allocate(int size)
        {
            IntPtr p = Marshal.AllocHGlobal(Math.Max(1, size));
            blocks.Add(p);
            return p;
        }

        public void Dispose()
        {
            foreach (IntPtr p in blocks) Marshal.FreeHGlobal(p);
            blocks.Clear();
        }
    }
}
