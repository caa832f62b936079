//! Pairs of bits of the head's rows against the first term of a state.
//!
//! ```text
//! acc += (x >> 2f & 3) * the codes of quarter f     16 bits: 16 times four terms of 3*127 = 381, 24384, then widen
//! ```

use super::{chunks::fields, dots::multiply, load_acts, load16};
use crate::kernels::screen::PairsOf;
use std::arch::aarch64::*;

/// Steps of 16 bytes between two widenings.
const STEPS: usize = 16;

#[target_feature(enable = "neon")]
pub(super) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let (rows, _) = of.rows.as_chunks::<16>();
    let (codes, _) = of.codes.as_chunks::<16>();
    let steps = of.k / 64;
    for (row, out) in live.iter().zip(out) {
        let row = &rows[*row as usize * steps..][..steps];
        let mut sum = vdupq_n_s32(0);
        for (n, row) in row.chunks(STEPS).enumerate() {
            let mut acc = [vdupq_n_s16(0); 2];
            for (i, bytes) in row.iter().enumerate() {
                let at = n * STEPS + i;
                for (f, field) in fields(load16(bytes)).into_iter().enumerate() {
                    multiply(
                        &mut acc,
                        vreinterpretq_s8_u8(field),
                        load_acts(&codes[f * steps + at]),
                    );
                }
            }
            sum = vpadalq_s16(vpadalq_s16(sum, acc[0]), acc[1]);
        }
        *out = vaddvq_s32(sum);
    }
}
