//! The inputs of the products, a block of tokens at a time: normed, quantised and laid side by side.
//!
//! Three passes over the rows, all tokens in step: the sum of the squares, the greatest value, the codes. A norm of
//! one row is a chain of `fma` with one term in flight; of eight rows it is eight chains. The last pass norms again,
//! which costs less than to keep what was normed.

use super::{by_width, float::round, fold, load_i32, load_ps};
use crate::{
    kernels::{Inputs, ahead::prefetch},
    ops::norm::RowScale,
};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn inputs(of: Inputs<'_>, codes: &mut [i8], scales: &mut [RowScale]) {
    by_width!(scales.len(), side_by_side(of, codes, scales));
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn side_by_side<const W: usize>(of: Inputs<'_>, codes: &mut [i8], scales: &mut [RowScale]) {
    let Inputs { rows, width, gain, eps } = of;
    let mut row = [&[][..]; W];
    for (row, values) in row.iter_mut().zip(rows.chunks_exact(width)) {
        *row = &values.as_chunks::<16>().0[..width / 16];
    }
    let pieces = width / 16;
    let gains = gain.map(|gain| &gain.as_chunks::<16>().0[..pieces]);
    let mut inverse = [1.0; W];
    if let Some(gains) = gains {
        let mut squares = [_mm512_setzero_ps(); W];
        for (i, gain) in gains.iter().enumerate() {
            // The chains leave the memory time for what the next pass reads.
            prefetch(gain.as_ptr(), 0);
            for t in 0..W {
                let x = load_ps(&row[t][i]);
                squares[t] = _mm512_fmadd_ps(x, x, squares[t]);
            }
        }
        for t in 0..W {
            inverse[t] = 1.0 / (fold(squares[t]) / width as f32 + eps).sqrt();
        }
    }
    let mut greatest = [_mm512_set1_ps(1e-5); W];
    for i in 0..pieces {
        for t in 0..W {
            // The second operand wins where a value is NaN.
            let x = normed(&row[t][i], inverse[t], gains.map(|gains| &gains[i]));
            greatest[t] = _mm512_max_ps(_mm512_abs_ps(x), greatest[t]);
        }
    }
    let mut scale = [0.0; W];
    for t in 0..W {
        let greatest = _mm512_reduce_max_ps(greatest[t]);
        scale[t] = 127.0 / greatest;
        scales[t].step = greatest / 127.0;
    }
    let mut sums = [_mm512_setzero_si512(); W];
    let (places, padding) = codes.split_at_mut(W * width);
    for (i, places) in places.chunks_exact_mut(16 * W).enumerate() {
        let mut narrow = [_mm_setzero_si128(); W];
        for t in 0..W {
            let x = normed(&row[t][i], inverse[t], gains.map(|gains| &gains[i]));
            let q = round(x, _mm512_set1_ps(scale[t]));
            sums[t] = _mm512_add_epi32(sums[t], q);
            narrow[t] = _mm512_cvtepi32_epi8(q);
        }
        lay(narrow, places);
    }
    padding.fill(0);
    for t in 0..W {
        scales[t].sum = _mm512_reduce_add_epi32(sums[t]);
    }
}

/// `(x * inverse) * gain`, or `x` where there is no norm.
#[inline]
#[target_feature(enable = "avx512f")]
fn normed(x: &[f32; 16], inverse: f32, gain: Option<&[f32; 16]>) -> __m512 {
    let x = load_ps(x);
    match gain {
        Some(gain) => _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(inverse)), load_ps(gain)),
        None => x,
    }
}

/// Where each word of the places is among the codes, four words of each token.
const fn order<const W: usize>() -> [[i32; 16]; 2] {
    let mut order = [[0; 16]; 2];
    let mut word = 0;
    while word < 4 * W {
        order[word / 16][word % 16] = (word % W * 4 + word / W) as i32;
        word += 1;
    }
    order
}

/// Lays 16 codes of each token side by side, four of each in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn lay<const W: usize>(codes: [__m128i; W], places: &mut [i8]) {
    let mut all = [_mm512_setzero_si512(); 2];
    for t in 0..W {
        let four = &mut all[t / 4];
        *four = match t % 4 {
            0 => _mm512_inserti32x4::<0>(*four, codes[t]),
            1 => _mm512_inserti32x4::<1>(*four, codes[t]),
            2 => _mm512_inserti32x4::<2>(*four, codes[t]),
            _ => _mm512_inserti32x4::<3>(*four, codes[t]),
        };
    }
    for (order, places) in const { order::<W>() }.iter().zip(places.chunks_mut(64)) {
        store_some(places, _mm512_permutex2var_epi32(all[0], load_i32(order), all[1]));
    }
}

/// Stores as many bytes as there are places, 64 at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_some(places: &mut [i8], x: __m512i) {
    let mask = u64::MAX >> (64 - places.len().clamp(1, 64));
    // SAFETY: the bytes of the mask are those of the slice, which is not empty as a chunk of places.
    unsafe { _mm512_mask_storeu_epi8(places.as_mut_ptr(), mask, x) }
}
