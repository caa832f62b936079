//! Everything that can go wrong, said once.

use std::{borrow::Cow, fmt, io};

/// The result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
///
/// Each variant is one negative status of the C interface. Messages name the
/// place, what was found, what was wanted and, where there is one, the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value outside the contract of the call.
    InvalidArgument(Cow<'static, str>),
    /// The system has no memory for a buffer.
    OutOfMemory {
        /// What the buffer is for.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The operating system, or the host's reader, refused.
    Io {
        /// What was attempted, with the path where there is one.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A model that breaks its own format.
    BadModel {
        /// The tensor, key or part of the file.
        place: String,
        /// Bytes from the start of the file, where one byte is to blame.
        offset: Option<u64>,
        /// The rule that is broken: found and wanted.
        rule: String,
    },
    /// A well-formed model of a kind this library does not run.
    UnsupportedModel {
        /// The architecture, tensor or feature, with its type.
        what: String,
        /// What the user can do about it.
        remedy: String,
    },
    /// An option or feature that this build, system or version lacks.
    Unsupported(Cow<'static, str>),
    /// No room: the context's length or its memory cap is reached.
    ContextFull {
        /// Tokens, or bytes of cache, that the call would have needed.
        wanted: u64,
        /// What the context allows.
        limit: u64,
        /// `"tokens"` or `"cache bytes"`.
        unit: &'static str,
    },
    /// Stopped by a cancel token or by a callback.
    Cancelled,
    /// The object is in use on another thread, or re-entered from a callback.
    Busy,
    /// A grammar that does not compile, or that leaves no token to choose.
    Grammar(String),
    /// A saved state of another model, version or shape.
    StateMismatch(String),
    /// A bug in this library: a panic was caught.
    Panic(String),
    /// The object suffered a panic earlier; it can only be freed.
    Poisoned,
    /// The right call at the wrong moment.
    InvalidState(&'static str),
    /// No such key or index.
    NotFound(Cow<'static, str>),
}

impl Error {
    /// A broken rule in a named part of a model file.
    pub(crate) fn bad_model(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Error::BadModel { place: place.into(), offset: None, rule: rule.into() }
    }

    /// A broken rule at a byte of a model file.
    pub(crate) fn bad_byte(place: impl Into<String>, offset: u64, rule: impl Into<String>) -> Self {
        Error::BadModel { place: place.into(), offset: Some(offset), rule: rule.into() }
    }

    /// A kind of model this library does not run.
    pub(crate) fn unsupported_model(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::UnsupportedModel { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidArgument(what) => write!(f, "invalid argument: {what}"),
            Error::OutOfMemory { what, bytes } => {
                write!(f, "out of memory: {bytes} bytes for {what}")
            }
            Error::Io { what, source } => write!(f, "{what}: {source}"),
            Error::BadModel { place, offset: Some(offset), rule } => {
                write!(f, "malformed model: {place} at byte {offset}: {rule}")
            }
            Error::BadModel { place, offset: None, rule } => {
                write!(f, "malformed model: {place}: {rule}")
            }
            Error::UnsupportedModel { what, remedy } => {
                write!(f, "unsupported model: {what}; {remedy}")
            }
            Error::Unsupported(what) => write!(f, "unsupported: {what}"),
            Error::ContextFull { wanted, limit, unit } => {
                write!(f, "context full: {wanted} {unit} wanted, {limit} allowed")
            }
            Error::Cancelled => f.write_str("cancelled"),
            Error::Busy => {
                f.write_str("the object is in use on another thread or by a running callback")
            }
            Error::Grammar(what) => write!(f, "grammar: {what}"),
            Error::StateMismatch(what) => write!(f, "saved state does not fit: {what}"),
            Error::Panic(what) => write!(f, "internal error: {what}; the object can only be freed"),
            Error::Poisoned => {
                f.write_str("the object had an internal error earlier and can only be freed")
            }
            Error::InvalidState(what) => write!(f, "wrong moment: {what}"),
            Error::NotFound(what) => write!(f, "not found: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A vector of `len` zeros, or [`Error::OutOfMemory`]: large buffers never abort the process.
pub(crate) fn try_zeroed<T: Copy + Default>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        what,
        bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
    })?;
    vec.resize(len, T::default());
    Ok(vec)
}

/// Asks the system for `bytes` in one piece and gives them back: [`Error::OutOfMemory`] if there are none, before a
/// dependency that knows no such error takes them bit by bit. Other threads may still be quicker.
pub(crate) fn probe(bytes: u64, what: &'static str) -> Result<()> {
    let refused = || Error::OutOfMemory { what, bytes };
    let mut room: Vec<u8> = Vec::new();
    room.try_reserve_exact(usize::try_from(bytes).map_err(|_| refused())?)
        .map_err(|_| refused())?;
    // Seen by somebody, so that no compiler leaves the question out.
    std::hint::black_box(&mut room);
    Ok(())
}
