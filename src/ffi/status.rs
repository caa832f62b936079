//! Statuses, and the small types that every section uses.

use std::ffi::{c_char, c_void};

/// How a call ended: 0, above 0 no error, below 0 an error.
pub type tern_status = i32;

/// The call did what it says.
pub const TERN_OK: tern_status = 0;
/// End of generation: not an error.
pub const TERN_DONE: tern_status = 1;
/// Time budget spent; call again.
pub const TERN_PENDING: tern_status = 2;
/// A value outside the contract; includes an unexpected NULL.
pub const TERN_ERR_INVALID_ARGUMENT: tern_status = -1;
/// The system has no memory left.
pub const TERN_ERR_OUT_OF_MEMORY: tern_status = -2;
/// The system, or the host's reader, refused.
pub const TERN_ERR_IO: tern_status = -3;
/// Truncated, corrupt, bad checksum, logits without a number.
pub const TERN_ERR_BAD_MODEL: tern_status = -4;
/// Well formed, but not ours: the message names the type.
pub const TERN_ERR_UNSUPPORTED_MODEL: tern_status = -5;
/// Option or feature that this build, system or version lacks.
pub const TERN_ERR_UNSUPPORTED: tern_status = -6;
/// *out_len / *out_n holds the needed size.
pub const TERN_ERR_BUFFER_TOO_SMALL: tern_status = -7;
/// n_ctx or kv_bytes_max; nothing was changed.
pub const TERN_ERR_CONTEXT_FULL: tern_status = -8;
/// By token or callback; whole tokens only.
pub const TERN_ERR_CANCELLED: tern_status = -9;
/// The handle is in use on another thread, or re-entered.
pub const TERN_ERR_BUSY: tern_status = -10;
/// Does not compile, or leaves no candidate.
pub const TERN_ERR_GRAMMAR: tern_status = -11;
/// Saved state of another model or version.
pub const TERN_ERR_STATE_MISMATCH: tern_status = -12;
/// A bug in tern; the handle is poisoned.
pub const TERN_ERR_PANIC: tern_status = -13;
/// After a panic: only free works.
pub const TERN_ERR_POISONED: tern_status = -14;
/// Right call, wrong moment: sample before eval, next without start.
pub const TERN_ERR_INVALID_STATE: tern_status = -15;
/// No such key or index.
pub const TERN_ERR_NOT_FOUND: tern_status = -16;

/// A token id; -1: none.
pub type tern_token = i32;
/// A sequence of a context: 0 .. n_seq_max - 1.
pub type tern_seq = i32;

/// Told the fraction done, on the calling thread; 0 cancels.
pub type tern_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, fraction: f32) -> i32>;
/// Called exactly once, on any thread.
pub type tern_release_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Every status with its name.
const NAMES: [(tern_status, &[u8]); 19] = [
    (TERN_OK, b"TERN_OK\0"),
    (TERN_DONE, b"TERN_DONE\0"),
    (TERN_PENDING, b"TERN_PENDING\0"),
    (TERN_ERR_INVALID_ARGUMENT, b"TERN_ERR_INVALID_ARGUMENT\0"),
    (TERN_ERR_OUT_OF_MEMORY, b"TERN_ERR_OUT_OF_MEMORY\0"),
    (TERN_ERR_IO, b"TERN_ERR_IO\0"),
    (TERN_ERR_BAD_MODEL, b"TERN_ERR_BAD_MODEL\0"),
    (TERN_ERR_UNSUPPORTED_MODEL, b"TERN_ERR_UNSUPPORTED_MODEL\0"),
    (TERN_ERR_UNSUPPORTED, b"TERN_ERR_UNSUPPORTED\0"),
    (TERN_ERR_BUFFER_TOO_SMALL, b"TERN_ERR_BUFFER_TOO_SMALL\0"),
    (TERN_ERR_CONTEXT_FULL, b"TERN_ERR_CONTEXT_FULL\0"),
    (TERN_ERR_CANCELLED, b"TERN_ERR_CANCELLED\0"),
    (TERN_ERR_BUSY, b"TERN_ERR_BUSY\0"),
    (TERN_ERR_GRAMMAR, b"TERN_ERR_GRAMMAR\0"),
    (TERN_ERR_STATE_MISMATCH, b"TERN_ERR_STATE_MISMATCH\0"),
    (TERN_ERR_PANIC, b"TERN_ERR_PANIC\0"),
    (TERN_ERR_POISONED, b"TERN_ERR_POISONED\0"),
    (TERN_ERR_INVALID_STATE, b"TERN_ERR_INVALID_STATE\0"),
    (TERN_ERR_NOT_FOUND, b"TERN_ERR_NOT_FOUND\0"),
];

/// The name of a status, "TERN_ERR_IO"; "TERN_?" for a stranger. Static.
#[unsafe(no_mangle)]
pub extern "C" fn tern_status_name(status: tern_status) -> *const c_char {
    let known = NAMES.iter().find(|(known, _)| *known == status);
    known.map_or(b"TERN_?\0".as_slice(), |(_, name)| name).as_ptr().cast()
}
