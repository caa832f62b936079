// swift run generate -m MODEL "Once upon a time"
import Foundation
import Tern

func usage() -> Never {
    FileHandle.standardError.write(Data("usage: generate -m MODEL [-n N] [--temp T] [--seed S] PROMPT\n".utf8))
    exit(2)
}

func say(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }

var path: String?, prompt: String?, n = 64, temp: Float = 0, seed: UInt64 = 0
var arguments = CommandLine.arguments.dropFirst()
while let argument = arguments.popFirst() {
    func value<T>(_ parse: (String) -> T?) -> T {
        guard let value = arguments.popFirst().flatMap(parse) else { usage() }
        return value
    }
    switch argument {
    case "-m": path = value { $0 }
    case "-n": n = value { Int($0) }
    case "--temp": temp = value { Float($0) }
    case "--seed": seed = value { UInt64($0) }
    default:
        if prompt != nil { usage() }
        prompt = argument
    }
}
guard let path, let prompt else { usage() }

do {
    let model = try Model(path: path)
    let context = try Context(model)
    let detokenizer = try Detokenizer(model)
    let sampler = try Sampler(seed: seed, temp > 0 ? [.topK(40), .temperature(temp)] : [])
    var tokens = try model.tokenize(prompt)
    for _ in 0..<n {
        try context.eval(tokens)
        let token = try sampler.sample(context)
        if try model.isEndOfGeneration(token) { break }
        say(try detokenizer.push(token))
        tokens = [token]
    }
    say(try detokenizer.finish() + "\n")
} catch {
    FileHandle.standardError.write(Data("error: \(error)\n".utf8))
    exit(1)
}
