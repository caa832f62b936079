//! `tern_cancel_*`.

use super::{
    boundary::Call,
    handle::Shared,
    status::{TERN_OK, tern_status},
};
use crate::Cancel;

/// A flag that any thread may raise.
pub type tern_cancel = Shared<Cancel>;

/// Makes a cancel token that is not set. Free it with tern_cancel_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_cancel_new(out_cancel: *mut *mut tern_cancel) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let out = call.out(out_cancel, "out_cancel")?;
        out.write(Shared::give(Cancel::new()));
        Ok(TERN_OK)
    })
}

/// Asks every call that was given the token to stop soon. Any thread; async-signal-safe; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_cancel_set(cancel: *mut tern_cancel) {
    // No boundary: nothing here allocates, locks or panics, so that a signal handler may call it.
    // SAFETY: NULL, or a token that is not freed yet.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.value().set();
    }
}

/// Makes a token fit for another call. Any thread; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_cancel_reset(cancel: *mut tern_cancel) {
    // SAFETY: NULL, or a token that is not freed yet.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.value().reset();
    }
}

/// Releases a token; NULL is fine. Safe while a call polls it: that call holds a reference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_cancel_free(cancel: *mut tern_cancel) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.release(cancel));
}
