//! Handles: what C holds of a Rust value, checking itself out to one call at a time.
//!
//! ```text
//! state of a Handle   bit 31      bit 30    bit 29      bit 28    bits 0..=27
//!                     exclusive   freed     poisoned    lent      calls that look
//! ```
//!
//! A [`Handle`] is for what changes: one mutating call, or any number of looking ones; everybody else is answered
//! BUSY. A [`Shared`] is for what does not: any number of calls, each with a reference of its own. Freeing one in
//! use marks it, and the last call in it releases it.

use super::{
    boundary::Call,
    error::Failure,
    sync::{Arc, AtomicBool, AtomicU32, Ordering},
};
use crate::error::Error;
use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    thread,
};

const EXCLUSIVE: u32 = 1 << 31;
const FREED: u32 = 1 << 30;
const POISONED: u32 = 1 << 29;
/// Lent: it is a part of another handle, and freeing it does nothing.
const LENT: u32 = 1 << 28;
const LOOKING: u32 = LENT - 1;

/// A value that one call at a time may change.
pub(super) struct Handle<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the state lets either one thread at the value, or several that only read it.
unsafe impl<T: Send + Sync> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// A handle that C owns.
    pub(super) fn give(value: T) -> *mut Self {
        let state = AtomicU32::new(0);
        Box::into_raw(Box::new(Handle { state, value: UnsafeCell::new(value) }))
    }

    /// Checks the value out, to change it or only to look.
    fn enter(&self, exclusive: bool) -> Result<(), Error> {
        let allowed = |state: u32| {
            let taken = if exclusive { EXCLUSIVE | LOOKING } else { EXCLUSIVE };
            if state & (taken | FREED) != 0 || state & LOOKING == LOOKING {
                Err(Error::Busy)
            } else if state & POISONED != 0 {
                Err(Error::Poisoned)
            } else if exclusive {
                Ok(state | EXCLUSIVE)
            } else {
                Ok(state + 1)
            }
        };
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let next = allowed(state)?;
            let swap =
                self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed);
            match swap {
                Ok(_) => return Ok(()),
                Err(current) => state = current,
            }
        }
    }

    /// Drops the handle, or marks it for the last call in it. One that is lent stays.
    fn give_up(handle: NonNull<Self>) {
        // SAFETY: its owner, who calls this once, has not freed it before.
        let state = unsafe { &(*handle.as_ptr()).state };
        if state.load(Ordering::Relaxed) & LENT != 0 {
            return;
        }
        let before = state.fetch_or(FREED, Ordering::AcqRel);
        if before & (EXCLUSIVE | LOOKING | FREED) == 0 {
            // SAFETY: it came from a box, its owner gives it up here, and no call is in it.
            drop(unsafe { Box::from_raw(handle.as_ptr()) });
        }
    }

    /// Checks the value back in; drops it if it was freed meanwhile and nobody else is in.
    fn leave(handle: NonNull<Self>, exclusive: bool, poison: bool) {
        // SAFETY: a call that entered keeps the handle alive until it has left.
        let state = unsafe { &(*handle.as_ptr()).state };
        if poison {
            state.fetch_or(POISONED, Ordering::Relaxed);
        }
        let before = if exclusive {
            state.fetch_and(!EXCLUSIVE, Ordering::AcqRel) & !EXCLUSIVE
        } else {
            state.fetch_sub(1, Ordering::AcqRel) - 1
        };
        if before & FREED != 0 && before & (EXCLUSIVE | LOOKING) == 0 {
            // SAFETY: it came from `give`, C gave its reference up, and no call is in it.
            drop(unsafe { Box::from_raw(handle.as_ptr()) });
        }
    }
}

/// A handle that C borrows: it goes with its owner, or with the last call in it.
pub(super) struct Lent<T>(NonNull<Handle<T>>);

// SAFETY: the handle is on the heap and checks itself out, whichever thread has it.
unsafe impl<T: Send + Sync> Send for Lent<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Lent<T> {}

impl<T> Lent<T> {
    pub(super) fn new(value: T) -> Self {
        let handle = Handle { state: AtomicU32::new(LENT), value: UnsafeCell::new(value) };
        Lent(NonNull::from(Box::leak(Box::new(handle))))
    }

    /// What C gets.
    pub(super) fn get(&self) -> *mut Handle<T> {
        self.0.as_ptr()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: it is freed here and nowhere else.
        let state = unsafe { &(*self.0.as_ptr()).state };
        state.fetch_and(!LENT, Ordering::AcqRel);
        Handle::give_up(self.0);
    }
}

/// A value that is checked out to be changed.
pub(super) struct Taken<'a, T> {
    handle: &'a Handle<T>,
    unwinding: bool,
}

/// A value that is checked out to be looked at.
pub(super) struct Looked<'a, T> {
    handle: &'a Handle<T>,
    unwinding: bool,
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: `enter` gave this call alone the value.
        unsafe { &*self.handle.value.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.handle.value.get() }
    }
}

impl<T> Deref for Looked<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: `enter` lets no call change the value meanwhile.
        unsafe { &*self.handle.value.get() }
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        // A host may call while it unwinds itself: that is no reason to poison.
        let poison = thread::panicking() && !self.unwinding;
        Handle::leave(NonNull::from(self.handle), true, poison);
    }
}

impl<T> Drop for Looked<'_, T> {
    fn drop(&mut self) {
        let poison = thread::panicking() && !self.unwinding;
        Handle::leave(NonNull::from(self.handle), false, poison);
    }
}

/// A value that does not change; C's pointer is a reference that it counts.
pub(super) struct Shared<T> {
    poisoned: AtomicBool,
    value: T,
}

impl<T> Shared<T> {
    /// A reference that C owns.
    pub(super) fn give(value: T) -> *mut Self {
        Arc::into_raw(Arc::new(Shared { poisoned: AtomicBool::new(false), value })).cast_mut()
    }

    /// The value, whatever happened to it.
    pub(super) fn value(&self) -> &T {
        &self.value
    }
}

/// A shared value, held for the length of a call.
pub(super) struct Held<T> {
    shared: Arc<Shared<T>>,
    unwinding: bool,
}

impl<T> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.shared.value
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if thread::panicking() && !self.unwinding {
            self.shared.poisoned.store(true, Ordering::Relaxed);
        }
    }
}

fn null(name: &'static str) -> Failure {
    Error::InvalidArgument(format!("{name} is NULL").into()).into()
}

impl Call {
    /// Checks a handle out to change its value.
    pub(super) fn take<T>(
        &self,
        handle: *mut Handle<T>,
        name: &'static str,
    ) -> Result<Taken<'_, T>, Failure> {
        let handle = self.handle(handle, name)?;
        handle.enter(true)?;
        Ok(Taken { handle, unwinding: thread::panicking() })
    }

    /// Checks a handle out to look at its value.
    pub(super) fn look<T>(
        &self,
        handle: *const Handle<T>,
        name: &'static str,
    ) -> Result<Looked<'_, T>, Failure> {
        let handle = self.handle(handle, name)?;
        handle.enter(false)?;
        Ok(Looked { handle, unwinding: thread::panicking() })
    }

    fn handle<T>(
        &self,
        handle: *const Handle<T>,
        name: &'static str,
    ) -> Result<&Handle<T>, Failure> {
        // SAFETY: the call's contract: NULL, or a handle that `give` made and that was not freed before the call.
        unsafe { handle.as_ref() }.ok_or_else(|| null(name))
    }

    /// Gives a handle up. One in use is released by the last call in it.
    pub(super) fn free<T>(&self, handle: *mut Handle<T>) {
        if let Some(handle) = NonNull::new(handle) {
            Handle::give_up(handle);
        }
    }

    /// Holds a shared value for the length of the call, or longer.
    pub(super) fn hold<T>(
        &self,
        shared: *const Shared<T>,
        name: &'static str,
    ) -> Result<Held<T>, Failure> {
        let shared = self.counted(shared).ok_or_else(|| null(name))?;
        if shared.poisoned.load(Ordering::Relaxed) {
            return Err(Error::Poisoned.into());
        }
        Ok(Held { shared: Arc::clone(&shared), unwinding: thread::panicking() })
    }

    /// As [`hold`](Self::hold), where NULL means none.
    pub(super) fn hold_opt<T>(
        &self,
        shared: *const Shared<T>,
        name: &'static str,
    ) -> Result<Option<Held<T>>, Failure> {
        if shared.is_null() { Ok(None) } else { self.hold(shared, name).map(Some) }
    }

    /// One reference more; NULL for NULL.
    pub(super) fn retain<T>(&self, shared: *const Shared<T>) -> *mut Shared<T> {
        if let Some(counted) = self.counted(shared) {
            std::mem::forget(Arc::clone(&counted));
        }
        shared.cast_mut()
    }

    /// One reference less.
    pub(super) fn release<T>(&self, shared: *mut Shared<T>) {
        if let Some(counted) = self.counted(shared) {
            drop(ManuallyDrop::into_inner(counted));
        }
    }

    /// C's own reference, which stays C's unless it is taken out.
    fn counted<T>(&self, shared: *const Shared<T>) -> Option<ManuallyDrop<Arc<Shared<T>>>> {
        if shared.is_null() {
            return None;
        }
        // SAFETY: the call's contract: it came from `give`, and C still has a reference.
        Some(ManuallyDrop::new(unsafe { Arc::from_raw(shared) }))
    }
}
