//! Products that leave out rows or columns, and the nibbles of the head.
//!
//! ```text
//! live rows:     two rows at a time, fields as in `dots`; 8 blocks add 128 terms of 254, then widen
//! live columns:  c[f] = x >> 2f & 3;   acc[f] += c[f] * act;  128 columns add as many terms of 254
//! nibbles:       two rows at a time; 2 blocks add 16 terms of 15*127 = 1905, then widen
//! ```
//!
//! All of these 16-bit sums stay within 32512.

use super::{chunks::fields, dots::multiply, load_acts, load_i32, load16, store_i32};
use crate::kernels::{
    Live, RowsOf, in_order, scalar,
    screen::{PlaneOf, ROWS as GROUP},
    sparse::Sparse,
};
use std::arch::aarch64::*;

pub(in crate::kernels) const SPARSE: Sparse = Sparse { live_rows, live_columns };

/// The rows of a panel of rows.
pub(in crate::kernels) const ALL_ROWS: [u32; 32] = in_order();

/// Rows that share the loads of their acts.
const ROWS: usize = 2;

/// A block of a row: four vectors.
pub(in crate::kernels) type Block = [[u8; 16]; 4];

#[target_feature(enable = "neon")]
pub(super) fn live_rows(of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
    let blocks = of.k / 256;
    let rows: &[Block] = of.rows.as_chunks().0.as_chunks().0;
    let acts = of.acts[..of.k].as_chunks::<16>().0.as_chunks::<16>().0;
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * blocks..][..blocks];
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let sums = two_rows([row(group * ROWS), row(group * ROWS + 1)], acts);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum - of.sum;
        }
    }
}

/// The sums of code times act of two rows; acts are `[block][16 vectors]`.
#[target_feature(enable = "neon")]
fn two_rows(rows: [&[Block]; ROWS], acts: &[[[i8; 16]; 16]]) -> [i32; ROWS] {
    let mut sums = [vdupq_n_s32(0); ROWS];
    for (n, acts) in acts.chunks(8).enumerate() {
        let mut acc = [[vdupq_n_s16(0); 2]; ROWS];
        for (b, acts) in acts.iter().enumerate() {
            for v in 0..4 {
                let (a, b) = (&rows[0][8 * n + b][v], &rows[1][8 * n + b][v]);
                for (f, codes) in fields(load16(a)).into_iter().zip(fields(load16(b))).enumerate() {
                    let acts = load_acts(&acts[4 * f + v]);
                    multiply(&mut acc[0], vreinterpretq_s8_u8(codes.0), acts);
                    multiply(&mut acc[1], vreinterpretq_s8_u8(codes.1), acts);
                }
            }
        }
        for (sum, acc) in sums.iter_mut().zip(acc) {
            *sum = vpadalq_s16(vpadalq_s16(*sum, acc[0]), acc[1]);
        }
    }
    [vaddvq_s32(sums[0]), vaddvq_s32(sums[1])]
}

/// Columns between two widenings.
const COLUMNS: usize = 128;

#[target_feature(enable = "neon")]
fn live_columns(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]) {
    let columns: &[[[[u8; 16]; 2]; 2]] = panel.as_chunks().0.as_chunks().0.as_chunks().0;
    out.fill(-live.sum);
    for (places, codes) in live.places.chunks(COLUMNS).zip(live.codes.chunks(COLUMNS)) {
        for h in 0..2 {
            let mut acc = [[[vdupq_n_s16(0); 2]; 4]; 2];
            for (place, code) in places.iter().zip(codes) {
                let act = vdupq_n_s8(*code);
                for (acc, bytes) in acc.iter_mut().zip(&columns[*place as usize][h]) {
                    for (acc, codes) in acc.iter_mut().zip(fields(load16(bytes))) {
                        multiply(acc, vreinterpretq_s8_u8(codes), act);
                    }
                }
            }
            for (u, acc) in acc.iter().enumerate() {
                for (f, [low, high]) in acc.iter().enumerate() {
                    let (rows, _) = out[64 * f + 32 * h + 16 * u..].as_chunks_mut();
                    add_i32(&mut rows[0], vmovl_s16(vget_low_s16(*low)));
                    add_i32(&mut rows[1], vmovl_high_s16(*low));
                    add_i32(&mut rows[2], vmovl_s16(vget_low_s16(*high)));
                    add_i32(&mut rows[3], vmovl_high_s16(*high));
                }
            }
        }
    }
}

/// Adds to four sums.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn add_i32(sums: &mut [i32; 4], x: int32x4_t) {
    store_i32(sums, vaddq_s32(load_i32(sums), x));
}

#[target_feature(enable = "neon")]
pub(super) fn nibbles(of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
    let (groups, rest) = of.rows.split_at(out.len() / GROUP * GROUP * of.k / 2);
    let (out, last) = out.as_chunks_mut::<GROUP>();
    let codes = of.codes.map(|codes| codes.as_chunks::<16>().0.as_chunks::<8>().0);
    for (group, out) in groups.chunks_exact(GROUP * of.k / 2).zip(out) {
        let group: &[Block] = group.as_chunks().0.as_chunks().0;
        let group = group.as_chunks::<GROUP>().0;
        let [a, b] = two_planes::<0>(group, codes);
        let [c, d] = two_planes::<2>(group, codes);
        *out = [a, b, c, d];
    }
    scalar::nibbles(PlaneOf { rows: rest, ..of }, last);
}

/// The nibble sums of two rows of a group, from the `FIRST` on; codes are `[term][block][8 vectors]`.
#[target_feature(enable = "neon")]
fn two_planes<const FIRST: usize>(
    group: &[[Block; GROUP]],
    codes: [&[[[i8; 16]; 8]]; 2],
) -> [[i32; 2]; ROWS] {
    let mut sums = [[vdupq_n_s32(0); 2]; ROWS];
    let codes = codes[0].chunks(2).zip(codes[1].chunks(2));
    for (blocks, (first, second)) in group.chunks(2).zip(codes) {
        let mut acc = [[[vdupq_n_s16(0); 2]; 2]; ROWS];
        for (block, codes) in blocks.iter().zip(first.iter().zip(second)) {
            for v in 0..4 {
                let halves = [halves(&block[FIRST][v]), halves(&block[FIRST + 1][v])];
                for (term, codes) in [codes.0, codes.1].into_iter().enumerate() {
                    for half in 0..2 {
                        let codes = load_acts(&codes[4 * half + v]);
                        multiply(&mut acc[0][term], halves[0][half], codes);
                        multiply(&mut acc[1][term], halves[1][half], codes);
                    }
                }
            }
        }
        for (sums, acc) in sums.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
            *sums = vpadalq_s16(vpadalq_s16(*sums, acc[0]), acc[1]);
        }
    }
    let mut out = [[0; 2]; ROWS];
    for (out, sums) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *out = vaddvq_s32(*sums);
    }
    out
}

/// The low and the high nibbles.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels) fn halves(bytes: &[u8; 16]) -> [int8x16_t; 2] {
    let x = load16(bytes);
    let low = vandq_u8(x, vdupq_n_u8(15));
    [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(vshrq_n_u8::<4>(x))]
}
