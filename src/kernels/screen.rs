//! Bounds on the scores of a full-precision head, from six and from eight bits a weight.
//!
//! Greedy and top-k choices need the exact score of few rows, and a bound on every other one: a row whose
//! bound lies below the best exact score cannot be chosen. The bound is rigorous, so that a choice after
//! screening is the choice of the full head, to the bit.
//!
//! # What is stored
//!
//! A row `e` of the head (as `decode_row` gives it) becomes `e ~ s * c`, `c = u - 128`, `u` a byte. Its high nibble and
//! the two pairs of bits below lie in three planes, so that the first two can be read alone:
//!
//! ```text
//! high:        groups of four rows (the last one of those that are left); of a group, block 0 of each row, block 1 of each, ...
//!              byte i of block b holds the nibbles k = 128*b + i (bits 0..=3) and k = 128*b + 64 + i (bits 4..=7)
//! middle, low: rows of k/4 bytes, one after the other; bits 2f, 2f+1 of byte i hold the pair of k = f*(k/4) + i
//!              k is a multiple of 128
//! ```
//!
//! A state `h` becomes two terms of eight bits, `h ~ a * (p + q / 256)`. The second meets the high nibbles alone, or is left out.
//!
//! # Why the bounds hold
//!
//! Let `n` be the length, `u = 2^-24`, `d = h - a*(p + q/256)`, `N = |h|`, `E = |e|`, all norms Euclidean. Let `C` be what is known
//! of `c`: `c` itself (*fine*), or `c` with 3/2 for its low pair (*coarse*); `r = e - s*C`; `B` the high nibble with 15/2 for
//! the rest, less 128; `m` the greatest `|C_i - B_i|`: 15/2 or 6. Where the second term is left out, `q = 0`.
//!
//! - `h.e = s*(h.C) + h.r` and `h.C = a*(p.C + q.C/256) + d.C`. With `D = p.C + q.B/256`,
//!   `|h.e - s*a*D| <= N*|r| + |d|*|s*C| + s*(a/256)*m*sum |q_i|`, and `|s*C| <= E + |r|` (Cauchy-Schwarz, triangle).
//! - The score is the `S16` sum in f32. A term passes `n/16` fused steps and 4 folds, so it is off by at most
//!   `g * sum |h_i*e_i| <= g*N*E` with `g = m*u / (1 - m*u)`, `m = ceil(n/16) + 4`.
//! - `s*a*D` is computed in f64, whose sums are exact here and whose products are off by less than `2^-50` of it. It is rounded to f32
//!   once, and once more whenever something is added: at most `2u` of each.
//!
//! Together `N*|r| + (|d| + N*g) * (E + |r|) + s*m*(a/256)*sum |q_i|` and the roundings. The stored norms are rounded up, the f32
//! arithmetic of the bound itself is covered by a factor of `1 + 2^-18`, results that underflow by `1e-24`. What is not
//! finite gives a bound that is not finite: such a row always survives a test written as "not below".

pub(super) mod six_bits;
mod split;

pub use split::Split;

use super::{Kernels, in_order};
use split::up;
use std::ops::Range;

pub(super) use split::limits;
#[cfg(target_arch = "x86_64")]
pub(super) use split::{DEVIATIONS, Known, MOST_COARSE, SPREAD};

/// What first bounds are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The nibbles of rows and both terms of a state: likely bounds.
    Nibbles,
    /// Nibbles, middle pairs and both terms: sure ones.
    BothTerms,
    /// Nibbles, middle pairs and the first term: wider ones of half the products.
    FirstTerm,
}

/// What is known of one row besides its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct RowBounds {
    /// `s`: what one step of a code is worth.
    pub step: f32,
    /// At least `|e - s*c|`.
    pub rest: f32,
    /// At least `|e - s*C|` where the low pairs are not known.
    pub coarse: f32,
    /// At least `|e|`.
    pub norm: f32,
}

/// Rows of the plane of nibbles that share the loads of their codes, and lie line by line.
pub const ROWS: usize = 4;

/// Rows of the plane of nibbles against a state.
#[derive(Clone, Copy, Debug)]
pub struct PlaneOf<'a> {
    /// Groups of [`ROWS`] rows; the last group may have fewer.
    pub rows: &'a [u8],
    /// Values of a row, a multiple of 128.
    pub k: usize,
    /// The codes of both terms, `[k]` each.
    pub codes: [&'a [i8]; 2],
}

/// Rows of a plane of pairs against the first term of a state.
#[derive(Clone, Copy, Debug)]
pub struct PairsOf<'a> {
    /// Whole rows, one after the other.
    pub rows: &'a [u8],
    /// Values of a row, a multiple of 128.
    pub k: usize,
    /// The codes of the first term, `[k]`.
    pub codes: &'a [i8],
}

/// Rows of the first two planes against the terms of several states.
#[derive(Clone, Copy, Debug)]
pub struct StatesOf<'a> {
    /// As in [`PlaneOf`].
    pub high: &'a [u8],
    /// The same rows, as in [`PairsOf`].
    pub middle: &'a [u8],
    /// Values of a row, a multiple of 128.
    pub k: usize,
    /// The codes of both terms of each state, `[state][k]`.
    pub codes: [&'a [i8]; 2],
}

/// The same against the first terms.
#[derive(Clone, Copy, Debug)]
pub struct FirstTermsOf<'a> {
    /// As in [`PlaneOf`].
    pub high: &'a [u8],
    /// The same rows, as in [`PairsOf`].
    pub middle: &'a [u8],
    /// Values of a row, a multiple of 128.
    pub k: usize,
    /// The codes of the first term of each state, `[state][k]`.
    pub codes: &'a [i8],
}

/// A row of the three planes: `k / 2`, `k / 4` and `k / 4` bytes.
pub type RowPlanes<'a> = [&'a mut [u8]; 3];

/// What the planes say of consecutive rows: products with a state, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct RowSums<'a> {
    /// What the planes leave out.
    pub bounds: &'a [RowBounds],
    /// From [`Kernels::nibbles`], [`Kernels::states`] or [`Kernels::first_terms`].
    pub sums: &'a [[i32; 2]],
    /// From which.
    pub basis: Basis,
}

/// Rows one after the other, [`ROWS`] of them or fewer, as a group lies.
///
/// # Panics
///
/// If the lengths differ, or are no whole rows of `k` values.
pub fn group_rows(rows: &[u8], k: usize, group: &mut [u8]) {
    let count = rows.len() / (k / 2);
    assert!(rows.len() == group.len() && rows.len() == count * (k / 2), "whole rows of a group");
    for (r, row) in rows.chunks_exact(k / 2).enumerate() {
        for (line, out) in row.chunks_exact(64).zip(group.chunks_exact_mut(64 * count)) {
            out[64 * r..][..64].copy_from_slice(line);
        }
    }
}

/// Rows that go through the planes together, and their numbers.
const TOGETHER: usize = 256;
const LIVE: [u32; TOGETHER] = in_order();
/// States together that the multiplier limits rather than the memory.
const MANY: usize = 3;

/// Whether rows of `k` values can be screened.
#[must_use]
pub const fn fits(k: usize) -> bool {
    k > 0 && k.is_multiple_of(128) && k <= super::MAX_K
}

/// Lanes of a sum over a row.
const LANES: usize = 8;
/// Values whose nibbles share a line.
const BLOCK: usize = 128;

/// A whole number as an integer, from -127 to 127; NaN, of a zero step or a strange weight, gives 0. Compares and a sum:
/// a conversion that saturates is not made wide.
#[inline(always)]
fn whole(x: f32) -> i32 {
    /// Whole numbers around it differ in their lowest bits alone.
    const MIDDLE: f32 = 12_582_912.0;
    let x = if x > 127.0 { 127.0 } else { x };
    let x = if x < -127.0 { -127.0 } else { x };
    let x = if x.is_nan() { 0.0 } else { x };
    (x + MIDDLE).to_bits() as i32 - MIDDLE.to_bits() as i32
}

/// The body of [`Kernels::split_row`], which every table stamps; sums run in lanes, so that they can be wide.
#[inline(always)]
pub(super) fn split_row(row: &[f32], [high, middle, low]: RowPlanes<'_>) -> RowBounds {
    let mut lanes = [0.0f32; 2 * LANES];
    for values in row.chunks_exact(2 * LANES) {
        for (max, x) in lanes.iter_mut().zip(values) {
            *max = if x.abs() > *max { x.abs() } else { *max };
        }
    }
    let max = lanes.iter().fold(0.0f32, |max, x| if *x > max { *x } else { max });
    let step = max / 127.0;
    let wide = f64::from(step);
    let (mut rest, mut coarse, mut square) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
    let quarter = row.len() / 4;
    middle.fill(0);
    low.fill(0);
    let (blocks, _) = row.as_chunks::<BLOCK>();
    let (lines, _) = high.as_chunks_mut::<64>();
    // Loops as long as a block, one thing each: shorter ones, and the lanes themselves, are unrolled before they can be wide.
    for (n, (values, line)) in blocks.iter().zip(lines).enumerate() {
        let mut bytes = [0u8; BLOCK];
        let [mut rests, mut coarses, mut squares] = [[0.0f64; BLOCK]; 3];
        for i in 0..BLOCK {
            let code = whole((values[i] / step).round_ties_even());
            let x = f64::from(values[i]);
            let left = x - wide * f64::from(code);
            let pair = f64::from((code + 128) & 3) - 1.5;
            bytes[i] = (code + 128) as u8;
            rests[i] = left * left;
            coarses[i] = (left + wide * pair) * (left + wide * pair);
            squares[i] = x * x;
        }
        for (sums, parts) in [(&mut rest, rests), (&mut coarse, coarses), (&mut square, squares)] {
            for part in parts.as_chunks::<LANES>().0 {
                *sums = std::array::from_fn(|lane| sums[lane] + part[lane]);
            }
        }
        for i in 0..64 {
            line[i] = bytes[i] >> 4 | bytes[i + 64] & 0xf0;
        }
        // 32 values never cross into the next quarter of a row.
        for (group, bytes) in bytes.as_chunks::<32>().0.iter().enumerate() {
            let first = BLOCK * n + 32 * group;
            let (field, at) = (first / quarter, first % quarter);
            let out = middle[at..at + 32].iter_mut().zip(&mut low[at..at + 32]);
            for ((middle, low), byte) in out.zip(bytes) {
                *middle |= (byte >> 2 & 3) << (2 * field);
                *low |= (byte & 3) << (2 * field);
            }
        }
    }
    let norm = square.iter().sum::<f64>().sqrt();
    // f64 rounds each difference and sum by 2^-53 of at most |e|: far below the margins.
    let above = |squares: [f64; LANES]| {
        up((squares.iter().sum::<f64>().sqrt() + 1e-12 * norm) * (1.0 + 1e-12))
    };
    RowBounds { step, rest: above(rest), coarse: above(coarse), norm: up(norm * (1.0 + 1e-12)) }
}

impl Kernels {
    /// Splits one row into its planes.
    ///
    /// # Panics
    ///
    /// If the row cannot be screened or the planes do not have its length.
    pub fn split_row(&self, row: &[f32], planes: RowPlanes<'_>) -> RowBounds {
        let k = row.len();
        assert!(
            fits(k) && planes.iter().zip([2, 4, 4]).all(|(plane, share)| plane.len() == k / share),
            "planes of a row"
        );
        // SAFETY: a table leaves this module only through `available`, which detects what its functions enable.
        unsafe { (self.split_row)(row, planes) }
    }

    /// For each row about what its score is, and what it is at most ([`Split::from_nibbles`] and the like).
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn limits(&self, split: &Split, rows: RowSums<'_>, score: &mut [f32], upper: &mut [f32]) {
        let n = rows.bounds.len();
        let lengths = [rows.sums.len(), score.len(), upper.len()];
        assert!(lengths.iter().all(|len| *len == n), "lengths of limits");
        // SAFETY: as in `split_row`.
        unsafe { (self.limits)(split, rows, score, upper) }
    }

    /// `out[i] = sum of pair * code` of row `live[i]` of a plane, exactly.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or a row does not exist.
    pub fn pairs(&self, of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
        assert!(fits(of.k) && of.codes.len() == of.k, "codes of a state");
        let bytes = of.k / 4;
        assert!(of.rows.len().is_multiple_of(bytes), "whole rows");
        let count = of.rows.len() / bytes;
        assert!(live.iter().all(|row| (*row as usize) < count), "a row that does not exist");
        assert_eq!(live.len(), out.len(), "out must match live");
        // SAFETY: as in `split_row`.
        unsafe { (self.pairs)(of, live, out) }
    }

    /// `out[i][t] = sum of nibble * code of term t` of row `i` of a plane, exactly.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn nibbles(&self, of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
        assert!(fits(of.k) && of.codes.iter().all(|codes| codes.len() == of.k), "codes of a state");
        assert_eq!(of.rows.len(), of.k / 2 * out.len(), "out must match the rows");
        // SAFETY: as in `split_row`.
        unsafe { (self.nibbles)(of, out) }
    }

    /// `out[state][row] = [sum of (4 * nibble + pair) * code of the first term, sum of nibble * code of the second]`, exactly.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn states(&self, of: StatesOf<'_>, out: &mut [[i32; 2]]) {
        let StatesOf { high, middle, k, codes } = of;
        assert!(
            fits(k) && codes.iter().all(|codes| codes.len() == codes.len() / k * k),
            "codes of states"
        );
        let (states, rows) = (codes[0].len() / k, middle.len() / (k / 4));
        assert!(codes[1].len() == codes[0].len() && middle.len() == k / 4 * rows, "whole rows");
        assert!(high.len() == 2 * middle.len() && out.len() == states * rows, "out must match");
        if rows == 0 {
            return;
        }
        match self.states {
            // SAFETY: as in `split_row`.
            Some(function) if states > 1 => unsafe { function(of, out) },
            _ => self.one_by_one(of, 0, rows, out),
        }
    }

    /// `out[state][row] = [sum of (4 * nibble + pair) * code, 0]`, exactly.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn first_terms(&self, of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
        let FirstTermsOf { high, middle, k, codes } = of;
        assert!(fits(k) && codes.len() == codes.len() / k * k, "codes of states");
        let (states, rows) = (codes.len() / k, middle.len() / (k / 4));
        assert!(high.len() == 2 * middle.len() && out.len() == states * rows, "out must match");
        assert!(middle.len() == k / 4 * rows, "whole rows");
        if rows == 0 {
            return;
        }
        match self.first_terms {
            // SAFETY: as in `split_row`.
            Some(function) => unsafe { function(of, out) },
            None => self.first_terms_one_by_one(of, 0, rows, out),
        }
    }

    /// What sure bounds of these states together are quickest from.
    #[must_use]
    pub fn sure_basis(&self, states: &[Split]) -> Basis {
        let is_fast = self.first_terms.is_some() && states.len() >= MANY;
        match is_fast && states.iter().all(Split::is_near_first) {
            true => Basis::FirstTerm,
            false => Basis::BothTerms,
        }
    }

    /// [`states`](Self::states) of the rows from `first` on, one state and a few rows after the other.
    pub(super) fn one_by_one(
        &self,
        of: StatesOf<'_>,
        first: usize,
        rows: usize,
        out: &mut [[i32; 2]],
    ) {
        let StatesOf { high, middle, k, codes } = of;
        let mut pairs = [0; TOGETHER];
        for from in (first..rows).step_by(TOGETHER) {
            let some = from..rows.min(from + TOGETHER);
            let [high, middle] =
                [(high, 2), (middle, 4)].map(|(plane, share)| part(plane, &some, k / share));
            let terms = codes[0].chunks_exact(k).zip(codes[1].chunks_exact(k));
            for ((p, q), out) in terms.zip(out.chunks_exact_mut(rows)) {
                let (out, pairs) = (&mut out[some.clone()], &mut pairs[..some.len()]);
                // A long stretch of one plane, then of the other.
                self.nibbles(PlaneOf { rows: high, k, codes: [p, q] }, out);
                self.pairs(PairsOf { rows: middle, k, codes: p }, &LIVE[..some.len()], pairs);
                for (out, pair) in out.iter_mut().zip(pairs) {
                    out[0] = 4 * out[0] + *pair;
                }
            }
        }
    }

    /// [`first_terms`](Self::first_terms) likewise.
    pub(super) fn first_terms_one_by_one(
        &self,
        of: FirstTermsOf<'_>,
        first: usize,
        rows: usize,
        out: &mut [[i32; 2]],
    ) {
        let FirstTermsOf { high, middle, k, codes } = of;
        self.one_by_one(StatesOf { high, middle, k, codes: [codes; 2] }, first, rows, out);
        for out in out.chunks_exact_mut(rows) {
            out[first..].iter_mut().for_each(|sums| sums[1] = 0);
        }
    }
}

/// Some rows of a plane.
fn part<'a>(plane: &'a [u8], rows: &Range<usize>, bytes: usize) -> &'a [u8] {
    &plane[rows.start * bytes..rows.end * bytes]
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
