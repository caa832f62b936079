//! Nibbles of the head's rows against both terms of a state.
//!
//! ```text
//! acc[row][t][0] += (x & 0f) . term t of the first 64 values;  acc[row][t][1] += (x & f0) . the next 64
//! sum = acc[0] + (acc[1] >> 4)
//! ```
//!
//! Rows that follow each other are read one after the other, as one stream. Scattered ones are read four side by side,
//! which share the loads of their codes, and asked for well ahead.
//!
//! The second field is multiplied in place: a byte is at most 240, every sum a multiple of 16, and
//! `|acc| <= 65536 / 2 * 240 * 127 < 2^30`.

use super::{ahead::Ahead, load_i8, load64, ordered};
use crate::kernels::screen::PlaneOf;
use std::arch::x86_64::*;

/// Rows that share the loads of their codes.
const ROWS: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn nibbles(of: PlaneOf<'_>, live: &[u32], out: &mut [[i32; 2]]) {
    let lines = of.k / 128;
    let (rows, _) = of.rows.as_chunks::<64>();
    let codes = of.codes.map(|codes| codes.as_chunks::<64>().0.as_chunks::<2>().0);
    let Some(first) = run(live) else { return scattered((rows, lines), codes, live, out) };
    let stretch = &rows[first * lines..][..live.len() * lines];
    for (stretch, out) in stretch.chunks(ROWS * lines).zip(out.chunks_mut(ROWS)) {
        let mut acc = [[[_mm512_setzero_si512(); 2]; 2]; ROWS];
        for (row, acc) in stretch.chunks_exact(lines).zip(&mut acc) {
            *acc = ordered::nibbles(row, codes);
        }
        fold_rows(&acc, out);
    }
}

/// The first of rows that lie one behind the other.
pub(super) fn run(live: &[u32]) -> Option<usize> {
    let first = *live.first()?;
    let next = |(row, n): (&u32, u32)| *row == first.wrapping_add(n);
    live.iter().zip(0..).all(next).then_some(first as usize)
}

/// Rows wherever they are.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn scattered(
    (rows, lines): (&[[u8; 64]], usize),
    codes: [&[[[i8; 64]; 2]]; 2],
    live: &[u32],
    out: &mut [[i32; 2]],
) {
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * lines..][..lines];
    let mut ahead = Ahead::new(rows, lines, live);
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let i = group * ROWS;
        let acc = four_rows([row(i), row(i + 1), row(i + 2), row(i + 3)], codes, &mut ahead);
        fold_rows(&acc, out);
    }
}

/// `[row][term][field]` of four rows.
type Fields = [[[__m512i; 2]; 2]; ROWS];

/// The sums of four rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_rows(
    rows: [&[[u8; 64]]; ROWS],
    codes: [&[[[i8; 64]; 2]]; 2],
    ahead: &mut Ahead<'_>,
) -> Fields {
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
    acc
}

/// The sums of at most four rows: both fields, all lanes.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn fold_rows(acc: &Fields, out: &mut [[i32; 2]]) {
    let total = |acc: &[__m512i; 2]| _mm512_add_epi32(acc[0], _mm512_srai_epi32::<4>(acc[1]));
    let mut pairs = [_mm512_setzero_si512(); ROWS];
    for (pair, acc) in pairs.iter_mut().zip(acc) {
        // Lanes of both terms in turn.
        let terms = [total(&acc[0]), total(&acc[1])];
        *pair = _mm512_add_epi32(
            _mm512_unpacklo_epi32(terms[0], terms[1]),
            _mm512_unpackhi_epi32(terms[0], terms[1]),
        );
    }
    for (pairs, out) in pairs.as_chunks::<2>().0.iter().zip(out.chunks_mut(2)) {
        let wide = _mm512_add_epi32(
            _mm512_unpacklo_epi64(pairs[0], pairs[1]),
            _mm512_unpackhi_epi64(pairs[0], pairs[1]),
        );
        let half =
            _mm256_add_epi32(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64::<1>(wide));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let sums = [_mm_cvtsi128_si64(sums), _mm_extract_epi64::<1>(sums)];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = [sum as i32, (sum >> 32) as i32];
        }
    }
}
