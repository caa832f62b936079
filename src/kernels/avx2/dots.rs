//! Ternary products of two-bit panels by `vpmaddubsw`.
//!
//! A vector is half a tile of one step: 8 rows of four bytes, each byte four
//! fields. `vpmaddubsw` multiplies unsigned codes with signed acts and adds
//! neighbours into 16 bits; sums are widened to 32 bits before they can overflow.
//!
//! ```text
//! one token:     hi = x >> 4
//!     low += (x & 03) . acts[0] + (hi & 03) . acts[2]         |term| <= 2*2*127 =  508
//!     top += (x & 0c) . acts[1] + (hi & 0c) . acts[3]         |term| <= 2*8*127 = 2032
//!     8 steps add 16 terms: |top| <= 32512 < 32767, then widen; sum = low + (top >> 2) - sum of acts
//! four tokens:   c[f] = x >> 2f & 03;   acc[token] += c[f] . acts[token][f]
//!     16 steps add 64 terms: |acc| <= 32512, then widen
//! ```
//!
//! The 32-bit sums stay below `65536 * 8 * 127 = 2^26`, and `top` is a multiple
//! of four, so that its shift is exact.

use super::{load32, prefetch, several, splat, store_i32};
use crate::{
    kernels::{Acts, Code, Form},
    ops::norm::RowScale,
};
use std::arch::{asm, x86_64::*};

/// How far ahead of itself the stream asks for lines.
const AHEAD: usize = 4 << 10;

/// Steps between two widenings, one token.
const ONE_FLUSH: usize = 8;

/// Steps between two widenings, several tokens.
const SEVERAL_FLUSH: usize = 16;

/// One step of a panel, in two halves of eight rows.
pub(super) type Step = [[u8; 32]; 2];

/// The sums of one token.
type Sums = [[i32; 8]; 2];

#[target_feature(enable = "avx2")]
pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if form.code != Code::Bits2 {
        return several::dots(panel, form, k, acts, out);
    }
    let steps = panel.as_chunks().0.as_chunks().0;
    let out = out.as_chunks_mut().0.as_chunks_mut().0;
    for (first, width, codes) in acts.blocks() {
        let rows = &acts.rows[first..][..width];
        let out = &mut out[first..][..width];
        match width {
            1 => one(steps, codes, &rows[0], &mut out[0]),
            2 => many::<2>(steps, codes, rows, out),
            3 => many::<3>(steps, codes, rows, out),
            _ => many::<4>(steps, codes, rows, out),
        }
    }
}

/// Adds neighbours of 16 bits into 32.
#[target_feature(enable = "avx2")]
pub(super) fn widen(x: __m256i) -> __m256i {
    _mm256_madd_epi16(x, _mm256_set1_epi16(1))
}

#[target_feature(enable = "avx2")]
fn one(steps: &[Step], codes: &[i8], row: &RowScale, out: &mut Sums) {
    let (low_mask, top_mask) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; 2];
    let acts = codes.as_chunks::<16>().0;
    for (steps, acts) in steps.chunks(ONE_FLUSH).zip(acts.chunks(ONE_FLUSH)) {
        let mut acc = [[zero; 2]; 2];
        for (step, acts) in steps.iter().zip(acts) {
            prefetch(step, AHEAD);
            let acts = acts.as_chunks::<4>().0;
            let acts = [splat(acts[0]), splat(acts[1]), splat(acts[2]), splat(acts[3])];
            for (half, [low, top]) in step.iter().zip(&mut acc) {
                let x = load32(half);
                let hi = _mm256_srli_epi16::<4>(x);
                for (x, acts) in [(x, &acts[..2]), (hi, &acts[2..])] {
                    let product = _mm256_maddubs_epi16(_mm256_and_si256(x, low_mask), acts[0]);
                    *low = _mm256_add_epi16(*low, product);
                    let product = _mm256_maddubs_epi16(_mm256_and_si256(x, top_mask), acts[1]);
                    *top = _mm256_add_epi16(*top, product);
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = _mm256_add_epi32(*sum, widen(acc));
            }
        }
    }
    for (out, [low, top]) in out.iter_mut().zip(sums) {
        let sum = _mm256_add_epi32(low, _mm256_srai_epi32::<2>(top));
        store_i32(out, _mm256_sub_epi32(sum, _mm256_set1_epi32(row.sum)));
    }
}

#[target_feature(enable = "avx2")]
fn many<const W: usize>(steps: &[Step], codes: &[i8], rows: &[RowScale], out: &mut [Sums]) {
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; W];
    // Values of W tokens lie in words of four, field after field: [field][token].
    let fields = codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<4>().0;
    for (steps, fields) in steps.chunks(SEVERAL_FLUSH).zip(fields.chunks(SEVERAL_FLUSH)) {
        let mut acc = [[zero; 2]; W];
        for (step, fields) in steps.iter().zip(fields) {
            prefetch(step, AHEAD);
            multiply::<W, 0>(&mut acc, step, &fields[0]);
            multiply::<W, 2>(&mut acc, step, &fields[1]);
            multiply::<W, 4>(&mut acc, step, &fields[2]);
            multiply::<W, 6>(&mut acc, step, &fields[3]);
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = _mm256_add_epi32(*sum, widen(acc));
            }
        }
    }
    for ((sums, row), out) in sums.iter().zip(rows).zip(out) {
        for (sum, out) in sums.iter().zip(out) {
            store_i32(out, _mm256_sub_epi32(*sum, _mm256_set1_epi32(row.sum)));
        }
    }
}

/// Adds the products of both halves with one token's acts.
///
/// Spelled out: neighbours go to two schedulers in turn, of which each has one of the two pipes that multiply, and a
/// compiler puts every sum behind its product; and it would add the products of all fields first, and spill them.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(acc: &mut [__m256i; 2], c: [__m256i; 2], acts: __m256i) {
    // SAFETY: the instructions are a part of `avx2` and work on registers alone.
    unsafe {
        asm!(
            "vpmaddubsw {x}, {c0}, {y}",
            "vpmaddubsw {y}, {c1}, {y}",
            "vpaddw {acc0}, {acc0}, {x}",
            "vpaddw {acc1}, {acc1}, {y}",
            acc0 = inout(ymm_reg) acc[0], acc1 = inout(ymm_reg) acc[1],
            c0 = in(ymm_reg) c[0], c1 = in(ymm_reg) c[1],
            x = out(ymm_reg) _, y = inout(ymm_reg) acts => _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// One field of both halves with its acts of every token.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn multiply<const W: usize, const SHIFT: i32>(
    acc: &mut [[__m256i; 2]; W],
    step: &Step,
    acts: &[[i8; 4]; W],
) {
    // Bits that a 16-bit shift brings in from the neighbour fall to the mask.
    let mask = _mm256_set1_epi8(3);
    let c = [
        _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(load32(&step[0])), mask),
        _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(load32(&step[1])), mask),
    ];
    for (acc, acts) in acc.iter_mut().zip(acts) {
        add_products(acc, c, splat(*acts));
    }
}
