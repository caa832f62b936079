//! Pairs of bits of the head's rows against the first term of a state.
//!
//! ```text
//! acc[f] += (x & 3 << 2f) . the codes of quarter f;   sum = acc[0] + (acc[1] >> 2) + (acc[2] >> 4) + (acc[3] >> 6)
//! ```
//!
//! A byte is at most 192 and `acc[f]` a multiple of `4^f`: `|acc| <= 16384 * 192 * 127 < 2^29`, and the shifts are exact.

use super::{STREAM, load64, planes};
use crate::kernels::{
    ahead::prefetch,
    screen::{PairsOf, ROWS},
};
use std::arch::x86_64::*;

/// Scattered rows are asked for so many ahead.
const SCATTERED: usize = 12;

/// The sums of a row, by field.
pub(super) type Fields = [__m512i; 4];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let bytes = of.k / 4;
    let stream = live.windows(2).all(|rows| rows[0].wrapping_add(1) == rows[1]);
    let row = |i: usize| &of.rows[live[i.min(live.len() - 1)] as usize * bytes..][..bytes];
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let at = group * ROWS;
        let rows = [row(at), row(at + 1), row(at + 2), row(at + 3)];
        let mut ahead = rows[0].as_ptr();
        if stream {
            ahead = ahead.wrapping_add(STREAM);
        } else {
            for line in (at + SCATTERED..at + SCATTERED + ROWS).flat_map(|i| row(i).chunks(64)) {
                prefetch(line.as_ptr(), 0);
            }
        }
        let mut fields = planes::pairs(rows.map(|row| row.as_chunks().0), of.codes, ahead);
        for (row, fields) in rows.iter().zip(&mut fields) {
            if let Some(rest) = row.as_chunks::<64>().1.first_chunk::<32>() {
                last(rest, of.codes, fields);
            }
        }
        let mut acc = [_mm512_setzero_si512(); ROWS];
        for (acc, fields) in acc.iter_mut().zip(&fields) {
            *acc = total(fields);
        }
        let sums = fold(acc);
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// Half a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn last(row: &[u8; 32], codes: &[i8], fields: &mut Fields) {
    let mut line = [0; 64];
    line[..32].copy_from_slice(row);
    let x = load64(&line);
    let quarters = codes.chunks_exact(codes.len() / 4);
    for (f, (acc, codes)) in fields.iter_mut().zip(quarters).enumerate() {
        let mut acts = [0; 64];
        acts[..32].copy_from_slice(&codes[codes.len() - 32..]);
        let c = _mm512_and_si512(x, _mm512_set1_epi8(MASKS[f]));
        *acc = _mm512_dpbusd_epi32(*acc, c, super::load_i8(&acts));
    }
}

/// The bits of each field.
pub(super) const MASKS: [i8; 4] = [0x03, 0x0c, 0x30, 0xc0u8 as i8];

/// The fields of a row together.
#[target_feature(enable = "avx512f")]
fn total(acc: &Fields) -> __m512i {
    let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(acc[2]), _mm512_srai_epi32::<6>(acc[3]));
    _mm512_add_epi32(low, high)
}

/// The sum of the lanes of each.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn fold(acc: [__m512i; ROWS]) -> [i32; ROWS] {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (first, second) = (pair(acc[0], acc[1]), pair(acc[2], acc[3]));
    let wide = _mm512_add_epi32(
        _mm512_unpacklo_epi64(first, second),
        _mm512_unpackhi_epi64(first, second),
    );
    let half = _mm256_add_epi32(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64::<1>(wide));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    [
        _mm_cvtsi128_si32(sums),
        _mm_extract_epi32::<1>(sums),
        _mm_extract_epi32::<2>(sums),
        _mm_extract_epi32::<3>(sums),
    ]
}
