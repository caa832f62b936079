import CTern

/// How a context is made; the defaults are the model's whole context and one sequence.
public struct ContextOptions: Sendable {
    /// Tokens a sequence; 0: what the model was trained with.
    public var tokens = 0
    /// Sequences; 0: one.
    public var sequences = 0
    /// Tokens evaluated at once, bounds scratch; 0: tern's choice.
    public var batch = 0
    /// Keys and values in 8 bits instead of 16.
    public var int8KV = false
    /// Makes `Context.embedding` work.
    public var embeddings = false
    /// An embedding is the mean instead of the last token.
    public var poolMean = false
    /// An approximate head.
    public var fastHead = false
    /// Cap on the pages held by all sequences, in bytes; 0: none.
    public var maximumKVBytes: UInt64 = 0
    /// nil: the model's own.
    public var threads: ThreadPool?

    public init() {}

    /// Gives the options to a call as C's struct.
    func withParams<R>(_ body: (UnsafePointer<tern_context_params>) throws -> R) rethrows -> R {
        var p = tern_context_params()
        tern_context_params_init(&p, MemoryLayout<tern_context_params>.size)
        (p.n_ctx, p.n_seq_max, p.n_batch) = (UInt32(tokens), UInt32(sequences), UInt32(batch))
        p.kv_type = Int32(int8KV ? TERN_KV_I8 : TERN_KV_F16)
        p.pooling = Int32(poolMean ? TERN_POOL_MEAN : TERN_POOL_LAST)
        p.flags = UInt32((embeddings ? TERN_CTX_EMBEDDINGS : 0) | (fastHead ? TERN_CTX_FAST_HEAD : 0))
        p.kv_bytes_max = maximumKVBytes
        p.threadpool = threads?.handle
        return try withExtendedLifetime(threads) { try body(&p) }
    }
}

/// For which tokens of an evaluation logits can be had.
public enum Rows: UInt32, Sendable {
    case last = 0
    case all = 1
    case none = 2
}

/// What moves: sequences of tokens, their keys and values. One thread at a time; a second one is told `.busy`.
public final class Context {
    let handle: OpaquePointer
    private let owner: AnyObject? // of a borrowed handle

    /// An empty context.
    public init(_ model: Model, options: ContextOptions = ContextOptions()) throws {
        handle = try withExtendedLifetime(model) {
            try options.withParams { params in try made { tern_context_new(model.handle, params, $0, $1) } }
        }
        owner = nil
    }

    /// A session's own context, which keeps the session alive.
    init(borrowed handle: OpaquePointer, from owner: AnyObject) {
        (self.handle, self.owner) = (handle, owner)
    }

    deinit { if owner == nil { tern_context_free(handle) } }

    private func call(_ body: () -> tern_status) throws {
        try check(withExtendedLifetime(self) { body() })
    }

    private func withOptions<R>(
        _ sequence: Int, _ rows: Rows, _ budget: UInt64, _ cancel: Cancel?, _ body: (UnsafePointer<tern_eval_options>) throws -> R
    ) rethrows -> R {
        var o = tern_eval_options()
        tern_eval_options_init(&o, MemoryLayout<tern_eval_options>.size)
        (o.seq, o.flags, o.budget_us, o.cancel) = (Int32(sequence), rows.rawValue, budget, cancel?.handle)
        return try withExtendedLifetime((self, cancel)) { try body(&o) }
    }

    /// Appends tokens to a sequence. Gives back how many: fewer when the budget is spent, then call again with the rest.
    /// Cancelled: throws; `length` says how many were appended.
    @discardableResult
    public func eval(
        _ tokens: [Token], sequence: Int = 0, rows: Rows = .last, budgetMicroseconds: UInt64 = 0, cancel: Cancel? = nil
    ) throws -> Int {
        var done = 0
        try withOptions(sequence, rows, budgetMicroseconds, cancel) {
            _ = try check(tern_eval(handle, tokens, tokens.count, $0, &done))
        }
        return done
    }

    /// One token of an evaluation over many sequences.
    public struct BatchItem: Sendable {
        public var token: Token
        public var sequence: Int
        public var wantsLogits: Bool

        public init(token: Token, sequence: Int, wantsLogits: Bool = false) {
            (self.token, self.sequence, self.wantsLogits) = (token, sequence, wantsLogits)
        }
    }

    /// Appends tokens to many sequences in one pass over the weights.
    @discardableResult
    public func evalBatch(_ items: [BatchItem], budgetMicroseconds: UInt64 = 0, cancel: Cancel? = nil) throws -> Int {
        let batch = items.map { tern_batch_item(token: $0.token, seq: Int32($0.sequence), want_logits: $0.wantsLogits ? 1 : 0) }
        var done = 0
        try withOptions(0, .last, budgetMicroseconds, cancel) {
            _ = try check(tern_eval_batch(handle, batch, MemoryLayout<tern_batch_item>.stride, batch.count, $0, &done))
        }
        return done
    }

    private func floats(
        _ call: (UnsafeMutablePointer<UnsafePointer<Float>?>, UnsafeMutablePointer<Int>) -> tern_status
    ) throws -> [Float] {
        try withExtendedLifetime(self) {
            var values: UnsafePointer<Float>?
            var n = 0
            try check(call(&values, &n))
            return Array(UnsafeBufferPointer(start: values, count: n)) // borrowed until the next call
        }
    }

    /// Copies row i of the last evaluation, counting the requested rows from 0.
    public func logits(_ i: Int = 0) throws -> [Float] { try floats { tern_logits(handle, i, $0, $1) } }

    /// Copies the pooled sequence, of length 1.
    public func embedding(sequence: Int = 0) throws -> [Float] { try floats { tern_embedding(handle, Int32(sequence), $0, $1) } }

    /// Log-probabilities of tokens as the continuation of a sequence, which stays as it was: one for each, or one fewer if the
    /// sequence is empty.
    public func score(_ tokens: [Token], sequence: Int = 0, cancel: Cancel? = nil) throws -> [Float] {
        var values = [Float](repeating: 0, count: tokens.count + 1)
        var used = 0
        try withOptions(sequence, .last, 0, cancel) {
            _ = try check(tern_score(handle, tokens, tokens.count, $0, &values, values.count, &used))
        }
        return Array(values[..<used])
    }

    /// Tokens in a sequence.
    public func length(sequence: Int = 0) throws -> Int {
        var n: UInt32 = 0
        try call { tern_seq_length(handle, Int32(sequence), &n) }
        return Int(n)
    }

    /// Drops the tokens of a sequence from `length` on.
    public func truncate(to length: Int, sequence: Int = 0) throws {
        try call { tern_seq_truncate(handle, Int32(sequence), UInt32(length)) }
    }

    /// Makes an empty sequence the same as another, at no cost.
    public func fork(from source: Int, to target: Int) throws { try call { tern_seq_fork(handle, Int32(source), Int32(target)) } }

    /// Empties a sequence.
    public func clear(sequence: Int = 0) throws { try call { tern_seq_clear(handle, Int32(sequence)) } }

    /// How many of these tokens a sequence begins with.
    public func commonPrefix(_ tokens: [Token], sequence: Int = 0) throws -> Int {
        var same = 0
        try call { tern_seq_common_prefix(handle, Int32(sequence), tokens, tokens.count, &same) }
        return same
    }

    /// A sequence as bytes.
    public func saveState(sequence: Int = 0) throws -> [UInt8] {
        try withExtendedLifetime(self) { try data { tern_seq_state_save(handle, Int32(sequence), $0, $1, $2) } }
    }

    /// Replaces a sequence with a saved one.
    public func loadState(_ bytes: [UInt8], sequence: Int = 0) throws {
        try call { tern_seq_state_load(handle, Int32(sequence), bytes, bytes.count) }
    }

    /// Writes a sequence to a file that any number of processes can map.
    public func savePrefix(to path: String, sequence: Int = 0) throws {
        try withExtendedLifetime(self) { _ = try checked { tern_seq_prefix_save(handle, Int32(sequence), path, $0) } }
    }

    /// Maps such a file into an empty sequence, with nothing to evaluate.
    public func mapPrefix(from path: String, sequence: Int = 0) throws {
        try withExtendedLifetime(self) { _ = try checked { tern_seq_prefix_map(handle, Int32(sequence), path, $0) } }
    }

    /// The k likeliest tokens of row i with their log-probabilities, best first.
    public func topLogprobs(_ k: Int, row i: Int = 0) throws -> [(token: Token, logprob: Float)] {
        var tokens = [Token](repeating: 0, count: k), values = [Float](repeating: 0, count: k), n = 0
        try call { tern_logprobs_top(handle, i, k, &tokens, &values, &n) }
        return zip(tokens[..<n], values[..<n]).map { ($0, $1) }
    }

    /// Which string continues a sequence, which stays as it was: its index, and the probabilities of all, which sum to 1.
    public func choose(_ choices: [String], sequence: Int = 0, cancel: Cancel? = nil) throws -> (index: Int, probabilities: [Float]) {
        var index = 0
        var probabilities = [Float](repeating: 0, count: choices.count)
        try withStrings(choices) { pointers, lens in
            try withOptions(sequence, .last, 0, cancel) {
                _ = try check(tern_choose(handle, pointers, lens, choices.count, $0, &index, &probabilities))
            }
        }
        return (index, probabilities)
    }

    /// Frees scratch memory, and with `kv` the pages too, which the next evaluation computes again. The bytes freed.
    @discardableResult
    public func trim(kv: Bool = false) throws -> UInt64 {
        var freed: UInt64 = 0
        try call { tern_context_trim(handle, Int32(kv ? TERN_TRIM_KV : TERN_TRIM_SCRATCH), &freed) }
        return freed
    }
}
