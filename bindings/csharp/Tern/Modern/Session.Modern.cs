// For .NET 8 and later. The machine this project is tested on has no .NET SDK, so this file alone has never been compiled:
// docs/bindings.md says so too. Everything in it has a counterpart in Session.cs that is compiled and tested.
#if NET8_0_OR_GREATER
using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;

namespace Tern
{
    public sealed partial class Session
    {
        [LibraryImport(Library.Name)]
        private static partial int tern_session_next(SessionHandle s, ulong budgetUs, ref NativeChunk chunk);

        /// <summary>Streams the answer in pieces of whole characters, computed on a thread of its own. Leaving the loop ends the
        /// answer; what was said stays in the transcript.</summary>
        public async IAsyncEnumerable<string> AskAsync(string text, GenerateOptions options = null,
            [EnumeratorCancellation] CancellationToken cancellation = default)
        {
            using var left = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            var pieces = Channel.CreateUnbounded<string>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
            Task work = Task.Factory.StartNew(() =>
            {
                try
                {
                    foreach (string piece in Ask(text, options, left.Token)) pieces.Writer.TryWrite(piece);
                    pieces.Writer.Complete();
                }
                catch (Exception e)
                {
                    pieces.Writer.Complete(e);
                }
            }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            try
            {
                await foreach (string piece in pieces.Reader.ReadAllAsync(CancellationToken.None)) yield return piece;
            }
            finally
            {
                left.Cancel();
                await work; // the session is the caller's again only when the thread has left it
            }
        }

        /// <summary>The same with the usual options.</summary>
        public IAsyncEnumerable<string> AskAsync(string text, CancellationToken cancellation) => AskAsync(text, null, cancellation);
    }
}
#endif
