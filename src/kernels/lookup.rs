//! Look-up tables across tokens: products of many rows with many tokens where multiplying is slow (Vec-LUT).
//!
//! Four acts of each token make a table with an entry for every way to weigh them; an entry is the sums of all tokens
//! side by side, in 16 bits. To add an entry then stands for four products of every token, and the rows of a part of the
//! work share the tables.
//!
//! ```text
//! index    [step][row]: 4 bytes; byte j = c0 + 3*c1 + 9*c2 + 27*c3, the codes of group j
//! tables   [group j][81][token]: entry c = sum over f of (c_f - 1) * act_f          |entry| <= 4*127 = 508
//!     act_f of group j is byte j of the word that `word` names: four consecutive values of a token
//!     16 steps add 64 entries: |sum| <= 32512 < 32767; then they are widened to 32 bits
//! ```
//!
//! The code is the same for every instruction set and is stamped for each, over its [`Lanes`]. The tables of four groups, 20 KiB for 32 tokens, stay in the nearest cache.

use super::{Acts, Code, Form, Kernels};
use crate::{error::Result, tensor::Lines};

mod index;
mod sums;

pub(super) use index::index;
pub(super) use sums::{Lanes, dots};

/// Rows that share tables at most: enough for the tables to cost little, few enough for their sums to stay in the
/// second cache.
pub const ROWS: usize = 1024;

/// Tokens side by side; for what is left over, half of them.
pub const TOKENS: usize = 32;
const HALF: usize = TOKENS / 2;

/// From 13 tokens on they lie in fours, but for the last ones.
const FEWEST: usize = 13;

/// What an index, 32 tokens that are looked up, and up to 16 cost: so many tokens that are multiplied. (A pass over 2B4T
/// on two cores of a Zen 5, AVX2; rounded.)
const COSTS: [usize; 3] = [3, 28, 15];

/// The most an index takes.
const INDEX_BYTES: usize = 1 << 20;

/// Groups of four weights that one word of an index numbers.
const GROUPS: usize = 4;

/// Ways to weigh four acts.
const WAYS: usize = 81;

/// Entries of all groups. Seven bits number an entry, whatever the bytes of the panel: the last groups have room for more.
const ENTRIES: usize = (GROUPS - 1) * WAYS + 128;

/// Steps between two widenings.
const FLUSH: usize = 16;

/// The functions of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct LookUp {
    pub index: unsafe fn(panels: &[u8], form: Form, k: usize, index: &mut [u8]),
    pub dots: unsafe fn(of: Indexed<'_>, acts: Acts<'_>, first: usize, &mut Room, out: &mut [i32]),
}

/// Rows as [`Kernels::index`] wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Indexed<'a> {
    /// `[step][row][4]`, in steps of an odd number of cache lines.
    pub index: &'a [u8],
    /// The form of the panels they came from.
    pub form: Form,
    /// Whole panels of rows, [`ROWS`] at most.
    pub rows: usize,
    /// Weights of a row.
    pub k: usize,
}

/// What the tables of a thread take.
#[derive(Debug, Default)]
pub struct Room {
    tables: Lines<i16>,
    /// Sums of each row, `[row][token]`.
    narrow: Lines<i16>,
    wide: Lines<i32>,
}

impl Room {
    /// Room for [`ROWS`] rows.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`].
    pub fn new() -> Result<Self> {
        let what = "look-up tables";
        Ok(Self {
            tables: Lines::zeroed(ENTRIES * TOKENS, what)?,
            narrow: Lines::zeroed(ROWS * TOKENS, what)?,
            wide: Lines::zeroed(ROWS * TOKENS, what)?,
        })
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        2 * (self.tables.len() + self.narrow.len()) + 4 * self.wide.len()
    }

    /// Bytes of a room.
    pub const BYTES: usize = (2 * ENTRIES + 6 * ROWS) * TOKENS;
}

impl Kernels {
    /// Whether some number of tokens, up to `most`, is looked up.
    #[must_use]
    pub fn may_look_up(&self, most: usize) -> bool {
        (0..=most.min(TOKENS)).any(|tokens| self.looks_up(tokens))
    }

    /// Whether it is sooner to look products of so many tokens up than to multiply.
    #[must_use]
    pub fn looks_up(&self, tokens: usize) -> bool {
        let [index, whole, half] = COSTS;
        let rest = match tokens % TOKENS {
            0 => 0,
            1..=HALF => half,
            _ => whole,
        };
        self.look_up.is_some() && index + tokens / TOKENS * whole + rest <= tokens
    }

    /// Numbers the entries of the rows of whole panels, once for all tokens.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or the table does not look up.
    pub fn index(&self, panels: &[u8], form: Form, k: usize, index: &mut [u8]) {
        let (bytes, look_up) = (form.panel_bytes(k), self.look_up.expect("a table that looks up"));
        assert!(panels.len().is_multiple_of(bytes), "whole panels of k = {k}");
        assert!(form.fits(k) && form.code != Code::Base3, "{form:?} has no index");
        let rows = panels.len() / bytes * form.rows();
        assert_eq!(index.len(), index_bytes(rows, k), "an index of {rows} rows");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (look_up.index)(panels, form, k, index) }
    }

    /// [`dots`](Self::dots) of many panels and of the tokens from `first` on, [`TOKENS`] at most: `[panel][tokens][panel rows]`.
    /// Gives the tokens.
    ///
    /// # Panics
    ///
    /// As `index`; and if there are too few tokens, or they begin within a block.
    pub fn look_up(
        &self,
        of: Indexed<'_>,
        acts: Acts<'_>,
        first: usize,
        room: &mut Room,
        out: &mut [i32],
    ) -> usize {
        self.assert_fits(of.form, of.k, acts);
        let tokens = TOKENS.min(acts.tokens() - first);
        let fit = acts.tokens() >= FEWEST && acts.layout.block == 4;
        assert!(fit && first.is_multiple_of(TOKENS), "{} tokens from {first}", acts.tokens());
        assert!(of.rows <= ROWS && of.rows.is_multiple_of(of.form.rows()), "whole panels");
        assert_eq!(of.index.len(), index_bytes(of.rows, of.k), "an index of the rows");
        assert!(out.len() >= of.rows * tokens, "out must match rows and tokens");
        let look_up = self.look_up.expect("a table that looks up");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (look_up.dots)(of, acts, first, room, &mut out[..of.rows * tokens]) }
        tokens
    }
}

/// Bytes of the index of some rows.
#[must_use]
pub fn index_bytes(rows: usize, k: usize) -> usize {
    // In every form that has an index a step is 16 weights of a row.
    GROUPS * stride(rows) * k.div_ceil(16)
}

/// Rows of a step in an index: an odd number of cache lines, or else the lines of a panel, a step apart, would meet in a
/// few places of the caches. (1024 rows were indexed at 6 GB/s, 800 at 36.)
fn stride(rows: usize) -> usize {
    16 * ((rows / 16) | 1)
}

/// Rows that share tables: whole panels of so many rows, at least one, where so many matrices are indexed at once.
#[must_use]
pub fn rows_together(panel: usize, k: usize, matrices: usize) -> usize {
    let most = ROWS.min(INDEX_BYTES / (matrices * GROUPS * k.div_ceil(16)));
    (most / panel).max(1) * panel
}

/// Stamps the functions for one instruction set.
macro_rules! look_up {
    ($features:literal, $lanes:ty) => {{
        use $crate::kernels::{Acts, Form, lookup};

        #[target_feature(enable = $features)]
        fn index(panels: &[u8], form: Form, k: usize, index: &mut [u8]) {
            lookup::index(panels, form, k, index);
        }

        #[target_feature(enable = $features)]
        fn dots(
            of: lookup::Indexed<'_>,
            acts: Acts<'_>,
            first: usize,
            room: &mut lookup::Room,
            out: &mut [i32],
        ) {
            lookup::dots::<$lanes>(of, acts, first, room, out);
        }

        Some(lookup::LookUp { index, dots })
    }};
}

pub(super) use look_up;

#[cfg(test)]
mod tests;
