import CTern
import Foundation

/// What a call of the library answered: 0 done, above it conditions, below it errors.
public enum TernStatus: Int32, CaseIterable, Sendable {
    case ok = 0
    /// The end of a generation.
    case done = 1
    /// The time budget is spent: call again.
    case pending = 2
    case invalidArgument = -1
    /// No memory; nothing was changed.
    case outOfMemory = -2
    /// The system refused a file.
    case io = -3
    /// Truncated or corrupt.
    case badModel = -4
    /// Well formed, but not a model tern runs.
    case unsupportedModel = -5
    /// An option that this build, system or version lacks.
    case unsupported = -6
    /// Never seen through this module.
    case bufferTooSmall = -7
    /// The context is full; nothing was changed.
    case contextFull = -8
    /// What was done is whole.
    case cancelled = -9
    /// The object is in use on another thread.
    case busy = -10
    /// A grammar does not compile, or leaves nothing to say.
    case grammar = -11
    /// Saved by another model or version.
    case stateMismatch = -12
    /// A bug in tern; the object is poisoned.
    case panic = -13
    /// After a panic.
    case poisoned = -14
    /// The right call at the wrong moment.
    case invalidState = -15
    /// No such key or index.
    case notFound = -16

    /// The name in the C header, "TERN_ERR_IO".
    public var name: String { String(cString: tern_status_name(rawValue)) }
}

/// A failed call: its status, and the library's words, which name the file, the place and the remedy.
public struct TernError: Error, Equatable, Sendable, LocalizedError, CustomStringConvertible {
    /// What the call answered; a status this module does not know is `.panic`.
    public let status: TernStatus
    public let message: String

    public var description: String { message }
    public var errorDescription: String? { message }
}

/// Throws for an error; gives back `.ok`, `.done` and `.pending`. Takes over the error object.
@discardableResult
func check(_ status: tern_status, _ error: OpaquePointer? = nil) throws -> TernStatus {
    if status >= 0 { return TernStatus(rawValue: status) ?? .ok }
    let known = TernStatus(rawValue: status) ?? .panic
    let message = String(cString: tern_error_message(error))
    tern_error_free(error)
    throw TernError(status: known, message: message.isEmpty ? String(cString: tern_status_name(status)) : message)
}

/// The same for a call that writes an error object.
@discardableResult
func checked(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> tern_status) throws -> TernStatus {
    var error: OpaquePointer?
    let status = call(&error)
    return try check(status, error)
}

/// A new handle from a constructor that writes it.
func made(_ call: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> tern_status) throws -> OpaquePointer {
    try Library.check.get()
    var handle: OpaquePointer?
    try checked { error in call(&handle, error) }
    guard let handle else { throw TernError(status: .panic, message: "the library gave no handle") }
    return handle
}
