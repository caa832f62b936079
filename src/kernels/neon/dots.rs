//! Ternary products of two-bit panels by widening multiply-add (`smlal`).
//!
//! A vector is a quarter of a tile and step: 4 rows of four bytes, each byte four
//! fields. `smlal` multiplies signed bytes and adds the products into 16-bit lanes.
//!
//! ```text
//! for f in fields:  acc[row][byte] += (x >> 2f & 3) * acts[4f + byte]
//!     |term| <= 2*127 = 254, four a step: 32 steps add 128 terms, |acc| <= 32512 < 32767; then widen
//! ```
//!
//! Several tokens share the unpacking: half a tile, 8 rows, of up to [`CHUNK`]
//! steps is unpacked into 4 KiB that stay in the first cache while every block
//! of tokens reads them. Its sums are then added to those of earlier chunks.

use super::{load_i32, load16, splat, store_i32, store16};
use crate::{
    kernels::{Acts, Form},
    ops::norm::RowScale,
};
use std::arch::aarch64::*;

/// Steps between two widenings.
const CHUNK: usize = 32;

/// One step of a panel: half a tile, four rows in each vector.
pub(in crate::kernels) type Step = [[[u8; 16]; 2]; 2];

/// The sums of one token, by half a tile.
pub(in crate::kernels) type Sums = [[i32; 8]; 2];

/// The codes of 8 rows and one step in eight vectors, as a table orders them.
pub(in crate::kernels) type Planes = [[u8; 16]; 8];

#[target_feature(enable = "neon")]
pub(super) fn dots(panel: &[u8], _: Form, _: usize, acts: Acts<'_>, out: &mut [i32]) {
    let steps = panel.as_chunks().0.as_chunks().0.as_chunks().0;
    let out = out.as_chunks_mut().0.as_chunks_mut().0;
    if let ([row], [out]) = (acts.rows, &mut *out) {
        return one(steps, acts.codes, row, out);
    }
    let product = |planes: &[Planes], codes: &[i8], half: usize, out: &mut [Sums]| match out.len() {
        1 => several::<1>(planes, codes, half, out),
        2 => several::<2>(planes, codes, half, out),
        3 => several::<3>(planes, codes, half, out),
        _ => several::<4>(planes, codes, half, out),
    };
    in_chunks::<CHUNK>(steps, acts, out, |half, planes| unpack(half, planes), product);
}

/// Takes a panel in chunks of `C` steps and halves of 8 rows: unpacked once, then given to every block of tokens.
///
/// `product(planes, codes, half, sums)` adds the products of these steps to the sums of that half.
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn in_chunks<const C: usize>(
    steps: &[Step],
    acts: Acts<'_>,
    out: &mut [Sums],
    unpack: impl Fn(&[[u8; 16]; 2], &mut Planes),
    product: impl Fn(&[Planes], &[i8], usize, &mut [Sums]),
) {
    for (out, row) in out.iter_mut().zip(acts.rows) {
        // A weight is its code less one.
        *out = [[-row.sum; 8]; 2];
    }
    let mut planes = [[[0; 16]; 8]; C];
    for (n, steps) in steps.chunks(C).enumerate() {
        let planes = &mut planes[..steps.len()];
        for half in 0..2 {
            for (step, planes) in steps.iter().zip(&mut *planes) {
                unpack(&step[half], planes);
            }
            for (first, width, codes) in acts.blocks() {
                let codes = &codes[n * C * 16 * width..][..steps.len() * 16 * width];
                product(planes, codes, half, &mut out[first..][..width]);
            }
        }
    }
}

/// The codes of 8 rows as `[4 rows][field]`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn unpack(half: &[[u8; 16]; 2], planes: &mut Planes) {
    for (bytes, planes) in half.iter().zip(planes.as_chunks_mut::<4>().0) {
        for (plane, codes) in planes.iter_mut().zip(fields(load16(bytes))) {
            store16(plane, codes);
        }
    }
}

/// The four codes of every byte.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn fields(x: uint8x16_t) -> [uint8x16_t; 4] {
    let mask = vdupq_n_u8(3);
    [
        vandq_u8(x, mask),
        vandq_u8(vshrq_n_u8::<2>(x), mask),
        vandq_u8(vshrq_n_u8::<4>(x), mask),
        vshrq_n_u8::<6>(x),
    ]
}

/// Adds the products of 16 bytes to two vectors of 16-bit sums.
#[inline]
#[target_feature(enable = "neon")]
fn multiply(acc: &mut [int16x8_t; 2], codes: int8x16_t, acts: int8x16_t) {
    acc[0] = vmlal_s8(acc[0], vget_low_s8(codes), vget_low_s8(acts));
    acc[1] = vmlal_high_s8(acc[1], codes, acts);
}

/// The sums of four rows of four bytes.
#[inline]
#[target_feature(enable = "neon")]
fn widen(acc: [int16x8_t; 2]) -> int32x4_t {
    vpaddq_s32(vpaddlq_s16(acc[0]), vpaddlq_s16(acc[1]))
}

#[target_feature(enable = "neon")]
fn one(steps: &[Step], codes: &[i8], row: &RowScale, out: &mut Sums) {
    let mut sums = [vdupq_n_s32(-row.sum); 4];
    let acts = codes.as_chunks::<4>().0.as_chunks::<4>().0;
    for (steps, acts) in steps.chunks(CHUNK).zip(acts.chunks(CHUNK)) {
        let mut acc = [[vdupq_n_s16(0); 2]; 4];
        for (step, acts) in steps.iter().zip(acts) {
            let acts = [splat(&acts[0]), splat(&acts[1]), splat(&acts[2]), splat(&acts[3])];
            for (acc, bytes) in acc.iter_mut().zip(step.as_flattened()) {
                for (codes, acts) in fields(load16(bytes)).into_iter().zip(acts) {
                    multiply(acc, vreinterpretq_s8_u8(codes), acts);
                }
            }
        }
        for (sum, acc) in sums.iter_mut().zip(acc) {
            *sum = vaddq_s32(*sum, widen(acc));
        }
    }
    for (out, sum) in out.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(sums) {
        store_i32(out, sum);
    }
}

#[target_feature(enable = "neon")]
fn several<const W: usize>(planes: &[Planes], codes: &[i8], half: usize, out: &mut [Sums]) {
    let mut acc = [[[vdupq_n_s16(0); 2]; 2]; W];
    // Values of W tokens lie in words of four, field after field: [field][token].
    let steps = codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<4>().0;
    for (planes, acts) in planes.iter().zip(steps) {
        for (f, acts) in acts.iter().enumerate() {
            let codes = [plane(&planes[f]), plane(&planes[4 + f])];
            for (acc, acts) in acc.iter_mut().zip(acts) {
                let acts = splat(acts);
                for (acc, codes) in acc.iter_mut().zip(codes) {
                    multiply(acc, codes, acts);
                }
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out) {
        for (acc, out) in acc.into_iter().zip(out[half].as_chunks_mut().0) {
            store_i32(out, vaddq_s32(load_i32(out), widen(acc)));
        }
    }
}

/// Codes that were unpacked; at most 2, so that a signed byte holds them.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn plane(codes: &[u8; 16]) -> int8x16_t {
    vreinterpretq_s8_u8(load16(codes))
}
