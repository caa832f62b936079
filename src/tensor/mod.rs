//! What a stored array is: its name, its element kind, its shape and its place.
//!
//! Nothing here reads a file. [`TensorInfo`] is what a directory entry says
//! after every count in it was checked; the bytes come from
//! [`Source`](crate::file::Source).

mod dtype;
mod lines;
mod shape;

pub(crate) use dtype::foreign_type;
pub use dtype::{DType, PACKED_IDS};
pub(crate) use lines::Lines;
pub use shape::Shape;

use std::ops::Range;

/// One entry of a file's tensor directory, checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its elements are stored.
    pub dtype: DType,
    /// Its dimensions, the fastest first: a matrix is columns, rows.
    pub shape: Shape,
    /// First byte, counted from the start of the model file.
    pub offset: u64,
    /// Bytes it occupies, without the padding that follows.
    pub bytes: u64,
}

impl TensorInfo {
    /// The bytes it occupies in the model file.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        // The directory was checked: the sum lies within the file.
        self.offset..self.offset.saturating_add(self.bytes)
    }
}
