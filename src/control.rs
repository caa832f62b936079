//! How a host stops long work: a cancel token, and a progress callback.

use crate::error::{Error, Result};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A flag that any thread, and a signal handler, may raise.
///
/// Clones share the flag. Long calls poll it at each layer, each 4096 rows of
/// the head and each tensor that loads.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every call that holds this token to stop soon.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lowers the flag.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the flag is raised.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`Error::Cancelled`] if the flag is raised.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Told how far a load or conversion is, from 0 to 1; answers whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(f32) -> bool;
