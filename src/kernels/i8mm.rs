//! aarch64 with products of byte matrices: Neoverse V1 and N2, Cortex-X2 and A710, Apple M2, and later.
//!
//! `smmla` multiplies 2 rows by 2 tokens over 8 values: 32 products, twice those
//! of `sdot`. Fields of a tile zipped word by word are such pairs of rows, and a
//! token's 8 consecutive values lie beside the next token's:
//!
//! ```text
//! field 0:  r0 r1 r2 r3      zip1:  r0 f0|r0 f1   r1 f0|r1 f1     values 0..8 of rows 0, 1
//! field 1:  r0 r1 r2 r3      zip2:  r2 f0|r2 f1   r3 f0|r3 f1     values 0..8 of rows 2, 3
//! fields 2, 3 likewise                                           values 8..16
//!
//! acc[rows 0, 1][tokens 0, 1] = r0.t0  r0.t1  r1.t0  r1.t1
//! ```
//!
//! Several tokens share the unpacking, as in `neon`: 8 rows by 8 tokens are 16
//! accumulators. Products of one token are `dotprod`'s, the float steps `neon`'s.

use super::{
    Acts, ActsLayout, Form, Kernels, dotprod,
    neon::{self, Planes, in_chunks, load_acts, load16, plane, store_i32, store16},
};
use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

/// Steps unpacked at a time: 8 KiB, beside as many of activations.
const CHUNK: usize = 64;

pub(super) static KERNELS: Kernels = Kernels {
    name: "i8mm",
    layout: ActsLayout { block: 8, unit: 8 },
    dots,
    sparse: dotprod::sparse::SPARSE,
    nibbles: dotprod::sparse::nibbles,
    pairs: dotprod::pairs::pairs,
    first_terms: Some(dotprod::first_terms::first_terms),
    look_up: None,
    ..neon::KERNELS
};

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    dotprod::detected() && is_aarch64_feature_detected!("i8mm")
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if dotprod::one(panel, form, k, acts, out) {
        return;
    }
    in_chunks::<CHUNK>(
        (panel, form),
        acts,
        out,
        |planes| pair_rows(planes),
        |planes, codes, sums| match sums.len() {
            1 => several::<1, 1>(planes, codes, sums),
            2 => several::<2, 1>(planes, codes, sums),
            3 => several::<3, 2>(planes, codes, sums),
            4 => several::<4, 2>(planes, codes, sums),
            5 => several::<5, 3>(planes, codes, sums),
            6 => several::<6, 3>(planes, codes, sums),
            7 => several::<7, 4>(planes, codes, sums),
            _ => several::<8, 4>(planes, codes, sums),
        },
    );
}

/// Orders codes as `[values 0..8, values 8..16][pair of rows]`.
#[inline]
#[target_feature(enable = "neon")]
fn pair_rows(planes: &mut Planes) {
    let fields = *planes;
    for q in 0..2 {
        for e in 0..2 {
            let word = |f: usize| vreinterpretq_u32_u8(load16(&fields[4 * q + f]));
            let (a, b) = (word(2 * e), word(2 * e + 1));
            store16(&mut planes[4 * e + 2 * q], vreinterpretq_u8_u32(vzip1q_u32(a, b)));
            store16(&mut planes[4 * e + 2 * q + 1], vreinterpretq_u8_u32(vzip2q_u32(a, b)));
        }
    }
}

/// Adds the products of two rows with two tokens.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(acc: int32x4_t, codes: int8x16_t, acts: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: this function enables the instruction, which works on registers alone.
    unsafe {
        asm!("smmla {acc:v}.4s, {codes:v}.16b, {acts:v}.16b",
            acc = inout(vreg) acc, codes = in(vreg) codes, acts = in(vreg) acts,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Eight rows and `W` tokens in `P` pairs, the last one alone if `W` is odd.
#[target_feature(enable = "neon,i8mm")]
fn several<const W: usize, const P: usize>(planes: &[Planes], codes: &[i8], sums: &mut [[i32; 8]]) {
    let mut acc = [[vdupq_n_s32(0); 4]; P];
    // Eight values of each of W tokens, twice a step.
    let steps = codes.as_chunks::<8>().0.as_chunks::<W>().0.as_chunks::<2>().0;
    for (planes, eights) in planes.iter().zip(steps) {
        for (planes, eights) in planes.as_chunks::<4>().0.iter().zip(eights) {
            let rows = [plane(&planes[0]), plane(&planes[1]), plane(&planes[2]), plane(&planes[3])];
            for (p, acc) in acc.iter_mut().enumerate() {
                let acts = pair(&eights[2 * p..]);
                for (acc, rows) in acc.iter_mut().zip(rows) {
                    *acc = smmla(*acc, rows, acts);
                }
            }
        }
    }
    for (acc, sums) in acc.into_iter().zip(sums.chunks_mut(2)) {
        for (q, acc) in acc.as_chunks::<2>().0.iter().enumerate() {
            let tokens = [vuzp1q_s32(acc[0], acc[1]), vuzp2q_s32(acc[0], acc[1])];
            for (sums, token) in sums.iter_mut().zip(tokens) {
                store_i32(&mut sums.as_chunks_mut().0[q], token);
            }
        }
    }
}

/// Eight values of the first two tokens, or of the last one beside zeros.
#[inline]
#[target_feature(enable = "neon")]
fn pair(eights: &[[i8; 8]]) -> int8x16_t {
    match eights.as_flattened().first_chunk() {
        Some(both) => load_acts(both),
        // SAFETY: the array is 8 readable bytes.
        None => vcombine_s8(unsafe { vld1_s8(eights[0].as_ptr()) }, vdup_n_s8(0)),
    }
}
