//! aarch64 with dot products of bytes: Cortex-A55 and A76, Neoverse N1, Apple A13 and M1, and later.
//!
//! `sdot` adds four products of signed bytes to each 32-bit lane; its second
//! factor may be one word of a vector, which is exactly a field of a tile's step. One
//! token needs no shift but the last field's, as codes are multiplied where they lie:
//!
//! ```text
//! acc[0] += (x & 03) . acts[0]    acc[1] += (x & 0c) . acts[1]    acc[2] += (x & 30) . acts[2]
//! acc[3] += (x >> 6) . acts[3]    (in place, 80 would be negative)
//! sum = acc[0] + (acc[1] >> 2) + (acc[2] >> 4) + acc[3] - sum of acts
//! ```
//!
//! `acc[2]` adds a quarter of a row of at most 65536, each term at most 32*127:
//! below 2^27. `acc[f]` is a multiple of `4^f`, so its shift is exact.
//!
//! Several tokens share the unpacking, as in `neon`: 8 rows by 8 tokens are 16
//! accumulators. The float steps are `neon`'s. The instruction is spelled out because
//! its intrinsic is younger than the compilers we support.

use super::{
    Acts, ActsLayout, Code, Form, Kernels, RowsOf,
    neon::{self, ALL_ROWS, Planes, in_chunks, load_acts, load16, plane, store_i32},
};
use crate::ops::norm::RowScale;
use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

pub(super) mod first_terms;
pub(super) mod pairs;
pub(super) mod sparse;

/// Steps unpacked at a time: 8 KiB, beside as many of activations.
const CHUNK: usize = 64;

pub(super) static KERNELS: Kernels = Kernels {
    name: "dotprod",
    layout: ActsLayout { block: 8, unit: 4 },
    dots,
    sparse: sparse::SPARSE,
    nibbles: sparse::nibbles,
    pairs: pairs::pairs,
    first_terms: Some(first_terms::first_terms),
    look_up: None,
    ..neon::KERNELS
};

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    neon::detected() && is_aarch64_feature_detected!("dotprod")
}

#[target_feature(enable = "neon,dotprod")]
fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if one(panel, form, k, acts, out) {
        return;
    }
    in_chunks::<CHUNK>(
        (panel, form),
        acts,
        out,
        |_| {},
        |planes, codes, sums| match sums.len() {
            1 => several::<1>(planes, codes, sums),
            2 => several::<2>(planes, codes, sums),
            3 => several::<3>(planes, codes, sums),
            4 => several::<4>(planes, codes, sums),
            5 => several::<5>(planes, codes, sums),
            6 => several::<6>(planes, codes, sums),
            7 => several::<7>(planes, codes, sums),
            _ => several::<8>(planes, codes, sums),
        },
    );
}

/// Adds the products of words, byte by byte.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(acc: &mut int32x4_t, codes: int8x16_t, acts: int8x16_t) {
    // SAFETY: this function enables the instruction, which works on registers alone.
    unsafe {
        asm!("sdot {acc:v}.4s, {codes:v}.16b, {acts:v}.16b",
            acc = inout(vreg) *acc, codes = in(vreg) codes, acts = in(vreg) acts,
            options(pure, nomem, nostack, preserves_flags));
    }
}

/// Adds the products of four rows with word `WORD % 4` of `acts`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_word<const WORD: usize>(acc: &mut int32x4_t, codes: int8x16_t, acts: int8x16_t) {
    // SAFETY: this function enables the instruction, which works on registers alone.
    unsafe {
        asm!("sdot {acc:v}.4s, {codes:v}.16b, {acts:v}.4b[{lane}]",
            acc = inout(vreg) *acc, codes = in(vreg) codes, acts = in(vreg) acts,
            lane = const WORD % 4, options(pure, nomem, nostack, preserves_flags));
    }
}

/// The products of one token, if it is one and the form has a way for it. `i8mm` has nothing better.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn one(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) -> bool {
    match (acts.rows, form.code) {
        ([row], Code::Bits2) => one_tile(panel, acts.codes, row, out),
        ([row], Code::Rows) => {
            let of = RowsOf { rows: panel, k, acts: acts.codes, sum: row.sum };
            sparse::live_rows(of, &ALL_ROWS, out);
        }
        _ => return false,
    }
    true
}

#[target_feature(enable = "neon,dotprod")]
fn one_tile(panel: &[u8], codes: &[i8], row: &RowScale, out: &mut [i32]) {
    let mut acc = [[vdupq_n_s32(0); 4]; 4];
    let steps: &[[[u8; 16]; 4]] = panel.as_chunks().0.as_chunks().0;
    for (step, acts) in steps.iter().zip(codes.as_chunks().0) {
        let acts = load_acts(acts);
        for (acc, bytes) in acc.iter_mut().zip(step) {
            let codes = sparse::in_place(load16(bytes));
            sdot_word::<0>(&mut acc[0], codes[0], acts);
            sdot_word::<1>(&mut acc[1], codes[1], acts);
            sdot_word::<2>(&mut acc[2], codes[2], acts);
            sdot_word::<3>(&mut acc[3], codes[3], acts);
        }
    }
    for (out, acc) in out.as_chunks_mut().0.iter_mut().zip(acc) {
        store_i32(out, vsubq_s32(sparse::shifted(acc), vdupq_n_s32(row.sum)));
    }
}

/// [`word`] for each of the numbers that W tokens have.
macro_rules! words {
    ($width:ident, $acc:expr, $planes:expr, $acts:expr, $($word:literal)*) => {
        $(if $word < 4 * $width {
            word::<$word, $width>($acc, $planes, $acts);
        })*
    };
}

/// Adds the products of 8 rows with one word of a step: field `WORD / W` of token `WORD % W`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn word<const WORD: usize, const W: usize>(
    acc: &mut [[int32x4_t; 2]; W],
    planes: &Planes,
    acts: &[int8x16_t; W],
) {
    let (field, acc) = (WORD / W, &mut acc[WORD % W]);
    sdot_word::<WORD>(&mut acc[0], plane(&planes[field]), acts[WORD / 4]);
    sdot_word::<WORD>(&mut acc[1], plane(&planes[4 + field]), acts[WORD / 4]);
}

/// Eight rows and W tokens.
#[target_feature(enable = "neon,dotprod")]
fn several<const W: usize>(planes: &[Planes], codes: &[i8], sums: &mut [[i32; 8]]) {
    let mut acc = [[vdupq_n_s32(0); 2]; W];
    // A step of W tokens is 4 W words, [field][token], and so W vectors.
    for (planes, words) in planes.iter().zip(codes.as_chunks::<16>().0.as_chunks::<W>().0) {
        let mut acts = [vdupq_n_s8(0); W];
        for (acts, words) in acts.iter_mut().zip(words) {
            *acts = load_acts(words);
        }
        // Spelled out: a loop over words this long is not unrolled, and its lanes would become branches.
        words!(W, &mut acc, planes, &acts,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    }
    for (acc, sums) in acc.into_iter().zip(sums) {
        for (acc, sums) in acc.into_iter().zip(sums.as_chunks_mut().0) {
            store_i32(sums, acc);
        }
    }
}
