import CTern
import Foundation

/// How a session is made; the defaults are what most programs want.
public struct SessionOptions: Sendable {
    /// What happens when a conversation outgrows its context.
    public enum OnFull: Int32, Sendable {
        /// The answer ends.
        case error = 0
        /// The oldest turns go, instructions stay.
        case dropTurns = 1
        /// The first tokens stay; outside the determinism contract.
        case shift = 2
    }

    /// Jinja; nil: the model's.
    public var chatTemplate: String?
    public var onFull = OnFull.error
    /// Shift: first tokens kept; 0: the instructions.
    public var keep = 0
    public var context = ContextOptions()

    public init() {}
}

/// A conversation with a model, in the words of Apple's FoundationModels.
///
/// The session answers one request at a time, in the order they were made; the others wait. The work is done on a
/// thread of the session's own, never on Swift's. Cancelling a task, or dropping a stream, ends its answer within one layer of the
/// network; what was said stays in the transcript.
public final class LanguageModelSession: @unchecked Sendable {
    // nil only where the initialiser that cannot throw failed: then every use throws why.
    private let made: Result<SendableHandle, TernError>
    private let queue = DispatchQueue(label: "tern.session")

    private init(owning handle: OpaquePointer) { made = .success(SendableHandle(handle)) }

    /// A conversation that follows these instructions. It cannot fail at once: what is wrong is thrown by the first request.
    public init(model: Model, instructions: String? = nil, options: SessionOptions = SessionOptions()) {
        made = Self.make(options) { params in
            try instructions.withUTF8Bytes { text, n in
                (params.instructions, params.instructions_len) = (text, n)
                return try withExtendedLifetime(model) { try Tern.made { tern_session_new(model.handle, &params, $0, $1) } }
            }
        }
    }

    /// The conversation that `save` wrote. Instructions and template are the saved ones.
    public init(model: Model, restoring saved: [UInt8], options: SessionOptions = SessionOptions()) throws {
        made = .success(try Self.make(options) { params in
            try withExtendedLifetime(model) {
                try Tern.made { tern_session_restore(model.handle, saved, saved.count, &params, $0, $1) }
            }
        }.get())
    }

    deinit { if case .success(let handle) = made { tern_session_free(handle.pointer) } }

    private static func make(
        _ options: SessionOptions, _ open: (inout tern_session_params) throws -> OpaquePointer
    ) -> Result<SendableHandle, TernError> {
        do {
            return try options.context.withParams { context in
                try options.chatTemplate.withUTF8Bytes { template, n in
                    var params = tern_session_params()
                    tern_session_params_init(&params, MemoryLayout<tern_session_params>.size)
                    (params.chat_template, params.chat_template_len) = (template, n)
                    (params.on_full, params.n_keep, params.context) = (options.onFull.rawValue, UInt32(options.keep), context)
                    return .success(SendableHandle(try open(&params)))
                }
            }
        } catch let error as TernError {
            return .failure(error)
        } catch {
            return .failure(TernError(status: .panic, message: "\(error)"))
        }
    }

    private func call<R>(_ body: (OpaquePointer) throws -> R) throws -> R {
        let handle = try made.get().pointer
        return try withExtendedLifetime(self) { try body(handle) }
    }

    // MARK: one step at a time

    /// A step of an answer.
    public struct Chunk: Sendable {
        /// `.ok`, `.pending` or `.done`.
        public let status: TernStatus
        /// Whole characters, often none.
        public let text: String
        /// The newest token, -1: none.
        public let token: Token
        public let logprob: Float
        /// Why the answer ended, once the status is `.done`.
        public let finish: FinishReason
    }

    /// Why an answer ended.
    public enum FinishReason: Int32, Sendable {
        case none = 0
        /// The model had said it all.
        case endOfGeneration = 1
        /// A stop string.
        case stop = 2
        /// `maximumResponseTokens`.
        case length = 3
        case contextFull = 4
        case cancelled = 5
    }

    /// Begins an answer and evaluates nothing; `next` does. For programs that step an answer themselves, within a frame say.
    /// nil answers the transcript as it stands.
    public func start(
        _ prompt: String?, options: GenerationOptions = GenerationOptions(), grammar: Grammar? = nil, cancel: Cancel? = nil
    ) throws {
        try call { handle in
            try options.withC(grammar, cancel) { o in
                try prompt.withUTF8Bytes { text, n in _ = try checked { tern_session_start(handle, text, n, o, $0) } }
            }
        }
    }

    /// Takes one step of the answer. With a budget it returns `.pending` after about that time.
    public func next(budgetMicroseconds: UInt64 = 0) throws -> Chunk {
        try call { handle in
            var chunk = tern_chunk()
            tern_chunk_init(&chunk, MemoryLayout<tern_chunk>.size)
            let status = try check(tern_session_next(handle, budgetMicroseconds, &chunk))
            return Chunk(
                status: status, text: text(chunk.utf8, chunk.len), token: chunk.token, logprob: chunk.logprob,
                finish: FinishReason(rawValue: chunk.finish_reason) ?? .none)
        }
    }

    /// Ends an answer early; what was said stays.
    public func stop() throws { try call { _ = try check(tern_session_stop($0)) } }

    // MARK: whole answers

    /// An answer.
    public struct Response<Content: Sendable>: Sendable {
        public let content: Content
    }

    /// An answer as it grows: all of it so far.
    public struct Snapshot: Sendable {
        public let content: String
    }

    /// The whole answer to a prompt.
    public func respond(to prompt: String, options: GenerationOptions = GenerationOptions()) async throws -> Response<String> {
        Response(content: try await answer(prompt, options, nil))
    }

    /// The whole answer, within a grammar: `Grammar(model, .jsonSchema, schema)` makes it JSON of that schema.
    public func respond(
        to prompt: String, grammar: Grammar, options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<String> {
        Response(content: try await answer(prompt, options, grammar))
    }

    /// The answer as a value: `grammar` is the JSON schema of `type`.
    public func respond<Content: Decodable & Sendable>(
        to prompt: String, generating type: Content.Type, grammar: Grammar, options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<Content> {
        let json = try await answer(prompt, options, grammar)
        return Response(content: try JSONDecoder().decode(type, from: Data(json.utf8)))
    }

    private func answer(_ prompt: String, _ options: GenerationOptions, _ grammar: Grammar?) async throws -> String {
        let cancel = try Cancel()
        return try await offload(on: queue, cancel) {
            var content = ""
            try self.run(prompt, options, grammar, cancel) {
                content += $0
                return true
            }
            return content
        }
    }

    /// Snapshots of the answer as it grows, like Apple's. A slow reader misses some, never the last.
    public func streamResponse(
        to prompt: String, grammar: Grammar? = nil, options: GenerationOptions = GenerationOptions()
    ) -> AsyncThrowingStream<Snapshot, Error> {
        AsyncThrowingStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            var content = ""
            stream(prompt, options, grammar, continuation) {
                content += $0
                return Snapshot(content: content)
            }
        }
    }

    /// The pieces of the answer, each once: whole characters.
    public func streamPieces(
        to prompt: String, grammar: Grammar? = nil, options: GenerationOptions = GenerationOptions()
    ) -> AsyncThrowingStream<String, Error> {
        AsyncThrowingStream { continuation in stream(prompt, options, grammar, continuation) { $0 } }
    }

    private func stream<Element>(
        _ prompt: String, _ options: GenerationOptions, _ grammar: Grammar?,
        _ continuation: AsyncThrowingStream<Element, Error>.Continuation, _ element: @escaping (String) -> Element
    ) {
        do {
            let cancel = try Cancel()
            continuation.onTermination = { _ in cancel.set() }
            let work = Work {
                do {
                    try self.run(prompt, options, grammar, cancel) { piece in
                        if case .terminated = continuation.yield(element(piece)) { return false }
                        return true
                    }
                    continuation.finish()
                } catch let error as TernError where error.status == .cancelled {
                    continuation.finish(throwing: CancellationError())
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            queue.async { work.run() }
        } catch {
            continuation.finish(throwing: error)
        }
    }

    /// Answers on this thread. `piece` returning false ends the answer.
    private func run(
        _ prompt: String, _ options: GenerationOptions, _ grammar: Grammar?, _ cancel: Cancel, _ piece: (String) -> Bool
    ) throws {
        try start(prompt, options: options, grammar: grammar, cancel: cancel)
        while true {
            let chunk = try next()
            if !chunk.text.isEmpty && !piece(chunk.text) { return try stop() }
            if chunk.status == .done { return }
        }
    }

    /// Evaluates what the transcript holds, so that the first token comes sooner.
    public func prewarm() async throws {
        let cancel = try Cancel()
        try await offload(on: queue, cancel) { try self.call { _ = try check(tern_session_prewarm($0, cancel.handle)) } }
    }

    // MARK: the conversation

    /// The transcript. Setting it (`setTranscript`) does not evaluate again what it shares with the old one.
    public func transcript() throws -> [Message] {
        try call { handle in
            let json = try data { tern_session_transcript_to_json(handle, $0, $1, $2) }
            return try JSONDecoder().decode([Message].self, from: Data(json))
        }
    }

    /// Replaces the transcript. A first message of role "system" takes the place of the instructions.
    public func setTranscript(_ messages: [Message]) throws {
        try call { handle in
            try withMessages(messages) { items, n in
                _ = try checked { tern_session_set_messages(handle, items, MemoryLayout<tern_message>.stride, n, $0) }
            }
        }
    }

    /// The same conversation once more, with a context of its own.
    public func fork() throws -> LanguageModelSession {
        LanguageModelSession(owning: try call { handle in try Tern.made { out, _ in tern_session_fork(handle, out) } })
    }

    /// The conversation as bytes.
    public func save() throws -> [UInt8] {
        try call { handle in try data { tern_session_save(handle, $0, $1, $2) } }
    }

    /// The context underneath; it keeps the session alive.
    public func context() throws -> Context {
        var handle: OpaquePointer?
        try call { _ = try check(tern_session_context($0, &handle)) }
        guard let handle else { throw TernError(status: .panic, message: "the library gave no handle") }
        return Context(borrowed: handle, from: self)
    }
}

/// Carries a closure to the one thread that runs it.
private final class Work: @unchecked Sendable {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}
