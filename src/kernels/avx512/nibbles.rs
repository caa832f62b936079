//! Nibbles of the head's rows against both terms of a state, four rows at a time.
//!
//! ```text
//! acc[row][t][0] += (x & 0f) . term t of the first 64 values;  acc[row][t][1] += (x & f0) . the next 64
//! sum = acc[0] + (acc[1] >> 4)
//! ```
//!
//! The second field is multiplied in place: a byte is at most 240, every sum a multiple of 16, and
//! `|acc| <= 65536 / 2 * 240 * 127 < 2^30`.

use super::{ahead::Ahead, load_i8, load64};
use crate::kernels::screen::PlaneOf;
use std::arch::x86_64::*;

/// Rows that share the loads of their codes.
const ROWS: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn nibbles(of: PlaneOf<'_>, live: &[u32], out: &mut [[i32; 2]]) {
    let lines = of.k / 128;
    let (rows, _) = of.rows.as_chunks::<64>();
    let codes = of.codes.map(|codes| codes.as_chunks::<64>().0.as_chunks::<2>().0);
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * lines..][..lines];
    let mut ahead = Ahead::new(rows, lines, live);
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let i = group * ROWS;
        let sums = four_rows([row(i), row(i + 1), row(i + 2), row(i + 3)], codes, &mut ahead);
        for (out, sums) in out.iter_mut().zip(sums) {
            *out = sums;
        }
    }
}

/// The sums of four rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_rows(
    rows: [&[[u8; 64]]; ROWS],
    codes: [&[[[i8; 64]; 2]]; 2],
    ahead: &mut Ahead<'_>,
) -> [[i32; 2]; ROWS] {
    let masks = [_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8 as i8)];
    let mut acc = [[[_mm512_setzero_si512(); 2]; 2]; ROWS];
    for (b, (first, second)) in codes[0].iter().zip(codes[1]).enumerate() {
        let y =
            [[load_i8(&first[0]), load_i8(&first[1])], [load_i8(&second[0]), load_i8(&second[1])]];
        for r in 0..ROWS {
            ahead.next();
            let x = load64(&rows[r][b]);
            for f in 0..2 {
                let c = _mm512_and_si512(x, masks[f]);
                for t in 0..2 {
                    acc[r][t][f] = _mm512_dpbusd_epi32(acc[r][t][f], c, y[t][f]);
                }
            }
        }
    }
    let mut sums = [[0; 2]; ROWS];
    for (sums, acc) in sums.iter_mut().zip(&acc) {
        for (sum, acc) in sums.iter_mut().zip(acc) {
            let total = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<4>(acc[1]));
            *sum = _mm512_reduce_add_epi32(total);
        }
    }
    sums
}
