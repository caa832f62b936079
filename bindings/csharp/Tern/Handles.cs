using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Tern
{
    // A SafeHandle counts the calls that use it: Dispose during one on another thread waits for its end, a second Dispose does
    // nothing, a call after it throws ObjectDisposedException, and a forgotten one is released by the collector.

    internal abstract class TernHandle : SafeHandle
    {
        protected TernHandle() : base(IntPtr.Zero, true) { }
        public override bool IsInvalid => handle == IntPtr.Zero;

        internal T Holding<T>(IntPtr reference) where T : TernHandle
        {
            SetHandle(reference);
            return (T)this;
        }
    }

    internal sealed class ModelHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_model_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_model_free(handle); return true; }
    }

    internal sealed class ContextHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_context_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_context_free(handle); return true; }
    }

    internal sealed class SamplerHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_sampler_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_sampler_free(handle); return true; }
    }

    internal sealed class GrammarHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_grammar_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_grammar_free(handle); return true; }
    }

    internal sealed class DetokHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_detok_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_detok_free(handle); return true; }
    }

    internal sealed class SessionHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_session_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_session_free(handle); return true; }
    }

    internal sealed class ThreadPoolHandle : TernHandle
    {
        [DllImport(Library.Name)] static extern void tern_threadpool_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_threadpool_free(handle); return true; }
    }

    internal sealed class CancelHandle : TernHandle
    {
        [DllImport(Library.Name)] internal static extern int tern_cancel_new(out IntPtr made);
        [DllImport(Library.Name)] internal static extern void tern_cancel_set(CancelHandle c);
        [DllImport(Library.Name)] static extern void tern_cancel_free(IntPtr p);
        protected override bool ReleaseHandle() { tern_cancel_free(handle); return true; }
    }

    /// <summary>The pointer of a handle that may be null, for a struct's field. Holds the handle until Dispose.</summary>
    internal struct Lease : IDisposable
    {
        readonly SafeHandle handle;
        internal readonly IntPtr Pointer;

        internal Lease(SafeHandle handle)
        {
            bool held = false;
            if (handle != null) handle.DangerousAddRef(ref held);
            this.handle = held ? handle : null;
            Pointer = held ? handle.DangerousGetHandle() : IntPtr.Zero;
        }

        public void Dispose()
        {
            if (handle != null) handle.DangerousRelease();
        }
    }

    /// <summary>A cancel token of the library that follows a CancellationToken.</summary>
    internal sealed class Cancellation : IDisposable
    {
        readonly CancellationToken token;
        readonly CancelHandle handle;
        readonly CancellationTokenRegistration registration;
        Lease lease;

        internal Cancellation(CancellationToken token)
        {
            Library.Check();
            this.token = token;
            if (!token.CanBeCanceled) return;
            IntPtr made;
            TernException.Check(CancelHandle.tern_cancel_new(out made));
            handle = new CancelHandle().Holding<CancelHandle>(made);
            lease = new Lease(handle);
            registration = token.Register(() => CancelHandle.tern_cancel_set(handle)); // at once, if it is set
        }

        internal IntPtr Pointer => lease.Pointer;

        /// <summary>Throws OperationCanceledException where the token was the cause.</summary>
        internal TernStatus Check(int status, IntPtr error)
        {
            try
            {
                return TernException.Check(status, error);
            }
            catch (TernException e) when (e.Status == TernStatus.Cancelled && token.IsCancellationRequested)
            {
                throw new OperationCanceledException(e.Message, e, token);
            }
        }

        internal TernStatus Check(int status) => Check(status, IntPtr.Zero);

        public void Dispose()
        {
            registration.Dispose(); // waits for a callback that runs
            lease.Dispose();
            lease = default(Lease);
            if (handle != null) handle.Dispose();
        }
    }
}
