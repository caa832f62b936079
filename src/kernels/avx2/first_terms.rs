//! Six bits of the head's rows against the first terms of several states.
//!
//! ```text
//! acc += x . the codes     16 bits: two times two terms of 63*127 = 16002, 32004, then widen
//! ```

use super::{
    dots::widen,
    load32,
    sparse::{load_i8, reduce_add},
};
use crate::kernels::screen::{
    FirstTermsOf, ROWS,
    six_bits::{Codes, Rows, STATES, in_chunks},
};
use std::arch::x86_64::*;

/// Steps of 32 values between two widenings.
const STEPS: usize = 2;

#[target_feature(enable = "avx2")]
pub(super) fn first_terms(of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
    in_chunks(of, out, |rows, codes| product(rows, codes));
}

#[target_feature(enable = "avx2")]
fn product(rows: Rows<'_>, codes: Codes<'_>) -> [[i32; ROWS]; STATES] {
    let rows = rows.map(|row| row.as_chunks::<32>().0.as_chunks::<STEPS>().0);
    let mut sums = [[0; ROWS]; STATES];
    for (sums, codes) in sums.iter_mut().zip(codes) {
        let mut wide = [_mm256_setzero_si256(); ROWS];
        for (i, codes) in codes.as_chunks::<32>().0.as_chunks::<STEPS>().0.iter().enumerate() {
            let codes = [load_i8(&codes[0]), load_i8(&codes[1])];
            for (wide, row) in wide.iter_mut().zip(rows) {
                let first = _mm256_maddubs_epi16(load32(&row[i][0]), codes[0]);
                let second = _mm256_maddubs_epi16(load32(&row[i][1]), codes[1]);
                *wide = _mm256_add_epi32(*wide, widen(_mm256_add_epi16(first, second)));
            }
        }
        *sums = wide.map(|wide| reduce_add(wide));
    }
    sums
}
