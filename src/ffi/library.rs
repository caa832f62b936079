//! The library itself: version, system, self-test.

use super::{
    boundary::Call,
    error::tern_error,
    status::{TERN_OK, tern_status},
};
use crate::{kernels::Kernels, system};
use std::ffi::c_char;

/// The version of the library, as TERN_VERSION_NUMBER is that of the header: compare them at start.
#[unsafe(no_mangle)]
pub extern "C" fn tern_version_number() -> u32 {
    system::VERSION_NUMBER
}

/// "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn tern_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// CPU features, kernel tables, version and build as JSON. Size query: buf NULL, cap 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_system_info(
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| call.give_text(system::info().as_bytes(), buf, cap, out_len))
}

/// Every kernel table that this CPU can run against the plainest code, in less than 50 ms. OK, or PANIC with an
/// error that names table and kernel. Reports only: what a model uses is settled when it loads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_self_test(out_error: *mut *mut tern_error) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |_| {
        for table in Kernels::available() {
            table.check().map_err(crate::error::Error::Panic)?;
        }
        Ok(TERN_OK)
    })
}
