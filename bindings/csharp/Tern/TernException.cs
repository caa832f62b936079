using System;
using System.Runtime.InteropServices;

namespace Tern
{
    /// <summary>What a call of the library answered: 0 done, above it conditions, below it errors.</summary>
    public enum TernStatus
    {
        /// <summary>Done.</summary>
        Ok = 0,
        /// <summary>The end of a generation.</summary>
        Done = 1,
        /// <summary>The time budget is spent: call again.</summary>
        Pending = 2,
        /// <summary>A value outside the contract.</summary>
        InvalidArgument = -1,
        /// <summary>No memory; nothing was changed.</summary>
        OutOfMemory = -2,
        /// <summary>The system refused a file.</summary>
        Io = -3,
        /// <summary>Truncated or corrupt.</summary>
        BadModel = -4,
        /// <summary>Well formed, but not a model tern runs.</summary>
        UnsupportedModel = -5,
        /// <summary>An option that this build, system or version lacks.</summary>
        Unsupported = -6,
        /// <summary>Never seen through this assembly.</summary>
        BufferTooSmall = -7,
        /// <summary>The context is full; nothing was changed.</summary>
        ContextFull = -8,
        /// <summary>Cancelled; what was done is whole.</summary>
        Cancelled = -9,
        /// <summary>The handle is in use on another thread.</summary>
        Busy = -10,
        /// <summary>A grammar does not compile, or leaves nothing to say.</summary>
        Grammar = -11,
        /// <summary>Saved by another model or version.</summary>
        StateMismatch = -12,
        /// <summary>A bug in tern; the handle is poisoned.</summary>
        Panic = -13,
        /// <summary>After a panic: only Dispose works.</summary>
        Poisoned = -14,
        /// <summary>The right call at the wrong moment.</summary>
        InvalidState = -15,
        /// <summary>No such key or index.</summary>
        NotFound = -16,
    }

    /// <summary>A call failed: the status, and the library's words, which name the file, the place and the remedy.</summary>
    public sealed class TernException : Exception
    {
        [DllImport(Library.Name)] static extern IntPtr tern_status_name(int s);
        [DllImport(Library.Name)] static extern IntPtr tern_error_message(IntPtr e);
        [DllImport(Library.Name)] static extern void tern_error_free(IntPtr e);

        /// <summary>What the call answered.</summary>
        public TernStatus Status { get; }

        /// <summary>How many tokens an evaluation had appended when it was cancelled.</summary>
        public int Appended { get; internal set; }

        internal TernException(TernStatus status, string message) : base(message)
        {
            Status = status;
        }

        /// <summary>The status by its name in the C header, "TERN_ERR_IO".</summary>
        public static string NameOf(TernStatus status) => Utf8.FromStatic(tern_status_name((int)status));

        /// <summary>Throws for an error; gives back Ok, Done and Pending.</summary>
        internal static TernStatus Check(int status) => Check(status, IntPtr.Zero);

        /// <summary>The same for calls that explain themselves; takes over the error object.</summary>
        internal static TernStatus Check(int status, IntPtr error)
        {
            if (status >= 0) return (TernStatus)status;
            string message = Utf8.FromStatic(tern_error_message(error));
            tern_error_free(error);
            throw new TernException((TernStatus)status, message.Length > 0 ? message : NameOf((TernStatus)status));
        }
    }
}
