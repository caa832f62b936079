import CTern

/// How one answer is made, in the words of Apple's FoundationModels. The defaults are the model's recommended sampling, to the end
/// of the context.
public struct GenerationOptions: Sendable {
    /// How the next token is chosen. Without a seed each answer has one of its own.
    public struct SamplingMode: Sendable {
        let steps: [Sampler.Step]
        let seed: UInt64?

        /// Always the likeliest.
        public static let greedy = SamplingMode(steps: [.topK(1)], seed: 0)

        /// One of the k likeliest, by chance.
        public static func random(top k: Int, seed: UInt64? = nil) -> SamplingMode { SamplingMode(steps: [.topK(k)], seed: seed) }

        /// One of the likeliest that make up a probability, by chance.
        public static func random(probabilityThreshold p: Float, seed: UInt64? = nil) -> SamplingMode {
            SamplingMode(steps: [.topP(p)], seed: seed)
        }

        /// A chain of steps.
        public static func chain(_ steps: [Sampler.Step], seed: UInt64? = nil) -> SamplingMode { SamplingMode(steps: steps, seed: seed) }
    }

    /// nil: the model's recommended chain, unless a temperature is set.
    public var sampling: SamplingMode?
    /// Applied after the mode's own step.
    public var temperature: Float?
    /// nil: to the end of the context.
    public var maximumResponseTokens: Int?
    /// Each ends the answer and is never shown, not even in part.
    public var stop: [String] = []
    /// Drafts from the prompt: the same text, sooner.
    public var promptLookup = false

    public init(sampling: SamplingMode? = nil, temperature: Float? = nil, maximumResponseTokens: Int? = nil) {
        (self.sampling, self.temperature, self.maximumResponseTokens) = (sampling, temperature, maximumResponseTokens)
    }

    /// nil stands for the model's recommended chain.
    private func sampler() throws -> Sampler? {
        if sampling == nil && temperature == nil { return nil }
        let heat = temperature.map { [Sampler.Step.temperature($0)] } ?? []
        return try Sampler(seed: sampling?.seed ?? .random(in: .min ... .max), (sampling?.steps ?? []) + heat)
    }

    /// Gives the options to a call as C's struct.
    func withC<R>(_ grammar: Grammar?, _ cancel: Cancel?, _ body: (UnsafePointer<tern_generate_options>) throws -> R) throws -> R {
        let sampler = try sampler()
        return try withExtendedLifetime((sampler, grammar, cancel)) {
            try withStrings(stop) { pointers, lens in
                var o = tern_generate_options()
                tern_generate_options_init(&o, MemoryLayout<tern_generate_options>.size)
                o.max_tokens = UInt32(maximumResponseTokens ?? 0)
                o.draft = Int32(promptLookup ? TERN_DRAFT_PROMPT_LOOKUP : TERN_DRAFT_NONE)
                (o.stop, o.stop_lens, o.n_stop) = (pointers, lens, stop.count)
                (o.sampler, o.grammar, o.cancel) = (sampler?.handle, grammar?.handle, cancel?.handle)
                return try body(&o)
            }
        }
    }
}
