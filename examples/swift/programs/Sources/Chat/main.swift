// swift run chat MODEL ["You are a pirate."]
import Foundation
import Tern

guard CommandLine.arguments.count >= 2 else {
    FileHandle.standardError.write(Data("usage: chat MODEL [INSTRUCTIONS]\n".utf8))
    exit(2)
}

do {
    let model = try await Model(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1]))
    let session = LanguageModelSession(model: model, instructions: CommandLine.arguments.dropFirst(2).first)
    try await session.prewarm()
    print("> ", terminator: "")
    while let line = readLine() {
        for try await piece in session.streamPieces(to: line) {
            print(piece, terminator: "")
            fflush(nil)
        }
        print("\n> ", terminator: "")
    }
    print()
} catch {
    FileHandle.standardError.write(Data("error: \(error)\n".utf8))
    exit(1)
}
