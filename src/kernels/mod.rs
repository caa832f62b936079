//! The inner loops, one file per instruction set.
//!
//! Every file fills one [`Kernels`] table. [`scalar`] says what each entry
//! means; the others agree with it bit for bit (`docs/numerics.md`). A table can
//! be reached only through detection, so holding a `&Kernels` is the proof that
//! its instructions exist.
//!
//! # The panel: how ternary weights lie in memory
//!
//! A matrix of `rows x k` is cut into panels of `16 * tiles` consecutive rows,
//! and a panel is one stream of bytes, read from front to back:
//!
//! ```text
//! for each step of the row (16 weights in two bits, 20 in base 3):
//!   for each tile of the panel:
//!     for each of its 16 rows:
//!       4 bytes; byte j holds the weights k = step + 4*f + j of fields f = 0, 1, ...
//!
//! two bits    bits 2f, 2f+1 of the byte = code of field f        f = 0..=3
//! base 3      byte = 85*c4 + 27*c3 + 9*c2 + 3*c1 + c0            f = 0..=4
//! code 0, 1, 2 means weight -1, 0, +1; rows and columns added as padding hold code 1
//! ```
//!
//! # Acts: how activations lie
//!
//! Tokens are taken in blocks of [`ActsLayout::width`]; the last block has
//! the tokens that are left. Within a block of `w` tokens, `unit` consecutive
//! values of one token are followed by the same ones of the next token:
//! value `i` of token `t` lies at `(i / unit) * w * unit + t * unit + i % unit`.
#![allow(unsafe_code)] // the calls through the table, and memory access in the tables

use crate::ops::attention;

pub use crate::ops::{
    attention::{BLOCK, KvBlock, Online, SPAN},
    gather::{PanelRows, Put},
    norm::RowScale,
    rope::Pairs,
};
pub use form::{Code, Form};
pub use inputs::Inputs;
pub use sparse::{Live, RowsOf};

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
mod form;
#[cfg(target_arch = "aarch64")]
mod i8mm;
mod inputs;
pub mod lookup;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
pub mod screen;
mod self_test;
mod sparse;
mod stamp;
mod steps;
#[cfg(test)]
mod tests;
mod timing;

/// Row lengths of activations are padded with zeros to a multiple of this: whole steps of every form.
pub const PAD: usize = 80;

/// The longest row: the bound that keeps `|sum c * q|` below 2^24.
pub const MAX_K: usize = 65_536;

/// How a table wants activations of several tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActsLayout {
    /// Tokens side by side at most.
    pub block: usize,
    /// Consecutive values of one token: 4, or 8 where tokens are multiplied in pairs.
    pub unit: usize,
}

impl ActsLayout {
    /// Tokens side by side where there are `tokens`: as few blocks as can be, as equal as can be.
    ///
    /// Nine tokens in blocks of eight are five and four: one alone would cost as much as four.
    #[must_use]
    pub fn width(self, tokens: usize) -> usize {
        let width = tokens.div_ceil(tokens.div_ceil(self.block).max(1));
        width.next_multiple_of(self.unit / 4).clamp(1, self.block)
    }
}

/// Quantised activations of some tokens, as [the layout](self#acts-how-activations-lie) says.
#[derive(Clone, Copy)]
pub struct Acts<'a> {
    /// `tokens * stride` codes.
    pub codes: &'a [i8],
    /// The step and the sum of each token's codes.
    pub rows: &'a [RowScale],
    /// Values of one token with padding: a multiple of [`PAD`].
    pub stride: usize,
    /// How they lie.
    pub layout: ActsLayout,
}

impl<'a> Acts<'a> {
    /// Tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.len()
    }

    /// The blocks of tokens: first token, count, and their codes.
    pub fn blocks(self) -> impl Iterator<Item = (usize, usize, &'a [i8])> + Clone {
        let Acts { codes, rows, stride, layout } = self;
        let width = layout.width(rows.len());
        (0..rows.len()).step_by(width).map(move |first| {
            let width = width.min(rows.len() - first);
            (first, width, &codes[first * stride..][..width * stride])
        })
    }
}

/// Rows of a full-precision matrix: the embedding or the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowType {
    /// 4 bytes.
    F32,
    /// 2 bytes, IEEE half.
    F16,
    /// 2 bytes, the upper half of an f32.
    Bf16,
    /// Blocks of 32: f16 scale, 32 x i8.
    Q8_0,
    /// Blocks of 256 in 210 bytes, see docs/formats.md.
    Q6K,
}

impl RowType {
    /// Bytes of a row of `k` values, `None` if `k` is not whole blocks.
    #[must_use]
    pub fn row_bytes(self, k: usize) -> Option<usize> {
        let (block, bytes) = match self {
            RowType::F32 => (1, 4),
            RowType::F16 | RowType::Bf16 => (1, 2),
            RowType::Q8_0 => (32, 34),
            RowType::Q6K => (256, 210),
        };
        k.is_multiple_of(block).then_some(k / block * bytes)
    }
}

type Dots = unsafe fn(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]);
type Attend =
    unsafe fn(queries: &[f32], block: KvBlock<'_>, lens: &[usize], state: &mut Online<'_>);
type Merge = unsafe fn(&mut f32, &mut f32, &mut [f32], f32, f32, &[f32]);
type FirstTerms = unsafe fn(of: screen::FirstTermsOf<'_>, out: &mut [[i32; 2]]);
type States = unsafe fn(of: screen::StatesOf<'_>, out: &mut [[i32; 2]]);
type Rescale =
    unsafe fn(dots: &[i32], weights: &[f32], rows: &[RowScale], stride: usize, out: &mut [f32]);
type RowDots = unsafe fn(rows: &[u8], kind: RowType, inputs: &[f32], k: usize, out: &mut [f32]);

/// Every kernel, for one instruction set.
///
/// Shapes are checked here, once a call; the functions behind may rely on them.
pub struct Kernels {
    name: &'static str,
    forms: &'static [Form],
    layout: ActsLayout,
    dots: Dots,
    /// `dots` of one token and several dense panels, where a table has a loop for them.
    stream: Option<Dots>,
    rms_norm: unsafe fn(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]),
    quantize: unsafe fn(x: &[f32], codes: &mut [i8]) -> RowScale,
    rescale: Rescale,
    relu2_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    silu_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    gather: unsafe fn(PanelRows<'_>, (usize, usize), Put, width: usize, out: &mut [f32]),
    rotate: unsafe fn(row: &mut [f32], head_dim: usize, pairs: Pairs, angles: &[f32]),
    attend: Attend,
    merge: Merge,
    row_dots: RowDots,
    sparse: sparse::Sparse,
    split_row: unsafe fn(row: &[f32], planes: screen::RowPlanes<'_>) -> screen::RowBounds,
    limits: unsafe fn(&screen::Split, screen::RowSums<'_>, score: &mut [f32], upper: &mut [f32]),
    nibbles: unsafe fn(of: screen::PlaneOf<'_>, out: &mut [[i32; 2]]),
    pairs: unsafe fn(of: screen::PairsOf<'_>, live: &[u32], out: &mut [i32]),
    /// Several states together, where a table has a loop for them.
    states: Option<States>,
    /// The same of their first terms.
    first_terms: Option<FirstTerms>,
    /// Products by look-up, where a table has nothing faster for many tokens.
    look_up: Option<lookup::LookUp>,
    /// The inputs of some tokens in one go, where a table has a loop for them.
    inputs: Option<inputs::Make>,
}

/// The numbers from 0 on: all rows, where a kernel takes those that it is told.
pub(crate) const fn in_order<const N: usize>() -> [u32; N] {
    let mut order = [0; N];
    let mut i = 0;
    while i < N {
        order[i] = i as u32;
        i += 1;
    }
    order
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

impl Kernels {
    /// The tables this CPU can run, slowest first. Never empty.
    pub fn available() -> impl DoubleEndedIterator<Item = &'static Kernels> {
        #[cfg(target_arch = "x86_64")]
        let others = [
            avx2::detected().then_some(&avx2::KERNELS),
            avxvnni::detected().then_some(&avxvnni::KERNELS),
            (avx512::detected() && !avx512::detected_vbmi()).then_some(&avx512::KERNELS),
            avx512::detected_vbmi().then_some(&avx512::KERNELS_VBMI),
        ];
        #[cfg(target_arch = "aarch64")]
        let others = [
            neon::detected().then_some(&neon::KERNELS),
            dotprod::detected().then_some(&dotprod::KERNELS),
            i8mm::detected().then_some(&i8mm::KERNELS),
        ];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let others = [None];
        [Some(&scalar::KERNELS)].into_iter().chain(others).flatten()
    }

    /// The table that defines the others.
    #[must_use]
    pub fn scalar() -> &'static Kernels {
        &scalar::KERNELS
    }

    /// The fastest table of this CPU.
    #[must_use]
    pub fn best() -> &'static Kernels {
        Self::available().next_back().expect("scalar is always there")
    }

    /// The table of a name, if this CPU can run it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Kernels> {
        Self::available().find(|table| table.name == name)
    }

    /// `"scalar"`, `"avx2"`, ...
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The forms this table is fast at, the usual choice first, the sparse ones last. [`dots`](Self::dots) takes these
    /// alone.
    #[must_use]
    pub fn forms(&self) -> &'static [Form] {
        self.forms
    }

    /// The forms of them that are read whole.
    pub fn dense_forms(&self) -> impl Iterator<Item = Form> {
        self.forms.iter().copied().filter(|form| matches!(form.code, Code::Bits2 | Code::Base3))
    }

    /// Whether this table can leave out rows and columns.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.forms.contains(&Form::ROWS) && self.forms.contains(&Form::COLUMNS)
    }

    /// How this table wants activations.
    #[must_use]
    pub fn layout(&self) -> ActsLayout {
        self.layout
    }

    /// `out[t][r] = sum over k of weight * act`, exactly, for each token and each row of one panel.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or the table does not take the form.
    pub fn dots(&self, panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
        self.assert_fits(form, k, acts);
        assert_eq!(panel.len(), form.panel_bytes(k), "a panel of k = {k}");
        assert_eq!(out.len(), acts.tokens() * form.rows(), "out must match tokens and rows");
        // SAFETY: a table leaves this module only through `available`, which detects what its functions enable.
        unsafe { (self.dots)(panel, form, k, acts, out) }
    }

    /// [`dots`](Self::dots) of one token with any number of panels that lie one behind the other: `[panel][rows]`.
    ///
    /// # Panics
    ///
    /// As `dots`, and for more than one token.
    pub fn stream(&self, panels: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
        assert_eq!(acts.tokens(), 1, "one token streams");
        self.assert_fits(form, k, acts);
        let (bytes, rows) = (form.panel_bytes(k), form.rows());
        assert_eq!(panels.len() % bytes, 0, "whole panels of k = {k}");
        assert_eq!(out.len(), panels.len() / bytes * rows, "out must match the panels");
        match self.stream {
            // SAFETY: as in `dots`.
            Some(stream) if self.dense_forms().any(|dense| dense == form) => unsafe {
                stream(panels, form, k, acts, out);
            },
            _ => {
                for (panel, out) in panels.chunks(bytes).zip(out.chunks_mut(rows)) {
                    self.dots(panel, form, k, acts, out);
                }
            }
        }
    }

    /// What [`dots`](Self::dots) and [`stream`](Self::stream) ask of their acts.
    fn assert_fits(&self, form: Form, k: usize, acts: Acts<'_>) {
        assert!(self.forms.contains(&form), "{} does not take {form:?}", self.name);
        assert!(k <= MAX_K && k.next_multiple_of(PAD) == acts.stride, "acts must match k = {k}");
        assert_eq!(acts.codes.len(), acts.tokens() * acts.stride, "codes must match tokens");
        assert_eq!(acts.layout, self.layout, "acts laid out for another table");
    }

    /// Takes one block of the cache into the state of each query; `queries` is `[n][head_dim]`, scaled.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn attend(
        &self,
        queries: &[f32],
        block: KvBlock<'_>,
        lens: &[usize],
        state: &mut Online<'_>,
    ) {
        let n = lens.len();
        if n == 0 {
            return;
        }
        let head_dim = queries.len() / n;
        assert_eq!(queries.len(), n * head_dim, "whole queries");
        assert!(lens.iter().all(|len| *len <= BLOCK), "a block has 64 positions");
        assert!(
            state.max.len() == n && state.sum.len() == n && state.acc.len() == n * head_dim,
            "state of queries"
        );
        let fits = match block {
            KvBlock::F16 { keys, values } => {
                keys.len() == head_dim * BLOCK && values.len() == keys.len()
            }
            KvBlock::I8 { keys, values, key_steps, value_steps } => {
                keys.len() == head_dim * BLOCK
                    && values.len() == keys.len()
                    && key_steps.len() == BLOCK
                    && value_steps.len() == BLOCK
            }
        };
        assert!(fits, "a block of the cache");
        // SAFETY: as in `dots`.
        unsafe { (self.attend)(queries, block, lens, state) }
    }

    /// Merges a later span's state into an earlier one's, for one query.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn merge(
        &self,
        max: &mut f32,
        sum: &mut f32,
        acc: &mut [f32],
        max2: f32,
        sum2: f32,
        acc2: &[f32],
    ) {
        assert_eq!(acc.len(), acc2.len(), "lengths of a merge");
        // SAFETY: as in `dots`.
        unsafe { (self.merge)(max, sum, acc, max2, sum2, acc2) }
    }

    /// `out[i][r] = input i . row r`, in full precision; `inputs` is `[n][k]`, `out` is `[n][rows]`.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn row_dots(&self, rows: &[u8], kind: RowType, inputs: &[f32], k: usize, out: &mut [f32]) {
        let bytes = kind.row_bytes(k).expect("whole blocks");
        assert!(
            k > 0 && rows.len().is_multiple_of(bytes) && inputs.len().is_multiple_of(k),
            "whole rows"
        );
        assert_eq!(
            out.len(),
            rows.len() / bytes * (inputs.len() / k),
            "out must match rows and inputs"
        );
        // SAFETY: as in `dots`.
        unsafe { (self.row_dots)(rows, kind, inputs, k, out) }
    }

    /// Decodes one row of a full-precision matrix to f32: the same in every table.
    ///
    /// # Panics
    ///
    /// If `row` is not `out.len()` values.
    pub fn decode_row(row: &[u8], kind: RowType, out: &mut [f32]) {
        assert_eq!(kind.row_bytes(out.len()), Some(row.len()), "bytes of a row");
        scalar::decode_row(row, kind, out);
    }
}

/// The scaled output of finished spans: `acc / sum`.
pub(crate) fn finish(acc: &mut [f32], sum: f32) {
    let inverse = 1.0 / sum;
    for value in acc {
        *value *= inverse;
    }
}

const _: () = assert!(attention::BLOCK == 64 && attention::SPAN.is_multiple_of(attention::BLOCK));
