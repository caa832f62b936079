//! Sums of 16 bits side by side, for the look-up tables.
//!
//! The functions are inlined into those of `lookup`'s stamp, which enables NEON; every aarch64 target has it.

use super::{load_i32, store_i32};
use crate::kernels::lookup::Lanes;
use std::arch::aarch64::*;

/// Sixteen sums.
#[derive(Clone, Copy)]
pub(super) struct Sums([int16x8_t; 2]);

impl Lanes for Sums {
    #[inline(always)]
    fn load(values: &[i16; 16]) -> Self {
        let halves = values.as_chunks().0;
        // SAFETY: the caller enables NEON.
        Self(unsafe { [load(&halves[0]), load(&halves[1])] })
    }

    #[inline(always)]
    fn store(self, values: &mut [i16; 16]) {
        for (half, x) in values.as_chunks_mut().0.iter_mut().zip(self.0) {
            // SAFETY: the caller enables NEON.
            unsafe { store(half, x) }
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the caller enables NEON.
        Self(unsafe { [vaddq_s16(self.0[0], other.0[0]), vaddq_s16(self.0[1], other.0[1])] })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the caller enables NEON.
        Self(unsafe { [vsubq_s16(self.0[0], other.0[0]), vsubq_s16(self.0[1], other.0[1])] })
    }

    #[inline(always)]
    fn byte(words: &[i32; 16], j: usize) -> Self {
        let halves = words.as_chunks().0;
        // SAFETY: the caller enables NEON.
        Self(unsafe { [byte(&halves[0], j), byte(&halves[1], j)] })
    }

    #[inline(always)]
    fn widen(self, sums: &mut [i32; 16]) {
        for (sums, x) in sums.as_chunks_mut().0.iter_mut().zip(self.0) {
            // SAFETY: the caller enables NEON.
            unsafe { widen(x, sums) }
        }
    }
}

/// Eight sums.
#[inline]
#[target_feature(enable = "neon")]
fn load(values: &[i16; 8]) -> int16x8_t {
    // SAFETY: the array is 16 readable bytes.
    unsafe { vld1q_s16(values.as_ptr()) }
}

/// Stores eight sums.
#[inline]
#[target_feature(enable = "neon")]
fn store(values: &mut [i16; 8], x: int16x8_t) {
    // SAFETY: the array is 16 writable bytes.
    unsafe { vst1q_s16(values.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "neon")]
fn byte(words: &[i32; 8], j: usize) -> int16x8_t {
    let up = vdupq_n_s32(24 - 8 * j as i32);
    let words = words.as_chunks().0;
    let low = vshrq_n_s32::<24>(vshlq_s32(load_i32(&words[0]), up));
    let high = vshrq_n_s32::<24>(vshlq_s32(load_i32(&words[1]), up));
    vcombine_s16(vmovn_s32(low), vmovn_s32(high))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(narrow: int16x8_t, sums: &mut [i32; 8]) {
    let halves = [vget_low_s16(narrow), vget_high_s16(narrow)];
    for (sums, half) in sums.as_chunks_mut().0.iter_mut().zip(halves) {
        let sum = vaddw_s16(load_i32(sums), half);
        store_i32(sums, sum);
    }
}
