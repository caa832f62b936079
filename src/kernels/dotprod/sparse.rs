//! Products that leave out rows or columns, and the nibbles of the head.
//!
//! ```text
//! live rows:     four rows at a time; codes are multiplied where they lie and the sums shifted, as in `one`
//! live columns:  four columns at a time, interleaved by bytes: a word holds one row of all four
//! nibbles:       four rows at a time; |sum| <= 65536*15*127, below 2^27
//! ```

use super::sdot;
use crate::kernels::{
    Live, RowsOf,
    neon::{Block, add_i32, halves, interleave, load_acts, load16, splat},
    scalar,
    screen::{PlaneOf, ROWS as GROUP},
    sparse::Sparse,
};
use std::arch::aarch64::*;

pub(in crate::kernels) const SPARSE: Sparse = Sparse { live_rows, live_columns };

/// Rows that share the loads of their acts.
const ROWS: usize = 4;

/// The codes of four fields where they lie, the last one shifted: in place it would be negative.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn in_place(x: uint8x16_t) -> [int8x16_t; 4] {
    [
        vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(0x03))),
        vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(0x0c))),
        vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(0x30))),
        vreinterpretq_s8_u8(vshrq_n_u8::<6>(x)),
    ]
}

/// The sum over the fields of [`in_place`], exactly: sums of field `f` are multiples of `4^f`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn shifted(acc: [int32x4_t; 4]) -> int32x4_t {
    vaddq_s32(vsraq_n_s32::<2>(acc[0], acc[1]), vsraq_n_s32::<4>(acc[3], acc[2]))
}

#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) fn live_rows(of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
    let blocks = of.k / 256;
    let rows: &[Block] = of.rows.as_chunks().0.as_chunks().0;
    let acts = of.acts[..of.k].as_chunks::<16>().0.as_chunks::<16>().0;
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * blocks..][..blocks];
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let at = group * ROWS;
        let sums = four_rows([row(at), row(at + 1), row(at + 2), row(at + 3)], acts);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum - of.sum;
        }
    }
}

/// The sums of code times act of four rows; acts are `[block][16 vectors]`.
#[target_feature(enable = "neon,dotprod")]
fn four_rows(rows: [&[Block]; ROWS], acts: &[[[i8; 16]; 16]]) -> [i32; ROWS] {
    let mut acc = [[vdupq_n_s32(0); 4]; ROWS];
    let rows = rows.map(|row| &row[..acts.len()]);
    for (b, acts) in acts.iter().enumerate() {
        for v in 0..4 {
            let acts =
                [&acts[v], &acts[4 + v], &acts[8 + v], &acts[12 + v]].map(|acts| load_acts(acts));
            for (row, acc) in rows.iter().zip(&mut acc) {
                let codes = in_place(load16(&row[b][v]));
                for ((acc, codes), acts) in acc.iter_mut().zip(codes).zip(acts) {
                    sdot(acc, codes, acts);
                }
            }
        }
    }
    let mut out = [0; ROWS];
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = vaddvq_s32(shifted(acc));
    }
    out
}

/// Columns taken before their sums are stored: 16 KiB, which four passes read from the first cache.
const COLUMNS: usize = 256;

#[target_feature(enable = "neon,dotprod")]
fn live_columns(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]) {
    let columns: &[Block] = panel.as_chunks().0.as_chunks().0;
    out.fill(-live.sum);
    for (places, codes) in live.places.chunks(COLUMNS).zip(live.codes.chunks(COLUMNS)) {
        for v in 0..4 {
            let mut acc = [[vdupq_n_s32(0); 4]; 4];
            for (places, codes) in places.chunks(4).zip(codes.chunks(4)) {
                let mut acts = [0; 4];
                acts[..codes.len()].copy_from_slice(codes);
                let acts = splat(&acts);
                // Columns that lack at the end are the last one, times zero.
                let x = |i: usize| load16(&columns[places[i.min(places.len() - 1)] as usize][v]);
                for (acc, x) in acc.iter_mut().zip(interleave([x(0), x(1), x(2), x(3)])) {
                    for (acc, codes) in acc.iter_mut().zip(in_place(x)) {
                        sdot(acc, codes, acts);
                    }
                }
            }
            for (z, acc) in acc.iter().enumerate() {
                let sums = [acc[0], vshrq_n_s32::<2>(acc[1]), vshrq_n_s32::<4>(acc[2]), acc[3]];
                for (f, sums) in sums.into_iter().enumerate() {
                    add_i32(&mut out[64 * f + 16 * v..].as_chunks_mut().0[z], sums);
                }
            }
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) fn nibbles(of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
    let (groups, rest) = of.rows.split_at(out.len() / GROUP * GROUP * of.k / 2);
    let (out, last) = out.as_chunks_mut::<GROUP>();
    let codes = of.codes.map(|codes| codes.as_chunks::<16>().0.as_chunks::<8>().0);
    for (group, out) in groups.chunks_exact(GROUP * of.k / 2).zip(out) {
        let group: &[Block] = group.as_chunks().0.as_chunks().0;
        *out = four_planes(group.as_chunks().0, codes);
    }
    scalar::nibbles(PlaneOf { rows: rest, ..of }, last);
}

/// The nibble sums of a group of rows; codes are `[term][block][8 vectors]`.
#[target_feature(enable = "neon,dotprod")]
fn four_planes(group: &[[Block; GROUP]], codes: [&[[[i8; 16]; 8]]; 2]) -> [[i32; 2]; GROUP] {
    let mut acc = [[[vdupq_n_s32(0); 2]; 2]; GROUP];
    for (rows, (p, q)) in group.iter().zip(codes[0].iter().zip(codes[1])) {
        for v in 0..4 {
            let codes = [
                [load_acts(&p[v]), load_acts(&p[4 + v])],
                [load_acts(&q[v]), load_acts(&q[4 + v])],
            ];
            for (row, acc) in rows.iter().zip(&mut acc) {
                let nibbles = halves(&row[v]);
                for (acc, codes) in acc.iter_mut().zip(codes) {
                    for ((acc, nibbles), codes) in acc.iter_mut().zip(nibbles).zip(codes) {
                        sdot(acc, nibbles, codes);
                    }
                }
            }
        }
    }
    let mut out = [[0; 2]; GROUP];
    for (out, acc) in out.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
        *out = vaddvq_s32(vaddq_s32(acc[0], acc[1]));
    }
    out
}
