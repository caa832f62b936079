//! Sums of 16 bits side by side, for the look-up tables.
//!
//! The functions are inlined into those of `lookup`'s stamp, which enables AVX2.

use crate::kernels::lookup::Lanes;
use std::arch::x86_64::*;

/// Sixteen sums.
#[derive(Clone, Copy)]
pub(super) struct Sums(__m256i);

impl Lanes for Sums {
    #[inline(always)]
    fn load(values: &[i16; 16]) -> Self {
        // SAFETY: the array is 32 readable bytes; the caller enables AVX2.
        Self(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, values: &mut [i16; 16]) {
        // SAFETY: the array is 32 writable bytes; the caller enables AVX2.
        unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the caller enables AVX2.
        Self(unsafe { _mm256_add_epi16(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the caller enables AVX2.
        Self(unsafe { _mm256_sub_epi16(self.0, other.0) })
    }

    #[inline(always)]
    fn byte(words: &[i32; 16], j: usize) -> Self {
        // SAFETY: the caller enables AVX2.
        Self(unsafe { byte(words, j) })
    }

    #[inline(always)]
    fn widen(self, sums: &mut [i32; 16]) {
        // SAFETY: the caller enables AVX2.
        unsafe { widen(self.0, sums) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn byte(words: &[i32; 16], j: usize) -> __m256i {
    let up = _mm_cvtsi32_si128(24 - 8 * j as i32);
    let words = words.as_chunks().0;
    let wide = [load(&words[0]), load(&words[1])];
    let low = _mm256_srai_epi32::<24>(_mm256_sll_epi32(wide[0], up));
    let high = _mm256_srai_epi32::<24>(_mm256_sll_epi32(wide[1], up));
    // Packing works within halves of a register: its quarters lie 0, 2, 1, 3.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen(narrow: __m256i, sums: &mut [i32; 16]) {
    let halves = [_mm256_castsi256_si128(narrow), _mm256_extracti128_si256::<1>(narrow)];
    for (sums, half) in sums.as_chunks_mut().0.iter_mut().zip(halves) {
        let sum = _mm256_add_epi32(load(sums), _mm256_cvtepi16_epi32(half));
        super::store_i32(sums, sum);
    }
}

/// Eight words.
#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[i32; 8]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}
