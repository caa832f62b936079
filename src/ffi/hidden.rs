//! Hides the C functions of dependencies from who loads the shared library: `build.rs` says how.

// In a cdylib the functions themselves are elsewhere; this is about their names alone, and emits no code.
core::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/hidden.s")));
