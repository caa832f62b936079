//! The log callback: the one thing that is set for the whole process.

use super::boundary::{Call, callback};
use crate::log::{self, Level};
use std::ffi::{c_char, c_void};

/// Details of calls that failed, for developers.
pub const TERN_LOG_DEBUG: i32 = 0;
/// What happened.
pub const TERN_LOG_INFO: i32 = 1;
/// What works, but not as it should.
pub const TERN_LOG_WARN: i32 = 2;
/// Bugs of tern.
pub const TERN_LOG_ERROR: i32 = 3;

/// Told one message: UTF-8 of `len` bytes, not NUL-terminated, gone when it returns. Any thread, several at a time.
pub type tern_log_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, level: i32, utf8: *const c_char, len: usize),
>;

/// A pointer of the host that crosses threads, as it was told.
pub(super) struct UserData(pub(super) *mut c_void);

// SAFETY: the conventions say on which threads each callback runs; the host gave the pointer knowing that.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    /// The pointer; a method, so that closures capture the whole and not the bare pointer.
    pub(super) fn get(&self) -> *mut c_void {
        self.0
    }
}

/// Sets the process's log callback; nothing is logged, or printed, unless one is set. Messages below `min_level`
/// are left out. NULL removes it. When the call returns, no call of the former callback is running any more, save
/// the one this call is made from. What tern logs while the callback runs on the same thread is dropped.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_log_set(log: tern_log_fn, user_data: *mut c_void, min_level: i32) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|_| {
        let Some(log) = log else {
            log::set(None);
            return;
        };
        let user_data = UserData(user_data);
        let sink = move |level: Level, text: &str| {
            let level = match level {
                Level::Debug => TERN_LOG_DEBUG,
                Level::Info => TERN_LOG_INFO,
                Level::Warn => TERN_LOG_WARN,
                Level::Error => TERN_LOG_ERROR,
            };
            // SAFETY: the host's function with the host's pointer; the text lives through the call.
            callback(|| unsafe { log(user_data.get(), level, text.as_ptr().cast(), text.len()) });
        };
        log::set(Some((min_level, Box::new(sink))));
    });
}
