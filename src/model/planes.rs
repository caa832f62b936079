//! The head a second time, in eight bits a weight: enough to say which rows need full precision.

use super::{RowMatrix, weights::Loader};
use crate::{
    error::{Error, Result, try_zeroed},
    file::Gguf,
    kernels::{
        Kernels,
        screen::{self, RowBounds},
    },
    packed::buffer::{Bytes, Pages},
    tensor::{DType, TensorInfo},
};
use rayon::prelude::*;
use std::ops::Range;

/// The tensor of a packed file that holds the planes.
pub(super) const NAME: &str = "tern.head";
/// Bytes of the bounds of a row, in a file and in memory.
pub(super) const BOUNDS: usize = 12;
/// A head with fewer weights is read whole as quickly.
const WORTH: usize = 1 << 23;
/// Rows that one task splits.
const TASK: usize = 256;

/// Nibbles of every row in two planes, and what they leave out (see [`crate::kernels::screen`]).
#[derive(Debug)]
pub struct Planes {
    k: usize,
    high: Bytes,
    low: Bytes,
    bounds: Vec<RowBounds>,
}

impl Planes {
    /// Values of a row.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.bounds.len()
    }

    /// The high nibbles of some rows, `k / 2` bytes each.
    #[must_use]
    pub fn high(&self, rows: Range<usize>) -> &[u8] {
        &self.high.as_slice()[rows.start * self.k / 2..rows.end * self.k / 2]
    }

    /// The low nibbles of some rows.
    #[must_use]
    pub fn low(&self, rows: Range<usize>) -> &[u8] {
        &self.low.as_slice()[rows.start * self.k / 2..rows.end * self.k / 2]
    }

    /// What the nibbles leave out, a row.
    #[must_use]
    pub fn bounds(&self) -> &[RowBounds] {
        &self.bounds
    }

    /// Bytes of the planes, and whether they are a part of a mapped file.
    #[must_use]
    pub fn bytes(&self) -> (usize, bool) {
        (self.rows() * self.k, self.high.is_mapped())
    }

    /// Bytes of the bounds.
    #[must_use]
    pub fn bounds_bytes(&self) -> usize {
        self.rows() * BOUNDS
    }

    /// The bounds as a file holds them.
    pub(super) fn bounds_as_bytes(&self) -> Vec<u8> {
        let floats = |row: &RowBounds| [row.step, row.rest, row.norm];
        self.bounds.iter().flat_map(floats).flat_map(f32::to_le_bytes).collect()
    }
}

/// Whether a load will have planes, and if so whether the file brings them.
pub(super) fn planned(gguf: &Gguf, rows: usize, k: usize, wanted: Option<bool>) -> Option<bool> {
    let brought = gguf.tensor(NAME).is_some();
    let has = screen::fits(k) && wanted.unwrap_or(brought || rows * k >= WORTH);
    has.then_some(brought)
}

impl Loader<'_, '_> {
    /// The planes of a head, from the file or made of its rows; `None` if they were not asked for or do not pay.
    pub(super) fn planes(&mut self, head: &RowMatrix) -> Result<Option<Planes>> {
        let (rows, k) = (head.rows(), head.k());
        let wanted = self.options.packing.screen;
        if wanted == Some(true) && !screen::fits(k) {
            let text = format!("a screened head: rows of {k} values are not whole blocks of 128");
            return Err(Error::Unsupported(text.into()));
        }
        match planned(self.gguf, rows, k, wanted) {
            None => Ok(None),
            Some(true) => {
                let tensor = self.find(NAME, rows, k)?;
                self.brought(&tensor, rows, k).map(Some)
            }
            Some(false) => self.split(head).map(Some),
        }
    }

    /// Maps what an earlier conversion wrote.
    fn brought(&mut self, tensor: &TensorInfo, rows: usize, k: usize) -> Result<Planes> {
        if tensor.dtype != DType::TERN_H8 {
            let rule = format!("type {}, {} is wanted", tensor.dtype.name(), DType::TERN_H8.name());
            return Err(Error::bad_model(NAME, rule));
        }
        let (source, start) = (self.gguf.source(), tensor.range().start);
        let plane = (rows * k / 2) as u64;
        let floats = source.bytes(start + 2 * plane..tensor.range().end)?;
        let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let bounds = floats.chunks_exact(BOUNDS).map(|row| RowBounds {
            step: float(row),
            rest: float(&row[4..]),
            norm: float(&row[8..]),
        });
        let planes = Planes {
            k,
            high: Bytes::from_source(source, start..start + plane)?,
            low: Bytes::from_source(source, start + plane..start + 2 * plane)?,
            bounds: bounds.collect(),
        };
        self.step()?;
        Ok(planes)
    }

    /// Splits every row, on the pool.
    fn split(&mut self, head: &RowMatrix) -> Result<Planes> {
        let (rows, k, kernels) = (head.rows(), head.k(), self.kernels);
        let mut high = Pages::zeroed(rows * k / 2)?;
        let mut low = Pages::zeroed(rows * k / 2)?;
        let mut bounds = Vec::new();
        let out_of_memory =
            |_| Error::OutOfMemory { what: "bounds of the head", bytes: (rows * BOUNDS) as u64 };
        bounds.try_reserve_exact(rows).map_err(out_of_memory)?;
        bounds.resize(rows, RowBounds::default());
        let (cancel, task) = (&self.cancel, TASK * k / 2);
        self.pool.install(|| {
            let planes = high
                .as_mut_slice()
                .par_chunks_mut(task)
                .zip(low.as_mut_slice().par_chunks_mut(task));
            planes.zip(bounds.par_chunks_mut(TASK)).enumerate().try_for_each_init(
                || try_zeroed(k, "a row"),
                |row, (task, ((high, low), bounds))| {
                    cancel.check()?;
                    let row = row
                        .as_mut()
                        .map_err(|_| Error::OutOfMemory { what: "a row", bytes: 4 * k as u64 })?;
                    let planes = high.chunks_exact_mut(k / 2).zip(low.chunks_exact_mut(k / 2));
                    for (i, ((high, low), bounds)) in planes.zip(bounds).enumerate() {
                        let r = task * TASK + i;
                        Kernels::decode_row(head.row_range(r..r + 1), head.kind(), row);
                        *bounds = kernels.split_row(row, high, low);
                    }
                    Ok::<(), Error>(())
                },
            )
        })?;
        Ok(Planes { k, high: Bytes::Owned(high), low: Bytes::Owned(low), bounds })
    }
}
