//! A ternary language model inside any native program.

#![deny(unsafe_code)]

pub mod context;
pub mod control;
pub mod error;
mod ffi;
pub mod file;
mod hash;
pub mod kernels;
pub mod log;
pub mod model;
mod ops;
pub mod packed;
pub mod sampler;
pub mod session;
pub mod system;
pub mod tensor;
pub mod text;
pub mod threads;

pub use control::{Cancel, Progress};
pub use error::{Error, Result};
