//! Bytes on disk → a directory of tensors.
//!
//! A [`Source`] is where a model's bytes are: a mapped file, a part of an open
//! file, memory of the host, or a reader. [`Gguf`] is what its header says:
//! [`Metadata`] and checked [`TensorInfo`](crate::tensor::TensorInfo)s, whose
//! bytes [`Gguf::tensor_bytes`] hands out. [`Writer`] is the way back.
//!
//! Neighbours may rely on this: a `Gguf` that parsed has no key or tensor
//! twice, and every tensor lies within the file, apart from all others, with
//! exactly the bytes its kind and shape ask for. What the names and numbers
//! mean is not known here.

mod cursor;
mod directory;
mod gguf;
mod map;
mod metadata;
mod replace;
mod source;
mod value;
mod write;

pub use gguf::{Gguf, HEADER_BYTES_MAX, KEYS_MAX, TENSORS_MAX};
pub use map::lock_pages;
pub use metadata::Metadata;
pub(crate) use replace::replace;
pub use source::{OpenOptions, ReadAt, Source};
pub use value::{Array, Kind, Value};
pub use write::{Body, Writer};
