import CTern
import Foundation

/// The loaded library.
public enum Library {
    /// Its version, "0.1.0".
    public static var version: String { String(cString: tern_version_string()) }

    /// CPU, kernel tables and build, as JSON.
    public static func systemInfo() throws -> String { String(decoding: try data { tern_system_info($0, $1, $2) }, as: UTF8.self) }

    /// Checks every kernel table this CPU can run against the scalar one.
    public static func selfTest() throws { try checked { tern_self_test($0) } }

    /// Whether the library that was found has the ABI of the header that was compiled. Every maker of an object asks.
    static let check: Result<Void, TernError> = check(number: tern_version_number())

    /// While the major is 0 a minor may break; from 1 on only the major does, and newer minors are fine.
    static func check(number: UInt32) -> Result<Void, TernError> {
        let major = Int(number) / 1_000_000, minor = Int(number) / 1000 % 1000
        let wanted = (major: Int(TERN_VERSION_MAJOR), minor: Int(TERN_VERSION_MINOR))
        let right = major == wanted.major && (major == 0 ? minor == wanted.minor : minor >= wanted.minor)
        if right { return .success(()) }
        return .failure(TernError(
            status: .unsupported, message: "built for library \(wanted.major).\(wanted.minor), found \(major).\(minor)"))
    }

    /// How much a log line matters.
    public enum LogLevel: Int32, Sendable {
        case debug = 0
        case info = 1
        case warning = 2
        case error = 3
    }

    /// Calls `line` for each log line of the library, on any thread; nil turns it off. The library is silent unless it is set.
    /// Not to be called from within `line`.
    public static func setLog(least: LogLevel = .info, _ line: (@Sendable (LogLevel, String) -> Void)?) {
        log.set(least, line)
    }

    private static let log = Log()

    /// Holds the function that the library calls.
    private final class Log: @unchecked Sendable {
        private let lock = NSLock()
        private var line: (@Sendable (LogLevel, String) -> Void)?

        func set(_ least: LogLevel, _ line: (@Sendable (LogLevel, String) -> Void)?) {
            lock.lock()
            defer { lock.unlock() }
            tern_log_set(nil, nil, 0) // waits for calls that run
            self.line = line
            if line == nil { return }
            let call: tern_log_fn = { data, level, utf8, n in
                let log = Unmanaged<Log>.fromOpaque(data!).takeUnretainedValue() // it is never freed
                log.line?(LogLevel(rawValue: level) ?? .error, text(utf8, n))
            }
            tern_log_set(call, Unmanaged.passUnretained(self).toOpaque(), least.rawValue)
        }
    }
}

/// Threads that contexts share.
public final class ThreadPool: @unchecked Sendable {
    let handle: OpaquePointer

    /// Starts threads; 0 is the number of performance cores.
    public init(threads: Int = 0) throws {
        handle = try made { out, _ in
            var params = tern_threadpool_params()
            tern_threadpool_params_init(&params, MemoryLayout<tern_threadpool_params>.size)
            params.n_threads = UInt32(threads)
            return tern_threadpool_new(&params, out)
        }
    }

    deinit { tern_threadpool_free(handle) } // its threads end with the last context on it
}

/// Text and data out: asks for the size, then for the bytes.
func data(_ call: (UnsafeMutablePointer<CChar>?, Int, UnsafeMutablePointer<Int>) -> tern_status) throws -> [UInt8] {
    var n = 0
    try check(call(nil, 0, &n))
    var buffer = [CChar](repeating: 0, count: n + 1)
    let status = buffer.withUnsafeMutableBufferPointer { call($0.baseAddress, $0.count, &n) }
    try check(status)
    return buffer[..<n].map { UInt8(bitPattern: $0) }
}

extension String {
    /// The UTF-8 bytes and their number, for the length of a call.
    func withUTF8Bytes<R>(_ body: (UnsafePointer<CChar>, Int) throws -> R) rethrows -> R {
        let count = utf8.count
        return try withCString { try body($0, count) }
    }
}

extension Optional where Wrapped == String {
    func withUTF8Bytes<R>(_ body: (UnsafePointer<CChar>?, Int) throws -> R) rethrows -> R {
        if let self { return try self.withUTF8Bytes { try body($0, $1) } }
        return try body(nil, 0)
    }
}

/// Gives strings to a call as an array of pointers and one of lengths, neither empty.
func withStrings<R>(_ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>, UnsafePointer<Int>) throws -> R) rethrows -> R {
    // One block holds every byte, so that no pointer outlives its string.
    let bytes: [UInt8] = strings.flatMap { Array($0.utf8) } + [0]
    let lens = strings.map { $0.utf8.count } + [0]
    return try bytes.withUnsafeBytes { block in
        var at = block.baseAddress!.assumingMemoryBound(to: CChar.self)
        let pointers = lens.map { n -> UnsafePointer<CChar>? in
            defer { at += n }
            return at
        }
        return try pointers.withUnsafeBufferPointer { pointers in
            try lens.withUnsafeBufferPointer { lens in try body(pointers.baseAddress!, lens.baseAddress!) }
        }
    }
}

/// Copies borrowed text.
func text(_ utf8: UnsafePointer<CChar>?, _ n: Int) -> String {
    guard let utf8, n > 0 else { return "" }
    return utf8.withMemoryRebound(to: UInt8.self, capacity: n) {
        String(decoding: UnsafeBufferPointer(start: $0, count: n), as: UTF8.self)
    }
}

/// A cancel token. Its C calls are safe from any thread.
public final class Cancel: @unchecked Sendable {
    let handle: OpaquePointer

    public init() throws {
        handle = try made { out, _ in tern_cancel_new(out) }
    }

    deinit { tern_cancel_free(handle) }

    /// Asks the calls that were given this token to stop.
    public func set() { withExtendedLifetime(self) { tern_cancel_set(handle) } }

    /// Lets calls run again.
    public func reset() { withExtendedLifetime(self) { tern_cancel_reset(handle) } }
}

/// Runs blocking work on a thread of `queue`, out of the way of Swift's own, and sets `cancel` when the task is cancelled.
func offload<R>(on queue: DispatchQueue, _ cancel: Cancel, _ work: @escaping () throws -> R) async throws -> R {
    let job = Job(work)
    do {
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                queue.async { continuation.resume(with: job.run()) }
            }
        } onCancel: {
            cancel.set()
        }
    } catch let error as TernError where error.status == .cancelled && Task.isCancelled {
        throw CancellationError()
    }
}

/// Carries a closure to the one thread that runs it.
private final class Job<R>: @unchecked Sendable {
    private let work: () throws -> R
    init(_ work: @escaping () throws -> R) { self.work = work }
    func run() -> Result<R, Error> { Result { try work() } }
}
