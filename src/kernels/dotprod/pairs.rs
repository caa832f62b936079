//! Pairs of bits of the head's rows against the first term of a state: codes are multiplied where they lie and the sums
//! shifted, as for a token. `|acc[2]| <= 16384 * 48 * 127 < 2^27`.

use super::{
    sdot,
    sparse::{in_place, shifted},
};
use crate::kernels::{
    neon::{load_acts, load16},
    screen::PairsOf,
};
use std::arch::aarch64::*;

#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let (rows, _) = of.rows.as_chunks::<16>();
    let (codes, _) = of.codes.as_chunks::<16>();
    let steps = of.k / 64;
    for (row, out) in live.iter().zip(out) {
        let row = &rows[*row as usize * steps..][..steps];
        let mut acc = [vdupq_n_s32(0); 4];
        for (at, bytes) in row.iter().enumerate() {
            for (f, field) in in_place(load16(bytes)).into_iter().enumerate() {
                sdot(&mut acc[f], field, load_acts(&codes[f * steps + at]));
            }
        }
        *out = vaddvq_s32(shifted(acc));
    }
}
