//! The primitives a team is made of; `tests/join_model.rs` puts a model checker's in their place.

pub(super) use std::{
    hint::spin_loop,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::yield_now,
};
