//! One failure, owned by C: `tern_error`.

use super::{boundary::Call, status::*};
use crate::error::Error;
use std::{ffi::c_char, fmt};

/// Why an export failed: what Rust says, and the one failure that only C knows.
#[derive(Debug)]
pub(super) enum Failure {
    Rust(Error),
    BufferTooSmall,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Rust(error)
    }
}

impl Failure {
    /// A value outside the contract of the call.
    pub(super) fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Error::InvalidArgument(what.into()).into()
    }

    /// An option that this library lacks.
    pub(super) fn unsupported(what: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Error::Unsupported(what.into()).into()
    }

    /// Whether the message says more than the status.
    pub(super) fn is_telling(&self) -> bool {
        !matches!(self, Failure::BufferTooSmall | Failure::Rust(Error::Busy | Error::Cancelled))
    }

    /// The status C is told.
    pub(super) fn status(&self) -> tern_status {
        let Failure::Rust(error) = self else { return TERN_ERR_BUFFER_TOO_SMALL };
        match error {
            Error::InvalidArgument(_) => TERN_ERR_INVALID_ARGUMENT,
            Error::OutOfMemory { .. } => TERN_ERR_OUT_OF_MEMORY,
            Error::Io { .. } => TERN_ERR_IO,
            Error::BadModel { .. } => TERN_ERR_BAD_MODEL,
            Error::UnsupportedModel { .. } => TERN_ERR_UNSUPPORTED_MODEL,
            Error::Unsupported(_) => TERN_ERR_UNSUPPORTED,
            Error::ContextFull { .. } => TERN_ERR_CONTEXT_FULL,
            Error::Cancelled => TERN_ERR_CANCELLED,
            Error::Busy => TERN_ERR_BUSY,
            Error::Grammar(_) => TERN_ERR_GRAMMAR,
            Error::StateMismatch(_) => TERN_ERR_STATE_MISMATCH,
            Error::Panic(_) => TERN_ERR_PANIC,
            Error::Poisoned => TERN_ERR_POISONED,
            Error::InvalidState(_) => TERN_ERR_INVALID_STATE,
            Error::NotFound(_) => TERN_ERR_NOT_FOUND,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Rust(error) => error.fmt(f),
            Failure::BufferTooSmall => f.write_str("the buffer is too small"),
        }
    }
}

/// One failure: a status and what there is to say about it.
pub struct tern_error {
    status: tern_status,
    /// Ends with its only NUL.
    message: String,
}

impl tern_error {
    /// An error that C owns.
    pub(super) fn give(failure: Failure) -> *mut Self {
        let mut message = failure.to_string().replace('\0', "\u{2400}");
        message.push('\0');
        Box::into_raw(Box::new(tern_error { status: failure.status(), message }))
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        self.message.trim_end_matches('\0')
    }
}

/// The status of an error; OK for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_error_code(error: *const tern_error) -> tern_status {
    // SAFETY: NULL, or an error that is not freed yet.
    unsafe { error.as_ref() }.map_or(TERN_OK, |error| error.status)
}

/// What happened, where, and what helps: one line of UTF-8. Lives as long as the error; "" for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_error_message(error: *const tern_error) -> *const c_char {
    // SAFETY: NULL, or an error that is not freed yet.
    unsafe { error.as_ref() }.map_or("\0", |error| &error.message).as_ptr().cast()
}

/// Releases an error; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_error_free(error: *mut tern_error) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|_| {
        if !error.is_null() {
            // SAFETY: it came from `give`, and C gives it up here.
            drop(unsafe { Box::from_raw(error) });
        }
    });
}
