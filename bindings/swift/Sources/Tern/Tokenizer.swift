import CTern

/// The number of a piece of text.
public typealias Token = Int32

/// One turn of a conversation.
public struct Message: Sendable, Equatable, Codable {
    /// "system", "user" or "assistant".
    public let role: String
    public let content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }
}

/// Gives messages to a call as C's structs.
func withMessages<R>(_ messages: [Message], _ body: (UnsafePointer<tern_message>, Int) throws -> R) rethrows -> R {
    // One block holds every byte, so that no pointer outlives its string.
    let bytes: [UInt8] = messages.flatMap { Array($0.role.utf8) + Array($0.content.utf8) } + [0]
    return try bytes.withUnsafeBytes { block in
        var at = block.baseAddress!.assumingMemoryBound(to: CChar.self)
        var items = messages.map { message -> tern_message in
            let role = (at, message.role.utf8.count)
            let content = (at + role.1, message.content.utf8.count)
            at = content.0 + content.1
            return tern_message(role: role.0, role_len: role.1, content: content.0, content_len: content.1)
        }
        items.append(tern_message()) // never empty
        return try items.withUnsafeBufferPointer { try body($0.baseAddress!, messages.count) }
    }
}

extension Model {
    /// Text to tokens. `special` adds what the model wants at the start; `parseSpecial` takes markers in the text for tokens:
    /// never for a stranger's text.
    public func tokenize(_ text: String, special: Bool = true, parseSpecial: Bool = false) throws -> [Token] {
        let flags = UInt32((special ? TERN_TOK_ADD_SPECIAL : 0) | (parseSpecial ? TERN_TOK_PARSE_SPECIAL : 0))
        return try withExtendedLifetime(self) {
            try text.withUTF8Bytes { bytes, n in
                var need = 0
                try check(tern_tokenize(handle, bytes, n, flags, nil, 0, &need))
                var tokens = [Token](repeating: 0, count: need)
                if need > 0 { try check(tern_tokenize(handle, bytes, n, flags, &tokens, need, &need)) }
                return tokens
            }
        }
    }

    /// Tokens to text; a torn character becomes U+FFFD.
    public func detokenize(_ tokens: [Token], removeSpecial: Bool = false, renderSpecial: Bool = false) throws -> String {
        let flags = UInt32((removeSpecial ? TERN_DETOK_REMOVE_SPECIAL : 0) | (renderSpecial ? TERN_DETOK_RENDER_SPECIAL : 0))
        return try withExtendedLifetime(self) {
            text(try data { tern_detokenize(handle, tokens, tokens.count, flags, $0, $1, $2) })
        }
    }

    /// The bytes of one token, which may be a part of a character.
    public func piece(_ token: Token, renderSpecial: Bool = false) throws -> [UInt8] {
        let flags = UInt32(renderSpecial ? TERN_DETOK_RENDER_SPECIAL : 0)
        return try withExtendedLifetime(self) { try data { tern_token_to_piece(handle, token, flags, $0, $1, $2) } }
    }

    /// Whether a token ends a generation.
    public func isEndOfGeneration(_ token: Token) throws -> Bool {
        var answer: Int32 = 0
        try check(withExtendedLifetime(self) { tern_token_is_eog(handle, token, &answer) })
        return answer != 0
    }

    /// Whether a token is a marker rather than text.
    public func isControl(_ token: Token) throws -> Bool {
        var answer: Int32 = 0
        try check(withExtendedLifetime(self) { tern_token_is_control(handle, token, &answer) })
        return answer != 0
    }

    /// Messages as the text the model reads, up to where its answer begins.
    public func applyChatTemplate(_ messages: [Message], template: String? = nil, addGenerationPrompt: Bool = true) throws -> String {
        try withExtendedLifetime(self) {
            try template.withUTF8Bytes { template, n in
                var options = tern_chat_options()
                tern_chat_options_init(&options, MemoryLayout<tern_chat_options>.size)
                options.flags = UInt32(addGenerationPrompt ? TERN_CHAT_ADD_GENERATION_PROMPT : 0)
                (options.chat_template, options.chat_template_len) = (template, n)
                return try withMessages(messages) { items, count in
                    var error: OpaquePointer?
                    do {
                        return text(try data { buffer, capacity, length in
                            tern_chat_apply_template(
                                handle, items, MemoryLayout<tern_message>.stride, count, &options, buffer, capacity, length, &error)
                        })
                    } catch let failure as TernError {
                        try check(failure.status.rawValue, error) // the same with the template's line
                        throw failure
                    }
                }
            }
        }
    }
}

/// Tokens to whole characters, as they come. One thread at a time.
public final class Detokenizer {
    private let handle: OpaquePointer

    /// A decoder for the model's tokens.
    public init(_ model: Model, renderSpecial: Bool = false) throws {
        let flags = UInt32(renderSpecial ? TERN_DETOK_RENDER_SPECIAL : 0)
        handle = try withExtendedLifetime(model) { try made { out, _ in tern_detok_new(model.handle, flags, out) } }
    }

    deinit { tern_detok_free(handle) }

    /// The text that this token completes, often none.
    public func push(_ token: Token) throws -> String {
        try borrowed { tern_detok_push(handle, token, $0, $1) }
    }

    /// What is left, with U+FFFD for a torn end.
    public func finish() throws -> String {
        try borrowed { tern_detok_finish(handle, $0, $1) }
    }

    private func borrowed(
        _ call: (UnsafeMutablePointer<UnsafePointer<CChar>?>, UnsafeMutablePointer<Int>) -> tern_status
    ) throws -> String {
        try withExtendedLifetime(self) {
            var utf8: UnsafePointer<CChar>?
            var n = 0
            try check(call(&utf8, &n))
            return text(utf8, n)
        }
    }
}
