//! Six bits of the head's rows against the first terms of several states: four rows by four states are sixteen sums, and five loads of
//! 16 bytes serve sixteen `sdot`.

use super::sdot;
use crate::kernels::{
    neon::{load_acts, plane},
    screen::{
        FirstTermsOf, ROWS,
        six_bits::{Codes, Rows, STATES, in_chunks},
    },
};
use std::arch::aarch64::*;

#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) fn first_terms(of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
    in_chunks(of, out, |rows, codes| product(rows, codes));
}

#[target_feature(enable = "neon,dotprod")]
fn product(rows: Rows<'_>, codes: Codes<'_>) -> [[i32; ROWS]; STATES] {
    let (rows, codes) = (rows.map(|row| row.as_chunks().0), codes.map(|codes| codes.as_chunks().0));
    let mut acc = [[vdupq_n_s32(0); ROWS]; STATES];
    for i in 0..rows[0].len() {
        let rows = [plane(&rows[0][i]), plane(&rows[1][i]), plane(&rows[2][i]), plane(&rows[3][i])];
        for (acc, codes) in acc.iter_mut().zip(codes) {
            let codes = load_acts(&codes[i]);
            for (acc, row) in acc.iter_mut().zip(rows) {
                sdot(acc, row, codes);
            }
        }
    }
    acc.map(|rows| rows.map(|acc| vaddvq_s32(acc)))
}
