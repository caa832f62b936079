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

/// Of a hundred columns, how many live ones make it faster to read all: the CPU's prefetchers then take the live
/// ones for a stream and fetch what lies between. On a Zen 4 even at about 40.
const DENSE_COLUMNS: usize = 40;

/// The same for rows: longer runs, later even.
const DENSE_ROWS: usize = 60;

/// Which gates are positive, or all rows where skipping would not pay; `live` has room for as many. Gives their
/// number.
///
/// # Panics
///
/// If there is less room.
pub fn positive(gates: &[f32], live: &mut [u32]) -> usize {
    assert!(live.len() >= gates.len(), "room for every row");
    let mut count = 0;
    for (place, gate) in (0u32..).zip(gates) {
        live[count] = place;
        count += usize::from(*gate > 0.0);
    }
    if count * 100 <= gates.len() * DENSE_ROWS {
        return count;
    }
    for (place, live) in (0u32..).zip(&mut live[..gates.len()]) {
        *live = place;
    }
    gates.len()
}

impl<'a> Live<'a> {
    /// Collects what is not zero of `codes`, or everything where skipping would not pay; `places` and `kept` have
    /// room for as many.
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
        if count * 100 > codes.len() * DENSE_COLUMNS {
            count = codes.len();
            kept[..count].copy_from_slice(codes);
            for (place, kept) in (0u32..).zip(&mut places[..count]) {
                *kept = place;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_left_out_where_that_pays() {
        let mut codes = vec![0i8; 100];
        (codes[3], codes[50], codes[99]) = (-5, 127, 1);
        let (mut places, mut kept) = (vec![9; 100], vec![9; 100]);
        let live = Live::collect(&codes, &mut places, &mut kept);
        assert_eq!((live.places, live.codes, live.sum), (&[3, 50, 99][..], &[-5, 127, 1][..], 123));
        codes[..41].fill(2);
        let live = Live::collect(&codes, &mut places, &mut kept);
        assert_eq!((live.places.len(), live.codes, live.sum), (100, &codes[..], 82 + 128));
        assert!(live.places.iter().enumerate().all(|(i, place)| *place as usize == i));
    }

    #[test]
    fn gates_that_are_not_positive_are_left_out_where_that_pays() {
        let mut gates = vec![-1.0f32; 100];
        (gates[0], gates[7], gates[8], gates[98]) = (0.0, 1e-30, f32::NAN, f32::INFINITY);
        let mut live = vec![0; 100];
        let count = positive(&gates, &mut live);
        assert_eq!(live[..count], [7, 98]);
        gates[..61].fill(1.0);
        assert_eq!(positive(&gates, &mut live), 100);
        assert!(live.iter().enumerate().all(|(i, row)| *row as usize == i));
        assert_eq!(positive(&[], &mut []), 0);
    }
}
