//! The primitives a handle checks itself out with; `tests/handle_model.rs` puts a model checker's in their place.

pub(super) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
