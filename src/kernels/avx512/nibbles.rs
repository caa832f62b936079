//! Nibbles of the head's rows against both terms of a state.
//!
//! ```text
//! acc[row][t][0] += (x & 0f) . term t of the first 64 values;  acc[row][t][1] += (x & f0) . the next 64
//! sum = acc[0] + (acc[1] >> 4)
//! ```
//!
//! The second field is multiplied in place: a byte is at most 240, every sum a multiple of 16, and
//! `|acc| <= 65536 / 2 * 240 * 127 < 2^30`.

use super::planes;
use crate::kernels::{
    scalar,
    screen::{PlaneOf, ROWS},
};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn nibbles(of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
    let (groups, rest) = of.rows.split_at(out.len() / ROWS * ROWS * of.k / 2);
    let (out, last) = out.as_chunks_mut::<ROWS>();
    let codes = of.codes.map(|codes| codes.as_chunks::<64>().0.as_chunks::<2>().0);
    for (group, out) in groups.chunks_exact(ROWS * of.k / 2).zip(out) {
        let lines = group.as_chunks::<64>().0.as_chunks::<ROWS>().0;
        fold_rows(&planes::nibbles(lines, codes), out);
    }
    scalar::nibbles(PlaneOf { rows: rest, ..of }, last);
}

/// `[row][term][field]` of four rows.
type Fields = [[[__m512i; 2]; 2]; ROWS];

/// The sums of four rows: both fields, all lanes.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn fold_rows(acc: &Fields, out: &mut [[i32; 2]; ROWS]) {
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
