//! The head a second time, in eight bits a weight: enough to say which rows need full precision, six of them for most.

use super::{RowMatrix, weights::Loader};
use crate::{
    error::{Error, Result, try_zeroed},
    file::Gguf,
    kernels::{
        Kernels, in_order,
        screen::{self, ROWS, RowBounds},
    },
    packed::buffer::{Bytes, Pages},
    tensor::{DType, TensorInfo},
};
use rayon::prelude::*;
use std::ops::Range;

/// The tensor of a packed file that holds the planes.
pub(super) const NAME: &str = "tern.head";
/// Bytes of the bounds of a row, in a file and in memory.
pub(super) const BOUNDS: usize = 16;
/// A head with fewer weights is read whole as quickly.
const WORTH: usize = 1 << 23;
/// Rows that one task splits.
const TASK: usize = 256;
/// Rows up to this many are read past a map: each takes 1.4 us so, and 0.2 where the map has it.
pub(crate) const FEW: usize = 32;

/// Which pairs of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Those below the nibbles.
    Middle,
    /// The lowest.
    Low,
}

/// Bits of every row in three planes, and what they leave out (see [`crate::kernels::screen`]).
#[derive(Debug)]
pub struct Planes {
    k: usize,
    /// Nibbles.
    high: Bytes,
    /// Pairs.
    middle: Bytes,
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

    /// The high nibbles of whole groups of rows, `k / 2` bytes a row.
    #[must_use]
    pub fn high(&self, rows: Range<usize>) -> &[u8] {
        debug_assert!(rows.start.is_multiple_of(ROWS), "whole groups");
        &self.high.as_slice()[rows.start * self.k / 2..rows.end * self.k / 2]
    }

    /// The pairs of bits below them, `k / 4` bytes each.
    #[must_use]
    pub fn middle(&self, rows: Range<usize>) -> &[u8] {
        &self.middle.as_slice()[rows.start * self.k / 4..rows.end * self.k / 4]
    }

    /// The lowest pairs, `k / 4` bytes each.
    #[must_use]
    pub fn low(&self, rows: Range<usize>) -> &[u8] {
        &self.low.as_slice()[rows.start * self.k / 4..rows.end * self.k / 4]
    }

    /// The pairs of some rows: a plane, and which of its rows they are. Those of few rows of a mapped file are read into `room`,
    /// if it has `k / 4` bytes for each: to touch the map makes all resident that the system holds around them.
    #[must_use]
    pub fn pairs<'a>(
        &'a self,
        pairs: Pairs,
        rows: &'a [u32],
        room: &'a mut [u8],
    ) -> (&'a [u8], &'a [u32]) {
        static IN_ORDER: [u32; FEW] = in_order();
        let bytes = self.k / 4;
        let plane = match pairs {
            Pairs::Middle => &self.middle,
            Pairs::Low => &self.low,
        };
        let few = IN_ORDER.get(..rows.len()).zip(room.get_mut(..rows.len() * bytes));
        if let Some((order, room)) = few
            && room
                .chunks_exact_mut(bytes)
                .zip(rows)
                .all(|(room, row)| plane.read_past_map(*row as usize * bytes, room))
        {
            return (room, order);
        }
        (plane.as_slice(), rows)
    }

    /// The nibbles of some rows as a group, written to `room`, which has `2 * k` bytes at least.
    #[must_use]
    pub fn group<'a>(&self, rows: [usize; ROWS], room: &'a mut [u8]) -> &'a [u8] {
        let room = &mut room[..ROWS * self.k / 2];
        for (r, row) in rows.into_iter().enumerate() {
            let first = row - row % ROWS;
            let count = ROWS.min(self.rows() - first);
            let lines = self.high(first..first + count).chunks_exact(64).skip(row - first);
            let out = room.chunks_exact_mut(64).skip(r).step_by(ROWS);
            out.zip(lines.step_by(count)).for_each(|(out, line)| out.copy_from_slice(line));
        }
        room
    }

    /// What the planes leave out, a row.
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
        self.bounds.iter().flat_map(floats).flat_map(f32::to_le_bytes).collect()
    }
}

/// Bounds in the order of a file.
fn floats(row: &RowBounds) -> [f32; 4] {
    [row.step, row.rest, row.coarse, row.norm]
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
                let brought = self.brought(&tensor, rows, k)?;
                if self.options.verify {
                    self.verify(head, &brought)?;
                }
                Ok(Some(brought))
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
        let quarter = (rows * k / 4) as u64;
        let floats = source.bytes(start + 4 * quarter..tensor.range().end)?;
        let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let bounds = floats.chunks_exact(BOUNDS).map(|row| RowBounds {
            step: float(row),
            rest: float(&row[4..]),
            coarse: float(&row[8..]),
            norm: float(&row[12..]),
        });
        let part = |from: u64, to: u64| {
            Bytes::from_source(source, start + from * quarter..start + to * quarter)
        };
        let planes = Planes {
            k,
            high: part(0, 2)?,
            middle: part(2, 3)?,
            low: part(3, 4)?,
            bounds: bounds.collect(),
        };
        source.advise_dontneed(start + 4 * quarter..tensor.range().end);
        self.step()?;
        Ok(planes)
    }

    /// Whether what the file brought is what its head gives.
    fn verify(&mut self, head: &RowMatrix, brought: &Planes) -> Result<()> {
        let made = self.split(head)?;
        let bits = |row| floats(row).map(f32::to_bits);
        let bounds = made.bounds.iter().zip(&brought.bounds);
        let row = bounds.map(|(made, brought)| bits(made) == bits(brought)).position(|same| !same);
        let group = (0..made.rows()).step_by(ROWS).find(|first| {
            let rows = *first..made.rows().min(first + ROWS);
            made.high(rows.clone()) != brought.high(rows.clone())
                || made.middle(rows.clone()) != brought.middle(rows.clone())
                || made.low(rows.clone()) != brought.low(rows)
        });
        let differs = row.or(group);
        match differs {
            None => Ok(()),
            Some(row) => {
                let rule =
                    format!("from row {row} on not what the head gives: convert the model again");
                Err(Error::bad_model(NAME, rule))
            }
        }
    }

    /// Splits every row, on the pool.
    fn split(&mut self, head: &RowMatrix) -> Result<Planes> {
        let (rows, k, kernels) = (head.rows(), head.k(), self.kernels);
        let mut high = Pages::zeroed(rows * k / 2)?;
        let [mut middle, mut low] = [Pages::zeroed(rows * k / 4)?, Pages::zeroed(rows * k / 4)?];
        let mut bounds = Vec::new();
        let out_of_memory =
            |_| Error::OutOfMemory { what: "bounds of the head", bytes: (rows * BOUNDS) as u64 };
        bounds.try_reserve_exact(rows).map_err(out_of_memory)?;
        bounds.resize(rows, RowBounds::default());
        let (cancel, quarter) = (&self.cancel, TASK * k / 4);
        self.pool.install(|| {
            let planes = high
                .as_mut_slice()
                .par_chunks_mut(2 * quarter)
                .zip(middle.as_mut_slice().par_chunks_mut(quarter))
                .zip(low.as_mut_slice().par_chunks_mut(quarter));
            planes.zip(bounds.par_chunks_mut(TASK)).enumerate().try_for_each_init(
                || Ok((try_zeroed(k, "a row")?, try_zeroed(ROWS * k / 2, "nibbles of a row")?)),
                |buffers: &mut Result<(Vec<f32>, Vec<u8>)>,
                 (task, (((high, middle), low), bounds))| {
                    cancel.check()?;
                    let (row, nibbles) = buffers
                        .as_mut()
                        .map_err(|_| Error::OutOfMemory { what: "a row", bytes: 6 * k as u64 })?;
                    let pairs = middle.chunks_mut(ROWS * k / 4).zip(low.chunks_mut(ROWS * k / 4));
                    let (first, len) = (task * TASK, bounds.len());
                    let groups = high.chunks_mut(ROWS * k / 2).zip(pairs);
                    for (group, ((high, (middle, low)), bounds)) in
                        groups.zip(bounds.chunks_mut(ROWS)).enumerate()
                    {
                        let nibbles = &mut nibbles[..high.len()];
                        let pairs = middle.chunks_exact_mut(k / 4).zip(low.chunks_exact_mut(k / 4));
                        let planes = nibbles.chunks_exact_mut(k / 2).zip(pairs);
                        for (i, ((high, (middle, low)), bounds)) in planes.zip(bounds).enumerate() {
                            let r = first + group * ROWS + i;
                            Kernels::decode_row(head.row_range(r..r + 1), head.kind(), row);
                            *bounds = kernels.split_row(row, [high, middle, low]);
                        }
                        screen::group_rows(nibbles, k, high);
                    }
                    // The pages of a map would pile up beside the planes.
                    head.advise_dontneed(first..first + len);
                    Ok::<(), Error>(())
                },
            )
        })?;
        let [high, middle, low] = [high, middle, low].map(Bytes::Owned);
        Ok(Planes { k, high, middle, low, bounds })
    }
}
