using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Tern
{
    /// <summary>How a grammar is written.</summary>
    public enum GrammarKind
    {
        /// <summary>Any JSON; there is no source.</summary>
        Json = 0,
        /// <summary>A JSON schema.</summary>
        JsonSchema = 1,
        /// <summary>A regular expression.</summary>
        Regex = 2,
        /// <summary>llama.cpp's grammar form.</summary>
        Gbnf = 3,
        /// <summary>A JSON array of strings.</summary>
        Choice = 4,
        /// <summary>A Lark grammar.</summary>
        Lark = 5,
    }

    /// <summary>What may be said: compiled once, for any number of threads and sessions.</summary>
    public sealed class Grammar : IDisposable
    {
        [DllImport(Library.Name)] static extern int tern_grammar_compile(ModelHandle m, int kind, byte[] src, UIntPtr len, out IntPtr made,
            out IntPtr error);

        internal readonly GrammarHandle Handle;

        /// <summary>Compiles a grammar for the model's tokens.</summary>
        public Grammar(Model model, GrammarKind kind, string source = "")
        {
            byte[] text = Utf8.Bytes(source);
            IntPtr made, error;
            TernException.Check(tern_grammar_compile(model.Handle, (int)kind, text, Utf8.Length(text), out made, out error), error);
            Handle = new GrammarHandle().Holding<GrammarHandle>(made);
        }

        /// <summary>Gives the grammar back.</summary>
        public void Dispose() => Handle.Dispose();
    }

    /// <summary>A chain of steps that ends in a choice; with none it takes the likeliest token. One thread at a time.</summary>
    public sealed class Sampler : IDisposable
    {
        [StructLayout(LayoutKind.Sequential)]
        struct LogitBiasItem
        {
            internal int Token;
            internal float Bias;
        }

        [DllImport(Library.Name)] static extern int tern_sampler_new(ulong seed, out IntPtr made);
        [DllImport(Library.Name)] static extern int tern_sampler_clone(SamplerHandle s, out IntPtr made);
        [DllImport(Library.Name)] static extern int tern_sampler_add_logit_bias(SamplerHandle s, LogitBiasItem[] b, UIntPtr itemSize, UIntPtr n);
        [DllImport(Library.Name)] static extern int tern_sampler_add_penalties(SamplerHandle s, int lastN, float repeat, float freq, float present);
        [DllImport(Library.Name)] static extern int tern_sampler_add_dry(SamplerHandle s, float multiplier, float b, int allowedLength, int lastN);
        [DllImport(Library.Name)] static extern int tern_sampler_add_top_k(SamplerHandle s, int k);
        [DllImport(Library.Name)] static extern int tern_sampler_add_top_p(SamplerHandle s, float p, UIntPtr minKeep);
        [DllImport(Library.Name)] static extern int tern_sampler_add_min_p(SamplerHandle s, float p, UIntPtr minKeep);
        [DllImport(Library.Name)] static extern int tern_sampler_add_typical(SamplerHandle s, float p, UIntPtr minKeep);
        [DllImport(Library.Name)] static extern int tern_sampler_add_top_n_sigma(SamplerHandle s, float n);
        [DllImport(Library.Name)] static extern int tern_sampler_add_xtc(SamplerHandle s, float probability, float threshold, UIntPtr minKeep);
        [DllImport(Library.Name)] static extern int tern_sampler_add_temp(SamplerHandle s, float t);
        [DllImport(Library.Name)] static extern int tern_sampler_add_temp_dynamic(SamplerHandle s, float t, float range, float exponent);
        [DllImport(Library.Name)] static extern int tern_sampler_add_mirostat_v2(SamplerHandle s, float tau, float eta);
        [DllImport(Library.Name)] static extern int tern_sampler_add_grammar(SamplerHandle s, GrammarHandle g);
        [DllImport(Library.Name)] static extern int tern_sampler_sample(SamplerHandle s, ContextHandle c, UIntPtr i, out int token);
        [DllImport(Library.Name)] static extern int tern_sampler_sample_logits(SamplerHandle s, float[] logits, UIntPtr n, out int token);
        [DllImport(Library.Name)] static extern int tern_sampler_accept(SamplerHandle s, int token);
        [DllImport(Library.Name)] static extern int tern_sampler_reset(SamplerHandle s);

        internal readonly SamplerHandle Handle;

        /// <summary>An empty chain: greedy.</summary>
        public Sampler(ulong seed = 0)
        {
            Library.Check();
            IntPtr made;
            TernException.Check(tern_sampler_new(seed, out made));
            Handle = new SamplerHandle().Holding<SamplerHandle>(made);
        }

        Sampler(IntPtr reference)
        {
            Handle = new SamplerHandle().Holding<SamplerHandle>(reference);
        }

        Sampler After(int status)
        {
            TernException.Check(status);
            return this;
        }

        /// <summary>Adds to the scores of tokens.</summary>
        public Sampler LogitBias(IReadOnlyDictionary<int, float> bias)
        {
            var items = new List<LogitBiasItem>();
            foreach (KeyValuePair<int, float> pair in bias) items.Add(new LogitBiasItem { Token = pair.Key, Bias = pair.Value });
            var size = (UIntPtr)(uint)Marshal.SizeOf(typeof(LogitBiasItem));
            LogitBiasItem[] array = items.Count > 0 ? items.ToArray() : new LogitBiasItem[1];
            return After(tern_sampler_add_logit_bias(Handle, array, size, (UIntPtr)(uint)items.Count));
        }

        /// <summary>Against repeating the last tokens.</summary>
        public Sampler Penalties(int lastN, float repeat = 1, float freq = 0, float present = 0) =>
            After(tern_sampler_add_penalties(Handle, lastN, repeat, freq, present));

        /// <summary>Against repeating runs of tokens.</summary>
        public Sampler Dry(float multiplier, float @base = 1.75f, int allowedLength = 2, int lastN = -1) =>
            After(tern_sampler_add_dry(Handle, multiplier, @base, allowedLength, lastN));

        /// <summary>Keeps the k likeliest.</summary>
        public Sampler TopK(int k) => After(tern_sampler_add_top_k(Handle, k));

        /// <summary>Keeps the likeliest that make up p.</summary>
        public Sampler TopP(float p, int minKeep = 1) => After(tern_sampler_add_top_p(Handle, p, (UIntPtr)(uint)minKeep));

        /// <summary>Keeps those at least p times as likely as the best.</summary>
        public Sampler MinP(float p, int minKeep = 1) => After(tern_sampler_add_min_p(Handle, p, (UIntPtr)(uint)minKeep));

        /// <summary>Keeps those of typical surprise that make up p.</summary>
        public Sampler Typical(float p, int minKeep = 1) => After(tern_sampler_add_typical(Handle, p, (UIntPtr)(uint)minKeep));

        /// <summary>Keeps those within n standard deviations of the best.</summary>
        public Sampler TopNSigma(float n) => After(tern_sampler_add_top_n_sigma(Handle, n));

        /// <summary>Now and then drops the likeliest above a threshold but one.</summary>
        public Sampler Xtc(float probability, float threshold, int minKeep = 1) =>
            After(tern_sampler_add_xtc(Handle, probability, threshold, (UIntPtr)(uint)minKeep));

        /// <summary>Temperature; 0 or less leaves the best.</summary>
        public Sampler Temp(float t) => After(tern_sampler_add_temp(Handle, t));

        /// <summary>Temperature by entropy, t - range to t + range.</summary>
        public Sampler TempDynamic(float t, float range, float exponent = 1) => After(tern_sampler_add_temp_dynamic(Handle, t, range, exponent));

        /// <summary>Holds the surprise at tau.</summary>
        public Sampler MirostatV2(float tau = 5, float eta = 0.1f) => After(tern_sampler_add_mirostat_v2(Handle, tau, eta));

        /// <summary>Only what the grammar allows.</summary>
        public Sampler Constrain(Grammar grammar) => After(tern_sampler_add_grammar(Handle, grammar.Handle));

        /// <summary>A copy with its random state and history.</summary>
        public Sampler Clone()
        {
            IntPtr made;
            TernException.Check(tern_sampler_clone(Handle, out made));
            return new Sampler(made);
        }

        /// <summary>Picks from row i of the last evaluation and remembers the choice.</summary>
        public int Sample(Context context, int i = 0)
        {
            int token;
            TernException.Check(tern_sampler_sample(Handle, context.Handle, (UIntPtr)(uint)i, out token));
            return token;
        }

        /// <summary>Picks from a row of the program's own.</summary>
        public int SampleLogits(float[] logits)
        {
            int token;
            TernException.Check(tern_sampler_sample_logits(Handle, logits, (UIntPtr)(uint)logits.Length, out token));
            return token;
        }

        /// <summary>Remembers a token chosen elsewhere.</summary>
        public void Accept(int token) => TernException.Check(tern_sampler_accept(Handle, token));

        /// <summary>History, grammar and seed as at first.</summary>
        public void Reset() => TernException.Check(tern_sampler_reset(Handle));

        /// <summary>Gives the sampler back.</summary>
        public void Dispose() => Handle.Dispose();
    }
}
