using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Tern
{
    /// <summary>One turn of a conversation.</summary>
    public struct Message
    {
        /// <summary>"system", "user" or "assistant".</summary>
        public string Role { get; }
        /// <summary>What was said.</summary>
        public string Content { get; }

        /// <summary>A turn.</summary>
        public Message(string role, string content)
        {
            Role = role;
            Content = content;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Native
        {
            internal IntPtr Role;
            internal UIntPtr RoleLen;
            internal IntPtr Content;
            internal UIntPtr ContentLen;
        }

        internal static readonly UIntPtr NativeSize = (UIntPtr)(uint)Marshal.SizeOf(typeof(Native));

        internal static Native[] Copy(IReadOnlyList<Message> messages, Block block)
        {
            var array = new Native[messages.Count + 1]; // never empty
            for (int i = 0; i < messages.Count; i++)
            {
                byte[] role = Utf8.Bytes(messages[i].Role), content = Utf8.Bytes(messages[i].Content);
                array[i] = new Native { Role = block.Copy(role), RoleLen = Utf8.Length(role), Content = block.Copy(content),
                    ContentLen = Utf8.Length(content) };
            }
            return array;
        }
    }

    public sealed partial class Model
    {
        [StructLayout(LayoutKind.Sequential)]
        struct ChatOptions
        {
            internal UIntPtr Size;
            internal uint Flags;
            internal IntPtr ChatTemplate;
            internal UIntPtr ChatTemplateLen;
        }

        [DllImport(Library.Name)] static extern int tern_tokenize(ModelHandle m, byte[] text, UIntPtr len, uint flags, [Out] int[] buf,
            UIntPtr cap, out UIntPtr outN);
        [DllImport(Library.Name)] static extern int tern_detokenize(ModelHandle m, int[] tokens, UIntPtr n, uint flags, byte[] buf,
            UIntPtr cap, out UIntPtr outLen);
        [DllImport(Library.Name)] static extern int tern_token_to_piece(ModelHandle m, int token, uint flags, byte[] buf, UIntPtr cap,
            out UIntPtr outLen);
        [DllImport(Library.Name)] static extern int tern_token_is_eog(ModelHandle m, int token, out int isEog);
        [DllImport(Library.Name)] static extern int tern_token_is_control(ModelHandle m, int token, out int isControl);
        [DllImport(Library.Name)] static extern int tern_chat_apply_template(ModelHandle m, Message.Native[] messages, UIntPtr itemSize,
            UIntPtr n, ref ChatOptions o, byte[] buf, UIntPtr cap, out UIntPtr outLen, out IntPtr error);

        /// <summary>Text to tokens. `special` adds what the model wants at the start; `parseSpecial` takes markers in the text for
        /// tokens: never for a stranger's text.</summary>
        public int[] Tokenize(string text, bool special = true, bool parseSpecial = false)
        {
            byte[] bytes = Utf8.Bytes(text ?? throw new ArgumentNullException(nameof(text)));
            uint flags = (special ? 1u : 0) | (parseSpecial ? 2u : 0);
            UIntPtr n;
            TernException.Check(tern_tokenize(Handle, bytes, Utf8.Length(bytes), flags, null, UIntPtr.Zero, out n));
            var tokens = new int[(int)n];
            if (tokens.Length > 0)
                TernException.Check(tern_tokenize(Handle, bytes, Utf8.Length(bytes), flags, tokens, n, out n));
            return tokens;
        }

        /// <summary>Tokens to text; a torn character becomes U+FFFD.</summary>
        public string Detokenize(int[] tokens, bool removeSpecial = false, bool renderSpecial = false)
        {
            uint flags = (removeSpecial ? 1u : 0) | (renderSpecial ? 2u : 0);
            int[] items = tokens.Length > 0 ? tokens : new int[1];
            return Utf8.Text((byte[] buf, UIntPtr cap, out UIntPtr n) =>
                tern_detokenize(Handle, items, (UIntPtr)(uint)tokens.Length, flags, buf, cap, out n));
        }

        /// <summary>The bytes of one token, which may be a part of a character.</summary>
        public byte[] Piece(int token, bool renderSpecial = false)
        {
            return Utf8.Data((byte[] buf, UIntPtr cap, out UIntPtr n) =>
                tern_token_to_piece(Handle, token, renderSpecial ? 2u : 0, buf, cap, out n));
        }

        /// <summary>Whether a token ends a generation.</summary>
        public bool IsEog(int token)
        {
            int answer;
            TernException.Check(tern_token_is_eog(Handle, token, out answer));
            return answer != 0;
        }

        /// <summary>Whether a token is a marker rather than text.</summary>
        public bool IsControl(int token)
        {
            int answer;
            TernException.Check(tern_token_is_control(Handle, token, out answer));
            return answer != 0;
        }

        /// <summary>Messages as the text the model reads, up to where its answer begins.</summary>
        public string ApplyChatTemplate(IReadOnlyList<Message> messages, string chatTemplate = null, bool addGenerationPrompt = true)
        {
            using (var block = new Block())
            {
                byte[] template = Utf8.Bytes(chatTemplate);
                var options = new ChatOptions { Size = (UIntPtr)(uint)Marshal.SizeOf(typeof(ChatOptions)),
                    Flags = addGenerationPrompt ? 1u : 0, ChatTemplate = block.Copy(template), ChatTemplateLen = Utf8.Length(template) };
                Message.Native[] array = Message.Copy(messages, block);
                return Utf8.Text((byte[] buf, UIntPtr cap, out UIntPtr n) =>
                {
                    IntPtr error;
                    int status = tern_chat_apply_template(Handle, array, Message.NativeSize, (UIntPtr)(uint)messages.Count, ref options,
                        buf, cap, out n, out error);
                    TernException.Check(status, error);
                    return status;
                });
            }
        }
    }

    /// <summary>Tokens to whole characters, as they come. One thread at a time.</summary>
    public sealed class Detok : IDisposable
    {
        [DllImport(Library.Name)] static extern int tern_detok_new(ModelHandle m, uint flags, out IntPtr made);
        [DllImport(Library.Name)] static extern int tern_detok_push(DetokHandle d, int token, out IntPtr utf8, out UIntPtr len);
        [DllImport(Library.Name)] static extern int tern_detok_finish(DetokHandle d, out IntPtr utf8, out UIntPtr len);

        readonly DetokHandle handle;

        /// <summary>A decoder for the model's tokens.</summary>
        public Detok(Model model, bool renderSpecial = false)
        {
            IntPtr made;
            TernException.Check(tern_detok_new(model.Handle, renderSpecial ? 2u : 0, out made));
            handle = new DetokHandle().Holding<DetokHandle>(made);
        }

        /// <summary>The text that this token completes, often none.</summary>
        public string Push(int token)
        {
            using (var held = new Lease(handle)) // the text is the handle's until it is copied
            {
                IntPtr utf8;
                UIntPtr n;
                TernException.Check(tern_detok_push(handle, token, out utf8, out n));
                return Utf8.Borrowed(utf8, n);
            }
        }

        /// <summary>What is left, with U+FFFD for a torn end.</summary>
        public string Finish()
        {
            using (var held = new Lease(handle))
            {
                IntPtr utf8;
                UIntPtr n;
                TernException.Check(tern_detok_finish(handle, out utf8, out n));
                return Utf8.Borrowed(utf8, n);
            }
        }

        /// <summary>Gives the decoder back.</summary>
        public void Dispose() => handle.Dispose();
    }
}
