//! The C surface: translate, delegate, write out.
//!
//! C's types have C's names here, so that a function reads as in the header, which is made from these files, one
//! section each, in the order of the list below. No logic lives here: what C needs and Rust lacks belongs to Rust.
//!
//! # The contract of every export
//!
//! Stated once, and stood on by each `SAFETY: the room's contract`:
//!
//! - A pointer to a handle is NULL, or came from this library and was not freed before the call began. It may be in
//!   use on other threads.
//! - A pointer to values is NULL, or points to as many as its length says; they stay valid, and but for outputs
//!   unchanged, for the length of the call. Text of the length `TERN_NUL_TERMINATED` has a NUL.
//! - A struct that is not NULL begins with a size, and has that many bytes.
//! - A callback does not unwind; it may be called with its user data as long as the function's comment says.
//!
//! What C may get wrong without breaking these is answered with a status: NULL, misfit lengths, text that is not
//! UTF-8, numbers out of range, a handle in use.
#![allow(unsafe_code)] // C's pointers are all there is to prove anything by
#![allow(non_camel_case_types)] // the names are C's
#![allow(clippy::missing_safety_doc)] // the contract is the room's

mod args;
mod boundary;
mod handle;
#[cfg(test)]
mod handle_tests;
// The systems whose linkers know visibility: those of ELF.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
))]
mod hidden;
mod sized;
mod sync;

// The header's sections, in its order.
mod answer;
mod cancel;
mod chat;
mod context;
mod convert;
mod detok;
mod error;
mod eval;
mod grammar;
mod info;
mod library;
mod log;
mod memory;
mod model;
mod perf;
mod sampler;
mod seq;
mod session;
mod status;
mod threadpool;
mod vocab;
