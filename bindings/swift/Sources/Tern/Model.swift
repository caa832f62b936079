import CTern
import Foundation

/// How a model is loaded.
public struct LoadOptions: Sendable {
    /// Tokens only, no weights.
    public var vocabularyOnly = false
    /// Read instead of mapped.
    public var noMap = false
    /// Kept in memory.
    public var locked = false
    /// Every byte is checked.
    public var verified = false
    /// A kernel table of `Library.systemInfo()`; nil: the best that passes its check.
    public var kernels: String?
    /// Hears how far the load is, from 0 to 1, on the loading thread; false stops it.
    public var progress: (@Sendable (Float) -> Bool)?

    public init() {}

    fileprivate var flags: UInt32 {
        UInt32((vocabularyOnly ? TERN_MODEL_VOCAB_ONLY : 0) | (noMap ? TERN_MODEL_NO_MMAP : 0) | (locked ? TERN_MODEL_MLOCK : 0)
            | (verified ? TERN_MODEL_VERIFY : 0))
    }
}

/// A model's sizes and special tokens; -1 is a token that it lacks.
public struct ModelInfo: Sendable, Equatable {
    public let vocabulary, trainContext, embedding, layers, heads, kvHeads: Int
    public let parameters, weightBytes, fileBytes: UInt64
    public let bos, eos, eot: Token
}

/// What was learnt: immutable, for any number of threads, contexts and sessions.
public final class Model: @unchecked Sendable {
    let handle: OpaquePointer

    private init(owning handle: OpaquePointer) { self.handle = handle }

    deinit { tern_model_free(handle) }

    /// Opens a model file, GGUF or a packed one, on this thread.
    public convenience init(path: String, options: LoadOptions = LoadOptions(), cancel: Cancel? = nil) throws {
        self.init(owning: try Model.load(options, cancel) { tern_model_load_from_file(path, $0, $1, $2) })
    }

    /// Opens a model from memory; what is needed of it is copied.
    public convenience init(data: Data, options: LoadOptions = LoadOptions(), cancel: Cancel? = nil) throws {
        self.init(owning: try Model.load(options, cancel) { params, out, error in
            (data.isEmpty ? Data([0]) : data).withUnsafeBytes { bytes in // never NULL
                tern_model_load_from_memory(bytes.baseAddress!, data.count, nil, nil, params, out, error)
            }
        })
    }

    /// Opens a model file, away from Swift's own threads; cancelling the task stops it.
    public convenience init(contentsOf url: URL, options: LoadOptions = LoadOptions()) async throws {
        let cancel = try Cancel()
        let path = url.path
        let handle = try await offload(on: DispatchQueue.global(), cancel) {
            SendableHandle(try Model.load(options, cancel) { tern_model_load_from_file(path, $0, $1, $2) })
        }
        self.init(owning: handle.pointer)
    }

    private typealias Out = UnsafeMutablePointer<OpaquePointer?>

    private static func load(
        _ options: LoadOptions, _ cancel: Cancel?, _ open: (UnsafePointer<tern_model_params>, Out, Out) -> tern_status
    ) throws -> OpaquePointer {
        var progress = options.progress
        return try withExtendedLifetime(cancel) {
            try withUnsafeMutablePointer(to: &progress) { progress in
                try options.kernels.withUTF8Bytes { kernels, n in
                    var params = tern_model_params()
                    tern_model_params_init(&params, MemoryLayout<tern_model_params>.size)
                    params.flags = options.flags
                    (params.kernels, params.kernels_len) = (kernels, n)
                    params.cancel = cancel?.handle
                    if options.progress != nil {
                        params.progress_user_data = UnsafeMutableRawPointer(progress)
                        params.progress = { data, fraction in
                            let report = data!.assumingMemoryBound(to: (@Sendable (Float) -> Bool)?.self).pointee
                            return report!(fraction) ? 1 : 0
                        }
                    }
                    return try made { open(&params, $0, $1) }
                }
            }
        }
    }

    /// Writes the packed form, which maps in milliseconds and opens on every CPU.
    public func convert(to path: String, cancel: Cancel? = nil) throws {
        try withExtendedLifetime((self, cancel)) {
            var params = tern_convert_params()
            tern_convert_params_init(&params, MemoryLayout<tern_convert_params>.size)
            params.cancel = cancel?.handle
            try checked { tern_model_convert(handle, path, &params, $0) }
        }
    }

    /// Sizes and special tokens.
    public func info() throws -> ModelInfo {
        var i = tern_model_info()
        tern_model_info_init(&i, MemoryLayout<tern_model_info>.size)
        try check(withExtendedLifetime(self) { tern_model_get_info(handle, &i) })
        return ModelInfo(
            vocabulary: Int(i.n_vocab), trainContext: Int(i.n_ctx_train), embedding: Int(i.n_embd), layers: Int(i.n_layer),
            heads: Int(i.n_head), kvHeads: Int(i.n_head_kv), parameters: i.n_params, weightBytes: i.weight_bytes,
            fileBytes: i.file_bytes, bos: i.bos, eos: i.eos, eot: i.eot)
    }

    /// One value of the file's metadata as text; nil if it has no such key.
    public func metadata(_ key: String) throws -> String? {
        try orNil(.notFound) {
            try withExtendedLifetime(self) {
                try key.withUTF8Bytes { k, n in text(try data { tern_model_meta_get(handle, k, n, $0, $1, $2) }) }
            }
        }
    }

    /// The Jinja template in use; nil if the model has none.
    public func chatTemplate() throws -> String? {
        try orNil(.notFound) {
            try withExtendedLifetime(self) { text(try data { tern_model_chat_template(handle, $0, $1, $2) }) }
        }
    }
}

struct SendableHandle: @unchecked Sendable {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { self.pointer = pointer }
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

private func orNil<R>(_ status: TernStatus, _ body: () throws -> R) throws -> R? {
    do { return try body() } catch let error as TernError where error.status == status { return nil }
}
