//! Products of several tokens: codes are unpacked once and multiplied with every block of tokens.
//!
//! Eight rows of up to `C` steps of 16 weights are unpacked into memory that stays in the
//! first cache, whatever the form of the panel; then every block of tokens reads them, and its sums
//! are added to those of earlier steps.

use super::{load16, store16};
use crate::kernels::{Acts, Code, Form};
use std::arch::aarch64::*;

/// The codes of 8 rows and 16 weights: vector `4*q + f` holds the weights `4*f..4*f+4` of rows `4*q..4*q+4`.
pub(in crate::kernels) type Planes = [[u8; 16]; 8];

/// Takes a panel in chunks of `C` steps, a multiple of 16, and groups of 8 rows.
///
/// `arrange` brings unpacked codes into the order of the table. `product(planes, codes, sums)` gives the products
/// of one block of tokens, at most eight.
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn in_chunks<const C: usize>(
    (panel, form): (&[u8], Form),
    acts: Acts<'_>,
    out: &mut [i32],
    arrange: impl Fn(&mut Planes),
    product: impl Fn(&[Planes], &[i8], &mut [[i32; 8]]),
) {
    let rows = form.rows();
    let steps = panel.len() / (4 * rows);
    for (out, row) in out.chunks_exact_mut(rows).zip(acts.rows) {
        // A weight is its code less one.
        out.fill(-row.sum);
    }
    let mut planes = [[[0; 16]; 8]; C];
    for start in (0..steps).step_by(C) {
        let planes = &mut planes[..C.min(steps - start)];
        for group in 0..rows / 8 {
            match form.code {
                Code::Bits2 => tile(panel, start, group, planes),
                Code::Rows => lines(panel, steps, start, group, planes),
                Code::Columns => columns(panel, start, group, planes),
                Code::Base3 => unreachable!("no table of aarch64 takes base 3"),
            }
            planes.iter_mut().for_each(&arrange);
            for (first, width, codes) in acts.blocks() {
                let codes = &codes[start * 16 * width..][..planes.len() * 16 * width];
                let mut sums = [[0; 8]; 8];
                product(planes, codes, &mut sums[..width]);
                let out = out[first * rows..].chunks_exact_mut(rows);
                for (out, sums) in out.zip(&sums[..width]) {
                    for (out, sum) in out[8 * group..].iter_mut().zip(sums) {
                        *out += sum;
                    }
                }
            }
        }
    }
}

/// Half of a tile.
#[target_feature(enable = "neon")]
fn tile(panel: &[u8], start: usize, group: usize, planes: &mut [Planes]) {
    let steps: &[[[[u8; 16]; 2]; 2]] = panel.as_chunks().0.as_chunks().0.as_chunks().0;
    for (step, planes) in steps[start..].iter().zip(planes) {
        for (bytes, planes) in step[group].iter().zip(planes.as_chunks_mut::<4>().0) {
            for (plane, codes) in planes.iter_mut().zip(fields(load16(bytes))) {
                store16(plane, codes);
            }
        }
    }
}

/// Eight of the rows that lie one after the other; `start` is the first step of a block.
#[target_feature(enable = "neon")]
fn lines(panel: &[u8], steps: usize, start: usize, group: usize, planes: &mut [Planes]) {
    let blocks: &[[[u8; 16]; 4]] = panel.as_chunks().0.as_chunks().0;
    // A block of 64 bytes is 16 steps: four vectors in each field.
    for (b, planes) in planes.chunks_mut(16).enumerate() {
        for q in 0..2 {
            for v in 0..4 {
                let mut rows = [[vdupq_n_u8(0); 4]; 4];
                for (r, row) in rows.iter_mut().enumerate() {
                    let row_at = (8 * group + 4 * q + r) * steps / 16;
                    *row = fields(load16(&blocks[row_at + start / 16 + b][v]));
                }
                for f in 0..4 {
                    let words = transpose([rows[0][f], rows[1][f], rows[2][f], rows[3][f]]);
                    for (plane, word) in planes[4 * f + v][4 * q..].iter_mut().zip(words) {
                        store16(plane, word);
                    }
                }
            }
        }
    }
}

/// Eight of the rows whose columns lie one after the other.
#[target_feature(enable = "neon")]
fn columns(panel: &[u8], start: usize, group: usize, planes: &mut [Planes]) {
    let columns: &[[[u8; 8]; 8]] = panel.as_chunks().0.as_chunks().0;
    let (fours, _) = columns.as_chunks::<4>();
    let (field, eight) = (group / 8, group % 8);
    // A shift to the left by a negative count is one to the right.
    let shift = vdupq_n_s8(-2 * field as i8);
    for (steps, planes) in fours[4 * start..].as_chunks::<4>().0.iter().zip(planes) {
        for (f, four) in steps.iter().enumerate() {
            let x = |i: usize| {
                let bytes = u64::from_le_bytes(four[i][eight]);
                vcombine_u8(vcreate_u8(bytes), vcreate_u8(0))
            };
            let [low, high, ..] = interleave([x(0), x(1), x(2), x(3)]);
            for (q, x) in [low, high].into_iter().enumerate() {
                let codes = vandq_u8(vshlq_u8(x, shift), vdupq_n_u8(3));
                store16(&mut planes[4 * q + f], codes);
            }
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

/// Words of four rows: vector `j` of the result holds word `j` of each.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let pair = |a: usize, b: usize| {
        let (a, b) = (vreinterpretq_u32_u8(rows[a]), vreinterpretq_u32_u8(rows[b]));
        [vreinterpretq_u64_u32(vtrn1q_u32(a, b)), vreinterpretq_u64_u32(vtrn2q_u32(a, b))]
    };
    let (low, high) = (pair(0, 1), pair(2, 3));
    [
        vreinterpretq_u8_u64(vtrn1q_u64(low[0], high[0])),
        vreinterpretq_u8_u64(vtrn1q_u64(low[1], high[1])),
        vreinterpretq_u8_u64(vtrn2q_u64(low[0], high[0])),
        vreinterpretq_u8_u64(vtrn2q_u64(low[1], high[1])),
    ]
}

/// Bytes of four columns side by side: vector `z` of the result holds the rows `4*z..4*z+4`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn interleave(columns: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let [a, b, c, d] = columns;
    let wide = |x| vreinterpretq_u16_u8(x);
    let (low, low2) = (wide(vzip1q_u8(a, b)), wide(vzip1q_u8(c, d)));
    let (high, high2) = (wide(vzip2q_u8(a, b)), wide(vzip2q_u8(c, d)));
    [
        vreinterpretq_u8_u16(vzip1q_u16(low, low2)),
        vreinterpretq_u8_u16(vzip2q_u16(low, low2)),
        vreinterpretq_u8_u16(vzip1q_u16(high, high2)),
        vreinterpretq_u8_u16(vzip2q_u16(high, high2)),
    ]
}

/// Codes that were unpacked; at most 2, so that a signed byte holds them.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn plane(codes: &[u8; 16]) -> int8x16_t {
    vreinterpretq_s8_u8(load16(codes))
}
