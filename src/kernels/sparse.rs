//! Products that leave out what a zero makes irrelevant: exact, because a zero times a weight is zero.
//!
//! After `relu(gate)^2 * up` most values are zero: a row of `up` whose gate is not positive need not
//! be read, and a column of `down` whose activation is zero need not either.

use super::{Form, Kernels};

/// The activations of one token that are not zero.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Which values of the row, in increasing order.
    pub places: &'a [u32],
    /// Their codes.
    pub codes: &'a [i8],
    /// The sum of the codes.
    pub sum: i32,
}

impl<'a> Live<'a> {
    /// Collects what is not zero of `codes`; `places` and `kept` have room for as many.
    ///
    /// # Panics
    ///
    /// If there is less room.
    pub fn collect(codes: &[i8], places: &'a mut [u32], kept: &'a mut [i8]) -> Live<'a> {
        assert!(places.len() >= codes.len() && kept.len() >= codes.len(), "room for every code");
        let (mut count, mut sum) = (0, 0);
        for (place, code) in (0u32..).zip(codes) {
            // Every value is written, and the next one overwrites a zero: no branch to predict.
            (places[count], kept[count]) = (place, *code);
            count += usize::from(*code != 0);
            sum += i32::from(*code);
        }
        Live { places: &places[..count], codes: &kept[..count], sum }
    }
}

/// One row of acts against rows in [`Form::ROWS`].
#[derive(Clone, Copy, Debug)]
pub struct RowsOf<'a> {
    /// Whole rows, one after the other: any run of a matrix.
    pub rows: &'a [u8],
    /// Weights of a row, a multiple of 256.
    pub k: usize,
    /// The acts of one token, `[k]` or more.
    pub acts: &'a [i8],
    /// Their sum.
    pub sum: i32,
}

/// The sparse products of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Sparse {
    pub live_rows: unsafe fn(of: RowsOf<'_>, live: &[u32], out: &mut [i32]),
    pub live_columns: unsafe fn(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]),
}

impl Kernels {
    /// `out[i] = row live[i] . acts`, exactly. `live` is best in increasing order.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or a row does not exist.
    pub fn live_rows(&self, of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
        assert!(of.k > 0 && Form::ROWS.fits(of.k) && of.acts.len() >= of.k, "acts must match k");
        let bytes = of.k / 4;
        assert!(of.rows.len().is_multiple_of(bytes), "whole rows");
        let count = of.rows.len() / bytes;
        assert!(live.iter().all(|row| (*row as usize) < count), "a row that does not exist");
        assert_eq!(live.len(), out.len(), "out must match live");
        // SAFETY: a table leaves this module only through `available`, which detects what its functions enable.
        unsafe { (self.sparse.live_rows)(of, live, out) }
    }

    /// `out[r] = row r . acts`, exactly, for the 256 rows of one panel in [`Form::COLUMNS`].
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or a column does not exist.
    pub fn live_columns(&self, panel: &[u8], live: Live<'_>, out: &mut [i32]) {
        assert!(panel.len().is_multiple_of(64), "whole columns");
        let count = panel.len() / 64;
        assert!(live.places.iter().all(|k| (*k as usize) < count), "a column that does not exist");
        assert_eq!(live.places.len(), live.codes.len(), "codes must match places");
        let out = out.try_into().expect("a panel has 256 rows");
        // SAFETY: as in `live_rows`.
        unsafe { (self.sparse.live_columns)(panel, live, out) }
    }
}
