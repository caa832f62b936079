//! aarch64 with dot products of bytes: Cortex-A55 and A76, Neoverse N1, Apple A13 and M1, and later.
//!
//! `sdot` adds four products of signed bytes to each 32-bit lane; its second
//! factor is one word of a vector, which is exactly a field of a tile's step. One
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
//! accumulators. All else is `neon`'s. The instruction is spelled out because
//! its intrinsic is younger than the compilers we support.

use super::{
    Acts, ActsLayout, Form, Kernels,
    neon::{self, Planes, Step, Sums, in_chunks, load_acts, load_i32, load16, plane, store_i32},
    scalar,
};
use crate::ops::norm::RowScale;
use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

/// Steps unpacked at a time: 8 KiB, beside as many of activations.
const CHUNK: usize = 64;

pub(super) static KERNELS: Kernels = Kernels {
    name: "dotprod",
    layout: ActsLayout { block: 8, unit: 4 },
    dots,
    sparse: scalar::SPARSE,
    ..neon::KERNELS
};

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    neon::detected() && is_aarch64_feature_detected!("dotprod")
}

#[target_feature(enable = "neon,dotprod")]
fn dots(panel: &[u8], _: Form, _: usize, acts: Acts<'_>, out: &mut [i32]) {
    let steps = panel.as_chunks().0.as_chunks().0.as_chunks().0;
    let out = out.as_chunks_mut().0.as_chunks_mut().0;
    if let ([row], [out]) = (acts.rows, &mut *out) {
        return one(steps, acts.codes, row, out);
    }
    let product = |planes: &[Planes], codes: &[i8], half: usize, out: &mut [Sums]| match out.len() {
        1 => several::<1>(planes, codes, half, out),
        2 => several::<2>(planes, codes, half, out),
        3 => several::<3>(planes, codes, half, out),
        4 => several::<4>(planes, codes, half, out),
        5 => several::<5>(planes, codes, half, out),
        6 => several::<6>(planes, codes, half, out),
        7 => several::<7>(planes, codes, half, out),
        _ => several::<8>(planes, codes, half, out),
    };
    in_chunks::<CHUNK>(steps, acts, out, |half, planes| neon::unpack(half, planes), product);
}

/// Adds the products of four rows with word `LANE` of `acts`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: usize>(acc: int32x4_t, codes: int8x16_t, acts: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: this function enables the instruction, which works on registers alone.
    unsafe {
        asm!("sdot {acc:v}.4s, {codes:v}.16b, {acts:v}.4b[{lane}]",
            acc = inout(vreg) acc, codes = in(vreg) codes, acts = in(vreg) acts, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The products of one token; `i8mm` has nothing better for it.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn one(steps: &[Step], codes: &[i8], row: &RowScale, out: &mut Sums) {
    let zero = vdupq_n_s32(0);
    let mut acc = [[zero; 4]; 4];
    let masks = [vdupq_n_u8(0x03), vdupq_n_u8(0x0c), vdupq_n_u8(0x30)];
    for (step, acts) in steps.iter().zip(codes.as_chunks().0) {
        let acts = load_acts(acts);
        for (acc, bytes) in acc.iter_mut().zip(step.as_flattened()) {
            let x = load16(bytes);
            acc[0] = sdot::<0>(acc[0], vreinterpretq_s8_u8(vandq_u8(x, masks[0])), acts);
            acc[1] = sdot::<1>(acc[1], vreinterpretq_s8_u8(vandq_u8(x, masks[1])), acts);
            acc[2] = sdot::<2>(acc[2], vreinterpretq_s8_u8(vandq_u8(x, masks[2])), acts);
            acc[3] = sdot::<3>(acc[3], vreinterpretq_s8_u8(vshrq_n_u8::<6>(x)), acts);
        }
    }
    for (out, acc) in out.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(acc) {
        let sum = vaddq_s32(vsraq_n_s32::<2>(acc[0], acc[1]), vsraq_n_s32::<4>(acc[3], acc[2]));
        store_i32(out, vsubq_s32(sum, vdupq_n_s32(row.sum)));
    }
}

#[target_feature(enable = "neon,dotprod")]
fn several<const W: usize>(planes: &[Planes], codes: &[i8], half: usize, out: &mut [Sums]) {
    let mut acc = [[vdupq_n_s32(0); 2]; W];
    // A step of W tokens is 4 W words, [field][token], and so W vectors.
    for (planes, words) in planes.iter().zip(codes.as_chunks::<16>().0.as_chunks::<W>().0) {
        let mut acts = [vdupq_n_s8(0); W];
        for (acts, words) in acts.iter_mut().zip(words) {
            *acts = load_acts(words);
        }
        for f in 0..4 {
            let codes = [plane(&planes[f]), plane(&planes[4 + f])];
            for (t, acc) in acc.iter_mut().enumerate() {
                let word = f * W + t;
                let acts = acts[word / 4];
                for (acc, codes) in acc.iter_mut().zip(codes) {
                    // The place is known once the loops are unrolled: no branch is left.
                    *acc = match word % 4 {
                        0 => sdot::<0>(*acc, codes, acts),
                        1 => sdot::<1>(*acc, codes, acts),
                        2 => sdot::<2>(*acc, codes, acts),
                        _ => sdot::<3>(*acc, codes, acts),
                    };
                }
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out) {
        for (acc, out) in acc.into_iter().zip(out[half].as_chunks_mut().0) {
            store_i32(out, vaddq_s32(load_i32(out), acc));
        }
    }
}
