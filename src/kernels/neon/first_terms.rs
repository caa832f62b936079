//! Six bits of the head's rows against the first terms of several states.
//!
//! ```text
//! acc += x * the codes     16 bits: four terms of 63*127 = 8001, 32004, then widen
//! ```

use super::{chunks::plane, dots::multiply, load_acts};
use crate::kernels::screen::{
    FirstTermsOf, ROWS,
    six_bits::{Codes, Rows, STATES, in_chunks},
};
use std::arch::aarch64::*;

/// Steps of 16 values between two widenings.
const STEPS: usize = 4;

#[target_feature(enable = "neon")]
pub(super) fn first_terms(of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
    in_chunks(of, out, |rows, codes| product(rows, codes));
}

#[target_feature(enable = "neon")]
fn product(rows: Rows<'_>, codes: Codes<'_>) -> [[i32; ROWS]; STATES] {
    let rows = rows.map(|row| row.as_chunks::<16>().0.as_chunks::<STEPS>().0);
    let mut sums = [[0; ROWS]; STATES];
    for (sums, codes) in sums.iter_mut().zip(codes) {
        let mut wide = [vdupq_n_s32(0); ROWS];
        for (i, codes) in codes.as_chunks::<16>().0.as_chunks::<STEPS>().0.iter().enumerate() {
            let mut acc = [[vdupq_n_s16(0); 2]; ROWS];
            for (step, codes) in codes.iter().enumerate() {
                let codes = load_acts(codes);
                for (acc, row) in acc.iter_mut().zip(rows) {
                    multiply(acc, plane(&row[i][step]), codes);
                }
            }
            for (wide, acc) in wide.iter_mut().zip(acc) {
                *wide = vpadalq_s16(vpadalq_s16(*wide, acc[0]), acc[1]);
            }
        }
        *sums = wide.map(|wide| vaddvq_s32(wide));
    }
    sums
}
