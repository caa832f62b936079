import CTern

/// What may be said: compiled once, for any number of threads and sessions.
public final class Grammar: @unchecked Sendable {
    /// How a grammar is written.
    public enum Kind: Int32, Sendable {
        /// Any JSON; there is no source.
        case json = 0
        case jsonSchema = 1
        case regex = 2
        /// llama.cpp's form.
        case gbnf = 3
        /// A JSON array of strings.
        case choice = 4
        case lark = 5
    }

    let handle: OpaquePointer

    /// Compiles a grammar for the model's tokens.
    public init(_ model: Model, _ kind: Kind, _ source: String = "") throws {
        handle = try withExtendedLifetime(model) {
            try source.withUTF8Bytes { text, n in try made { tern_grammar_compile(model.handle, kind.rawValue, text, n, $0, $1) } }
        }
    }

    deinit { tern_grammar_free(handle) }
}

/// A chain of steps that ends in a choice; with none it takes the likeliest token. One thread at a time.
public final class Sampler {
    /// One step of the chain.
    public enum Step: Sendable {
        /// Keeps the k likeliest.
        case topK(Int)
        /// Keeps the likeliest that make up p.
        case topP(Float, minKeep: Int = 1)
        /// Keeps those at least p times as likely as the best.
        case minP(Float, minKeep: Int = 1)
        /// Keeps those of typical surprise that make up p.
        case typical(Float, minKeep: Int = 1)
        /// Keeps those within n standard deviations of the best.
        case topNSigma(Float)
        /// Now and then drops the likeliest above a threshold but one.
        case xtc(probability: Float, threshold: Float, minKeep: Int = 1)
        /// Temperature; 0 or less leaves the best.
        case temperature(Float)
        /// Temperature by entropy, from t - range to t + range.
        case dynamicTemperature(Float, range: Float, exponent: Float = 1)
        /// Holds the surprise at tau.
        case mirostatV2(tau: Float, eta: Float)
        /// Against repeating the last tokens.
        case penalties(last: Int, repeated: Float = 1, frequency: Float = 0, presence: Float = 0)
        /// Against repeating runs of tokens.
        case dry(multiplier: Float, base: Float = 1.75, allowedLength: Int = 2, last: Int = -1)
        /// Adds to the scores of tokens.
        case logitBias([Token: Float])
        /// Only what the grammar allows.
        case grammar(Grammar)
    }

    let handle: OpaquePointer

    /// A chain of steps, in this order.
    public init(seed: UInt64 = 0, _ steps: [Step] = []) throws {
        handle = try made { out, _ in tern_sampler_new(seed, out) }
        for step in steps { try check(add(step)) }
    }

    private init(owning handle: OpaquePointer) { self.handle = handle }

    deinit { tern_sampler_free(handle) }

    private func add(_ step: Step) -> tern_status {
        switch step {
        case .topK(let k): return tern_sampler_add_top_k(handle, Int32(k))
        case .topP(let p, let keep): return tern_sampler_add_top_p(handle, p, keep)
        case .minP(let p, let keep): return tern_sampler_add_min_p(handle, p, keep)
        case .typical(let p, let keep): return tern_sampler_add_typical(handle, p, keep)
        case .topNSigma(let n): return tern_sampler_add_top_n_sigma(handle, n)
        case .xtc(let probability, let threshold, let keep): return tern_sampler_add_xtc(handle, probability, threshold, keep)
        case .temperature(let t): return tern_sampler_add_temp(handle, t)
        case .dynamicTemperature(let t, let range, let exponent): return tern_sampler_add_temp_dynamic(handle, t, range, exponent)
        case .mirostatV2(let tau, let eta): return tern_sampler_add_mirostat_v2(handle, tau, eta)
        case .penalties(let last, let repeated, let frequency, let presence):
            return tern_sampler_add_penalties(handle, Int32(last), repeated, frequency, presence)
        case .dry(let multiplier, let base, let allowed, let last):
            return tern_sampler_add_dry(handle, multiplier, base, Int32(allowed), Int32(last))
        case .logitBias(let bias):
            let items = bias.map { tern_logit_bias(token: $0.key, bias: $0.value) }
            return tern_sampler_add_logit_bias(handle, items, MemoryLayout<tern_logit_bias>.stride, items.count)
        case .grammar(let grammar): return withExtendedLifetime(grammar) { tern_sampler_add_grammar(handle, grammar.handle) }
        }
    }

    /// A copy with its random state and history.
    public func clone() throws -> Sampler {
        Sampler(owning: try withExtendedLifetime(self) { try made { out, _ in tern_sampler_clone(handle, out) } })
    }

    /// Picks from row i of the last evaluation and remembers the choice.
    public func sample(_ context: Context, row i: Int = 0) throws -> Token {
        var token: Token = 0
        try check(withExtendedLifetime((self, context)) { tern_sampler_sample(handle, context.handle, i, &token) })
        return token
    }

    /// Picks from a row of the program's own.
    public func sample(logits: [Float]) throws -> Token {
        var token: Token = 0
        try check(withExtendedLifetime(self) { tern_sampler_sample_logits(handle, logits, logits.count, &token) })
        return token
    }

    /// Remembers a token chosen elsewhere.
    public func accept(_ token: Token) throws { try check(withExtendedLifetime(self) { tern_sampler_accept(handle, token) }) }

    /// History, grammar and seed as at first.
    public func reset() throws { try check(withExtendedLifetime(self) { tern_sampler_reset(handle) }) }
}
