//! Attention over one block: keys and values are converted once for up to four queries.
//!
//! Scores and weighted values are the same small product, `acc[q] += a[q][p] *
//! b[p]` over vectors of 16: scores take `a` = query, `b` = keys (one row of 64
//! positions for each `d`); values take `a` = weights, `b` = values. Each lane is
//! one chain of `fma` in increasing `p`, as the scalar table has it.

use super::{exp, fold, load_ps, store_ps};
use crate::{
    kernels::{BLOCK, KvBlock, Online},
    ops::{Hardware, math},
};
use half::f16;
use std::arch::x86_64::*;

/// Scores of one query: 64 positions.
type Scores = [__m512; 4];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn attend(queries: &[f32], block: KvBlock<'_>, lens: &[usize], state: &mut Online<'_>) {
    let dim = queries.len() / lens.len();
    let mut next = 0;
    let mut live = [0; 4];
    let mut count = 0;
    while next < lens.len() || count > 0 {
        // Gathers up to four queries that see something of this block.
        while next < lens.len() && count < 4 {
            if lens[next] > 0 {
                live[count] = next;
                count += 1;
            }
            next += 1;
        }
        match count {
            4 => some::<4>(queries, dim, block, lens, &live, state),
            3 => some::<3>(queries, dim, block, lens, &live, state),
            2 => some::<2>(queries, dim, block, lens, &live, state),
            1 => some::<1>(queries, dim, block, lens, &live, state),
            _ => {}
        }
        count = 0;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn some<const Q: usize>(
    queries: &[f32],
    dim: usize,
    block: KvBlock<'_>,
    lens: &[usize],
    live: &[usize; 4],
    state: &mut Online<'_>,
) {
    let live: [usize; Q] = std::array::from_fn(|i| live[i]);
    let query = live.map(|i| &queries[i * dim..][..dim]);
    let zero = [[_mm512_setzero_ps(); 4]; Q];
    let mut scores = match block {
        KvBlock::F16 { keys, .. } => product(query, keys, BLOCK, 0, zero, |x| load_f16(x)),
        KvBlock::I8 { keys, key_steps, .. } => {
            let scores = product(query, keys, BLOCK, 0, zero, |x| load_i8(x));
            let steps = key_steps.as_chunks::<16>().0;
            scores.map(|s| std::array::from_fn(|n| _mm512_mul_ps(s[n], load_ps(&steps[n]))))
        }
    };
    let mut alpha = [0.0; Q];
    for (q, i) in live.into_iter().enumerate() {
        alpha[q] = softmax(&mut scores[q], lens[i], &mut state.max[i], &mut state.sum[i]);
    }
    let mut weights = [[0.0; BLOCK]; Q];
    for (weights, scores) in weights.iter_mut().zip(&scores) {
        for (n, (weights, score)) in weights.as_chunks_mut().0.iter_mut().zip(scores).enumerate() {
            let score = match block {
                KvBlock::F16 { .. } => *score,
                KvBlock::I8 { value_steps, .. } => {
                    _mm512_mul_ps(*score, load_ps(&value_steps.as_chunks::<16>().0[n]))
                }
            };
            store_ps(weights, score);
        }
    }
    let weights = std::array::from_fn(|q| &weights[q][..lens[live[q]]]);
    match block {
        KvBlock::F16 { values, .. } => {
            weigh(live, weights, alpha, values, dim, state.acc, |x| load_f16(x), f16::to_f32);
        }
        KvBlock::I8 { values, .. } => {
            weigh(live, weights, alpha, values, dim, state.acc, |x| load_i8(x), f32::from);
        }
    }
}

/// `acc[q] += a[q][p] * b[p]`, for `16 * N` columns of `b` from `at`; `b` is `[p][stride]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn product<E, const Q: usize, const N: usize>(
    a: [&[f32]; Q],
    b: &[E],
    stride: usize,
    at: usize,
    mut acc: [[__m512; N]; Q],
    load: impl Fn(&[E; 16]) -> __m512,
) -> [[__m512; N]; Q] {
    let len = a[0].len();
    let a = a.map(|a| &a[..len]);
    for (p, row) in b.chunks_exact(stride).enumerate().take(len) {
        let row = row[at..at + 16 * N].as_chunks::<16>().0;
        let row: [__m512; N] = std::array::from_fn(|n| load(&row[n]));
        for (acc, a) in acc.iter_mut().zip(a) {
            let a = _mm512_set1_ps(a[p]);
            for (acc, row) in acc.iter_mut().zip(row) {
                *acc = _mm512_fmadd_ps(a, row, *acc);
            }
        }
    }
    acc
}

/// Turns scores into weights; gives what the older weights shrink by. Weights beyond `len` are +0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn softmax(scores: &mut Scores, len: usize, max: &mut f32, sum: &mut f32) -> f32 {
    let live = u64::MAX >> (64 - len);
    let live: [__mmask16; 4] = std::array::from_fn(|n| (live >> (16 * n)) as __mmask16);
    // The second operand wins where a score is NaN; which zero wins does not reach a weight.
    let mut top = _mm512_set1_ps(*max);
    for (score, live) in scores.iter().zip(live) {
        top = _mm512_mask_max_ps(top, live, *score, top);
    }
    let top = _mm512_reduce_max_ps(top);
    let alpha = math::exp::<Hardware>(*max - top);
    let mut lanes = _mm512_setzero_ps();
    for (score, live) in scores.iter_mut().zip(live) {
        let weight = exp(_mm512_sub_ps(*score, _mm512_set1_ps(top)));
        // Lanes are +0 or above (or NaN), so that adding +0 for a dead position changes nothing.
        *score = _mm512_maskz_mov_ps(live, weight);
        lanes = _mm512_add_ps(lanes, *score);
    }
    *max = top;
    *sum = sum.mul_add(alpha, fold(lanes));
    alpha
}

/// `acc = acc * alpha + weights . values` of each live query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[allow(clippy::too_many_arguments)]
fn weigh<E: Copy, const Q: usize>(
    live: [usize; Q],
    weights: [&[f32]; Q],
    alpha: [f32; Q],
    values: &[E],
    dim: usize,
    acc: &mut [f32],
    load: impl Fn(&[E; 16]) -> __m512,
    one: impl Fn(E) -> f32,
) {
    let mut at = 0;
    while at + 64 <= dim {
        weigh_columns::<E, Q, 4>(live, weights, alpha, values, dim, at, acc, &load);
        at += 64;
    }
    while at + 16 <= dim {
        weigh_columns::<E, Q, 1>(live, weights, alpha, values, dim, at, acc, &load);
        at += 16;
    }
    for d in at..dim {
        for q in 0..Q {
            let acc = &mut acc[live[q] * dim + d];
            *acc *= alpha[q];
            for (weight, values) in weights[q].iter().zip(values.chunks_exact(dim)) {
                *acc = weight.mul_add(one(values[d]), *acc);
            }
        }
    }
}

/// `16 * N` columns of [`weigh`]: together as far as every query sees, then each by itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[allow(clippy::too_many_arguments)]
fn weigh_columns<E, const Q: usize, const N: usize>(
    live: [usize; Q],
    weights: [&[f32]; Q],
    alpha: [f32; Q],
    values: &[E],
    dim: usize,
    at: usize,
    acc: &mut [f32],
    load: impl Fn(&[E; 16]) -> __m512,
) {
    let common = weights.iter().map(|w| w.len()).min().expect("at least one query");
    let sums: [[__m512; N]; Q] = std::array::from_fn(|q| {
        let acc = acc[live[q] * dim + at..][..16 * N].as_chunks::<16>().0;
        std::array::from_fn(|n| _mm512_mul_ps(load_ps(&acc[n]), _mm512_set1_ps(alpha[q])))
    });
    let sums = product(weights.map(|w| &w[..common]), values, dim, at, sums, &load);
    for q in 0..Q {
        let [sums] =
            product([&weights[q][common..]], &values[common * dim..], dim, at, [sums[q]], &load);
        let acc = acc[live[q] * dim + at..][..16 * N].as_chunks_mut::<16>().0;
        for (acc, sums) in acc.iter_mut().zip(sums) {
            store_ps(acc, sums);
        }
    }
}

/// 16 halves as f32, exactly.
#[target_feature(enable = "avx512f")]
fn load_f16(values: &[f16; 16]) -> __m512 {
    // SAFETY: the array is 32 readable bytes, and `loadu` asks no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

/// 16 codes as f32.
#[target_feature(enable = "avx512f")]
fn load_i8(values: &[i8; 16]) -> __m512 {
    // SAFETY: the array is 16 readable bytes, and `loadu` asks no alignment.
    let codes = unsafe { _mm_loadu_si128(values.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))
}
