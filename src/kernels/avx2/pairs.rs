//! Pairs of bits of the head's rows against the first term of a state.
//!
//! ```text
//! acc += (x >> 2f & 3) . the codes of quarter f     16 bits: 10 times four terms of 2*3*127 = 762, 30480, then widen
//! ```

use super::{
    dots::widen,
    load32,
    sparse::{load_i8, reduce_add},
};
use crate::kernels::{
    ahead::{AHEAD, prefetch},
    screen::PairsOf,
};
use std::arch::x86_64::*;

/// Steps of 32 bytes between two widenings.
const STEPS: usize = 10;

#[target_feature(enable = "avx2")]
pub(super) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let (rows, _) = of.rows.as_chunks::<32>();
    let (codes, _) = of.codes.as_chunks::<32>();
    let steps = of.k / 128;
    let mask = _mm256_set1_epi8(3);
    for (row, out) in live.iter().zip(out) {
        let row = &rows[*row as usize * steps..][..steps];
        let mut sum = _mm256_setzero_si256();
        for (n, row) in row.chunks(STEPS).enumerate() {
            let mut acc = _mm256_setzero_si256();
            for (i, bytes) in row.iter().enumerate() {
                let at = n * STEPS + i;
                prefetch(bytes, 64 * AHEAD);
                let x = load32(bytes);
                let fields = [
                    x,
                    _mm256_srli_epi16::<2>(x),
                    _mm256_srli_epi16::<4>(x),
                    _mm256_srli_epi16::<6>(x),
                ];
                for (f, field) in fields.into_iter().enumerate() {
                    let product = _mm256_maddubs_epi16(
                        _mm256_and_si256(field, mask),
                        load_i8(&codes[f * steps + at]),
                    );
                    acc = _mm256_add_epi16(acc, product);
                }
            }
            sum = _mm256_add_epi32(sum, widen(acc));
        }
        *out = reduce_add(sum);
    }
}
