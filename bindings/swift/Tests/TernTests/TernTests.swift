// The conformance list, the same in every language; bindings/python/test_tern.py has more of the low layer.
// Use after close does not appear: nothing here can be closed while someone holds it.
import CTern
import Foundation
import XCTest

@testable import Tern

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

private func golden(_ name: String) throws -> String {
    try String(contentsOf: root.appendingPathComponent("tests/data/golden").appendingPathComponent(name), encoding: .utf8)
}

private func modelURL() throws -> URL {
    if let path = ProcessInfo.processInfo.environment["TERN_MODEL"] { return URL(fileURLWithPath: path) }
    let name = try String(contentsOf: root.appendingPathComponent("examples/models/default.txt"), encoding: .utf8)
    return root.appendingPathComponent(name.trimmingCharacters(in: .whitespacesAndNewlines))
}

private let shared = Result { try Model(path: try modelURL().path) }

private func generate(_ model: Model, _ prompt: String, _ n: Int, _ sampler: Sampler) throws -> String {
    let context = try Context(model), detokenizer = try Detokenizer(model)
    var tokens = try model.tokenize(prompt), text = ""
    for _ in 0..<n {
        try context.eval(tokens)
        let token = try sampler.sample(context)
        if try model.isEndOfGeneration(token) { break }
        text += try detokenizer.push(token)
        tokens = [token]
    }
    return text + (try detokenizer.finish()) + "\n"
}

private func greedy(_ max: Int?) -> GenerationOptions { GenerationOptions(sampling: .greedy, maximumResponseTokens: max) }

private func chatGreedy(_ session: LanguageModelSession) async throws -> String {
    try await session.respond(to: try golden("chat-prompt.txt"), options: greedy(48)).content
}

private func resident() throws -> Int {
    let pages = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")[1]
    return Int(pages)! * 4096
}

final class TernTests: XCTestCase {
    private func refused<R>(_ status: TernStatus, _ call: () throws -> R, line: UInt = #line) {
        XCTAssertThrowsError(try call(), line: line) { XCTAssertEqual(($0 as? TernError)?.status, status, "\($0)", line: line) }
    }

    func testVersionIsChecked() throws {
        XCTAssertNoThrow(try Library.check(number: 1999).get())
        for wrong: UInt32 in [2000, 1_000_000] { XCTAssertThrowsError(try Library.check(number: wrong).get()) }
        XCTAssertTrue(Library.version.hasPrefix("0.1."))
        XCTAssertTrue(try Library.systemInfo().contains("kernels"))
        try Library.selfTest()
    }

    func testEveryStatusHasItsName() {
        for status in TernStatus.allCases {
            var name = ""
            for c in "\(status)" { name += c.isUppercase ? "_\(c)" : c.uppercased() }
            XCTAssertEqual(status.name, (status.rawValue < 0 ? "TERN_ERR_" : "TERN_") + name)
        }
        XCTAssertEqual(TernStatus.allCases.count, 19)
        for stranger: Int32 in [-17, 3] { XCTAssertEqual(String(cString: tern_status_name(stranger)), "TERN_?") }
    }

    func testLoadErrorsHaveTheirTexts() throws {
        let head = try Data(contentsOf: try modelURL()).prefix(4096)
        var version = head
        version[4] = 0x63
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tern-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var got = ""
        let cases: [(String, Data?)] = [
            ("missing", nil), ("empty", Data()), ("text", Data("This is no model.\n".utf8)), ("truncated", head), ("version", version),
        ]
        for (name, data) in cases {
            let file = folder.appendingPathComponent(name + ".gguf")
            try data?.write(to: file)
            XCTAssertThrowsError(try Model(path: file.path)) { error in
                guard let e = error as? TernError else { return XCTFail("\(error)") }
                got += "\(name)\t\(e.status.name)\t\(e.message.replacingOccurrences(of: file.path, with: "{path}"))\n"
            }
        }
        XCTAssertEqual(got, try golden("load-errors.txt"))
    }

    func testLoadReportsProgressAndStops() async throws {
        final class Seen: @unchecked Sendable { var fractions: [Float] = [] }
        let seen = Seen()
        var options = LoadOptions()
        options.progress = { seen.fractions.append($0); return true }
        let model = try await Model(contentsOf: try modelURL(), options: options)
        XCTAssertFalse(seen.fractions.isEmpty)
        XCTAssertEqual(seen.fractions, seen.fractions.sorted())
        XCTAssertEqual(try model.info(), try shared.get().info())
        XCTAssertEqual(try Model(data: try Data(contentsOf: try modelURL())).info().vocabulary, try model.info().vocabulary)
        options.progress = { _ in false }
        refused(.cancelled) { try Model(path: try modelURL().path, options: options) }
        let url = try modelURL()
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            _ = try await Model(contentsOf: url)
        }
        let result = await task.result
        XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }
        XCTAssertEqual(try model.metadata("general.architecture"), "bitnet-b1.58")
        XCTAssertNil(try model.metadata("no.such.key"))
    }

    func testTokensComeBackAsText() throws {
        let model = try shared.get(), text = try golden("text.txt")
        let tokens = try model.tokenize(text)
        XCTAssertEqual(tokens.map { "\($0)\n" }.joined(), try golden("text-tokens.txt"))
        XCTAssertEqual(try model.detokenize(tokens, removeSpecial: true), text)
        let pieces = try model.tokenize(text, special: false).flatMap { try model.piece($0) }
        XCTAssertEqual(pieces, Array(text.utf8))
        XCTAssertEqual(try model.tokenize("", special: false), [])
    }

    func testCharactersSplitOverTokensComeWhole() throws {
        let model = try shared.get(), text = "a🦙b👩‍👩‍👧é"
        let detokenizer = try Detokenizer(model)
        let pieces = try model.tokenize(text, special: false).map { try detokenizer.push($0) }
        XCTAssertTrue(pieces.contains(""), "no character was split: choose rarer ones")
        XCTAssertFalse(pieces.joined().contains("\u{FFFD}"))
        XCTAssertEqual(pieces.joined() + (try detokenizer.finish()), text)
    }

    func testStreamGivesWholeCharacters() async throws {
        let model = try shared.get()
        let grammar = try Grammar(model, .regex, "(🦙|🌍){6}") // they share their first bytes: tokens end inside them
        let options = GenerationOptions(sampling: .chain([.temperature(1)], seed: 3))
        var pieces: [String] = []
        for try await piece in LanguageModelSession(model: model).streamPieces(to: "Hi", grammar: grammar, options: options) {
            pieces.append(piece)
        }
        let text = pieces.joined()
        XCTAssertEqual(text.count, 6)
        XCTAssertTrue(text.allSatisfy { "🦙🌍".contains($0) }, text)
        XCTAssertGreaterThan(pieces.count, 3)
        var last = ""
        for try await partial in LanguageModelSession(model: model).streamResponse(to: "Hi", grammar: grammar, options: options) {
            XCTAssertTrue(text.hasPrefix(partial.content), partial.content)
            XCTAssertGreaterThan(partial.content.count, last.count)
            last = partial.content
        }
        XCTAssertEqual(last, text)
    }

    func testTextIsGolden() async throws {
        let model = try shared.get(), prompt = try golden("story-prompt.txt")
        XCTAssertEqual(try generate(model, prompt, 64, try Sampler()), try golden("story-greedy.txt"))
        XCTAssertEqual(try generate(model, prompt, 64, try Sampler(seed: 7, [.topK(40), .temperature(0.8)])), try golden("story-seed7.txt"))
        let answer = try await chatGreedy(LanguageModelSession(model: model))
        XCTAssertEqual(answer, try golden("chat-greedy.txt"))
    }

    func testJSONSchemaIsKept() async throws {
        struct Person: Decodable, Sendable {
            let name: String
            let age: Int
        }
        let model = try shared.get()
        let schema = #"{"type":"object","properties":{"name":{"enum":["Tom","Lily"]},"age":{"type":"integer","minimum":0,"maximum":99}},"#
            + #""required":["name","age"],"additionalProperties":false}"#
        let grammar = try Grammar(model, .jsonSchema, schema)
        let session = LanguageModelSession(model: model)
        for seed in 0..<4 {
            let options = GenerationOptions(sampling: .chain([.temperature(1)], seed: UInt64(seed)), maximumResponseTokens: 120)
            let person = try await session.respond(to: "Who?", generating: Person.self, grammar: grammar, options: options).content
            XCTAssertTrue(["Tom", "Lily"].contains(person.name) && (0...99).contains(person.age), "\(person)")
        }
        refused(.grammar) { try Grammar(model, .regex, "(") }
    }

    func testStopStringsAreNotShown() async throws {
        let whole = try golden("chat-greedy.txt")
        let stop = String(whole.dropFirst(20).prefix(4))
        var options = greedy(48)
        options.stop = [stop, "never said"]
        let answer = try await LanguageModelSession(model: try shared.get()).respond(to: try golden("chat-prompt.txt"), options: options)
        XCTAssertEqual(answer.content, String(whole[..<whole.range(of: stop)!.lowerBound]))
    }

    func testCancelInTheMiddleOfAPrefill() throws {
        let model = try shared.get()
        let tokens = try model.tokenize(String(repeating: try golden("story-prompt.txt"), count: 12))
        let whole = try Context(model), context = try Context(model), cancel = try Cancel()
        try whole.eval(tokens)
        let done = try context.eval(tokens, budgetMicroseconds: 1, cancel: cancel)
        XCTAssertLessThan(done, tokens.count)
        cancel.set()
        refused(.cancelled) { try context.eval(Array(tokens[done...]), cancel: cancel) }
        try context.eval(Array(tokens[(try context.length())...]))
        XCTAssertEqual(try context.logits(), try whole.logits())
    }

    func testCancelOfAnAnswer() async throws {
        let model = try shared.get()
        let ends = try (0..<Token(try model.info().vocabulary)).filter { try model.isEndOfGeneration($0) }
        XCTAssertFalse(ends.isEmpty)
        let bias = Dictionary(uniqueKeysWithValues: ends.map { ($0, -Float.infinity) })
        let endless = GenerationOptions(sampling: .chain([.logitBias(bias)], seed: 0))
        let session = LanguageModelSession(model: model)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await session.respond(to: "Tell me a story.", options: endless).content
        }
        let result = await task.result
        XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }

        var n = 0
        for try await _ in session.streamPieces(to: "Tell me a story.", options: endless) {
            n += 1
            if n == 3 { break } // drops the stream: its answer ends
        }
        // The session's own queue lets this one wait for that end.
        let answer = try await session.respond(to: "Hi", options: greedy(4)).content
        XCTAssertFalse(answer.isEmpty)
        XCTAssertTrue(try session.transcript().contains { $0.role == "assistant" })
    }

    func testForkSaveAndRestoreSayTheSame() async throws {
        let model = try shared.get()
        let session = LanguageModelSession(model: model, instructions: "You are a pirate.")
        _ = try await session.respond(to: "Hi", options: greedy(8))
        let fork = try session.fork(), restored = try LanguageModelSession(model: model, restoring: try session.save())
        let first = try await chatGreedy(session)
        for other in [fork, restored] {
            let answer = try await chatGreedy(other)
            XCTAssertEqual(answer, first)
            XCTAssertEqual(try other.transcript(), try session.transcript())
        }
        refused(.stateMismatch) { try LanguageModelSession(model: model, restoring: Array("no state".utf8)) }
        let copy = LanguageModelSession(model: model)
        try copy.setTranscript(try session.transcript())
        XCTAssertEqual(try copy.transcript(), try session.transcript())
        XCTAssertGreaterThan(try session.context().length(), 0)

        var options = ContextOptions()
        options.sequences = 2
        let context = try Context(model, options: options)
        try context.eval(try model.tokenize("Once upon a time"))
        try context.loadState(try context.saveState(), sequence: 1)
        XCTAssertEqual(try context.length(sequence: 1), try context.length(sequence: 0))
    }

    func testTwoSessionsOnTwoThreads() async throws {
        let model = try shared.get()
        async let a = chatGreedy(LanguageModelSession(model: model))
        async let b = chatGreedy(LanguageModelSession(model: model))
        let answers = try await [a, b]
        XCTAssertEqual(answers, [try golden("chat-greedy.txt"), try golden("chat-greedy.txt")])
    }

    func testASessionOutlivesItsModelsName() async throws {
        var model: Model? = try Model(path: try modelURL().path)
        let session = LanguageModelSession(model: model!)
        model = nil
        let answer = try await chatGreedy(session)
        XCTAssertEqual(answer, try golden("chat-greedy.txt"))
    }

    func testWhatCannotBeMadeSaysSoAtTheFirstRequest() async throws {
        var options = SessionOptions()
        options.chatTemplate = "{% if %}"
        let session = LanguageModelSession(model: try shared.get(), options: options)
        do {
            _ = try await session.respond(to: "Hi")
            XCTFail("answered")
        } catch let error as TernError {
            XCTAssertFalse(error.message.isEmpty)
        }
    }

    /// After a warm-up, the rounds add less than 4 MiB.
    private func flat(_ times: Int, _ round: () async throws -> Void) async throws {
        #if os(Linux)
            let rounds = (Int(ProcessInfo.processInfo.environment["TERN_LEAK_ROUNDS"] ?? "") ?? 1000) * times
            for _ in 0..<(rounds / 5 + 20) { try await round() }
            let before = try resident()
            for _ in 0..<rounds { try await round() }
            XCTAssertLessThan(try resident() - before, 4 << 20, "bytes more after \(rounds) rounds")
        #else
            throw XCTSkip("reads /proc")
        #endif
    }

    func testMemoryStaysFlatOverLoadsAndSessions() async throws {
        try await flat(1) {
            let model = try Model(path: try modelURL().path)
            let session = LanguageModelSession(model: model, instructions: "Be brief.")
            _ = try await session.respond(to: "Hi", options: greedy(2))
            _ = try await session.fork().respond(to: "Hi", options: greedy(1))
            try Context(model).eval([1])
            _ = try Detokenizer(model).push(1)
            _ = try Grammar(model, .choice, #"["a"]"#)
        }
    }

    func testMemoryStaysFlatOverSmallHandles() async throws {
        try await flat(100) {
            _ = try Sampler(seed: 1)
            let cancel = try Cancel()
            do {
                _ = try Model(path: "/no such file", cancel: cancel)
                XCTFail("loaded")
            } catch let error as TernError {
                XCTAssertEqual(error.status, .io)
            }
        }
    }
}
