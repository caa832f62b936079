//! A ternary language model inside any native program.

#![deny(unsafe_code)]

pub mod control;
pub mod error;
pub mod file;
pub mod kernels;
mod ops;
pub mod packed;
pub mod sampler;
pub mod tensor;
pub mod text;
pub mod threads;

pub use control::{Cancel, Progress};
pub use error::{Error, Result};
