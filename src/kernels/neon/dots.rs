//! Ternary products by widening multiply-add (`smlal`).
//!
//! A vector is a quarter of a tile and step: 4 rows of four bytes, each byte four
//! fields. `smlal` multiplies signed bytes and adds the products into 16-bit lanes.
//!
//! ```text
//! for f in fields:  acc[row][byte] += (x >> 2f & 3) * acts[4f + byte]
//!     |term| <= 2*127 = 254, four a step: 32 steps add 128 terms, |acc| <= 32512 < 32767; then widen
//! ```

use super::{
    chunks::{fields, in_chunks, plane},
    load16, sparse, splat, store_i32,
};
use crate::{
    kernels::{Acts, Code, Form, RowsOf},
    ops::norm::RowScale,
};
use std::arch::{aarch64::*, asm};

/// Steps between two widenings: as many as may be.
const CHUNK: usize = 32;

#[target_feature(enable = "neon")]
pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    match (acts.rows, form.code) {
        ([row], Code::Bits2) => return one(panel, acts.codes, row, out),
        ([row], Code::Rows) => {
            let of = RowsOf { rows: panel, k, acts: acts.codes, sum: row.sum };
            return sparse::live_rows(of, &sparse::ALL_ROWS, out);
        }
        _ => {}
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
            _ => several::<4>(planes, codes, sums),
        },
    );
}

/// Adds the products of 16 bytes to two vectors of 16-bit sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn multiply(acc: &mut [int16x8_t; 2], codes: int8x16_t, acts: int8x16_t) {
    acc[0] = vmlal_s8(acc[0], vget_low_s8(codes), vget_low_s8(acts));
    // Spelled out: where all words of `acts` are equal the compiler would take `ext` and `smlal` instead.
    // SAFETY: the instruction is a part of `neon` and works on registers alone.
    unsafe {
        asm!("smlal2 {acc:v}.8h, {codes:v}.16b, {acts:v}.16b",
            acc = inout(vreg) acc[1], codes = in(vreg) codes, acts = in(vreg) acts,
            options(pure, nomem, nostack, preserves_flags));
    }
}

/// The sums of four rows of four bytes.
#[inline]
#[target_feature(enable = "neon")]
fn widen(acc: [int16x8_t; 2]) -> int32x4_t {
    vpaddq_s32(vpaddlq_s16(acc[0]), vpaddlq_s16(acc[1]))
}

/// One tile and one token.
#[target_feature(enable = "neon")]
fn one(panel: &[u8], codes: &[i8], row: &RowScale, out: &mut [i32]) {
    let mut sums = [vdupq_n_s32(-row.sum); 4];
    let steps: &[[[u8; 16]; 4]] = panel.as_chunks().0.as_chunks().0;
    let acts = codes.as_chunks::<4>().0.as_chunks::<4>().0;
    for (steps, acts) in steps.chunks(CHUNK).zip(acts.chunks(CHUNK)) {
        let mut acc = [[vdupq_n_s16(0); 2]; 4];
        for (step, acts) in steps.iter().zip(acts) {
            let acts = [splat(&acts[0]), splat(&acts[1]), splat(&acts[2]), splat(&acts[3])];
            for (acc, bytes) in acc.iter_mut().zip(step) {
                for (codes, acts) in fields(load16(bytes)).into_iter().zip(acts) {
                    multiply(acc, vreinterpretq_s8_u8(codes), acts);
                }
            }
        }
        for (sum, acc) in sums.iter_mut().zip(acc) {
            *sum = vaddq_s32(*sum, widen(acc));
        }
    }
    for (out, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
        store_i32(out, sum);
    }
}

/// Eight rows and W tokens.
#[target_feature(enable = "neon")]
fn several<const W: usize>(planes: &[[[u8; 16]; 8]], codes: &[i8], sums: &mut [[i32; 8]]) {
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
    for (acc, sums) in acc.into_iter().zip(sums) {
        for (acc, sums) in acc.into_iter().zip(sums.as_chunks_mut().0) {
            store_i32(sums, widen(acc));
        }
    }
}
