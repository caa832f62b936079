//! Pairs of bits of the head's rows against the first term of a state.
//!
//! ```text
//! acc[f] += (x & 3 << 2f) . the codes of quarter f;   sum = acc[0] + (acc[1] >> 2) + (acc[2] >> 4) + (acc[3] >> 6)
//! ```
//!
//! A byte is at most 192 and `acc[f]` a multiple of `4^f`: `|acc| <= 16384 * 192 * 127 < 2^29`, and the shifts are exact.

use super::{ahead::Ahead, load64, nibbles::run, ordered};
use crate::kernels::screen::PairsOf;
use std::arch::x86_64::*;

/// Rows whose lanes are summed together.
const ROWS: usize = 4;

/// The sums of a row, by field.
pub(super) type Fields = [__m512i; 4];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let bytes = of.k / 4;
    let (quarters, _) = of.codes.as_chunks::<32>();
    let quarter = quarters.len() / 4;
    let codes = std::array::from_fn(|f| quarters[f * quarter..][..quarter].as_flattened());
    let stream = run(live).is_some();
    // Rows of an odd number of 32 bytes do not start with a line.
    let mut ahead = (!stream && bytes.is_multiple_of(64))
        .then(|| Ahead::new(of.rows.as_chunks().0, bytes / 64, live));
    for (live, out) in live.chunks(ROWS).zip(out.chunks_mut(ROWS)) {
        let mut acc = [_mm512_setzero_si512(); ROWS];
        for (row, acc) in live.iter().zip(&mut acc) {
            let row = &of.rows[*row as usize * bytes..][..bytes];
            if let Some(ahead) = &mut ahead {
                for _ in 0..bytes / 64 {
                    ahead.next();
                }
            }
            let (lines, rest) = row.as_chunks::<64>();
            let mut fields = ordered::pairs(lines, codes);
            if let Some(rest) = rest.first_chunk::<32>() {
                last(
                    rest,
                    codes.map(|codes| codes[codes.len() - 32..].first_chunk().expect("32 codes")),
                    &mut fields,
                );
            }
            *acc = total(&fields);
        }
        let sums = fold(acc);
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// Half a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn last(row: &[u8; 32], codes: [&[i8; 32]; 4], fields: &mut Fields) {
    let mut line = [0; 64];
    line[..32].copy_from_slice(row);
    let x = load64(&line);
    for (f, (acc, codes)) in fields.iter_mut().zip(codes).enumerate() {
        let mut acts = [0; 64];
        acts[..32].copy_from_slice(codes);
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
