//! Attention over one block: keys and values are converted once for up to four queries.
//!
//! Scores and weighted values are the same small product, `acc[q] += a[q][p] *
//! b[p]` over vectors of 8: scores take `a` = query, `b` = keys (one row of 64
//! positions for each `d`); values take `a` = weights, `b` = values. Each lane is
//! one chain of `fma` in increasing `p`, as the scalar table has it.

use super::{exp, fold, load_ps, store_ps};
use crate::{
    kernels::{BLOCK, KvBlock, Online, ahead::prefetch},
    ops::{Hardware, math},
};
use half::f16;
use std::arch::x86_64::*;

/// Queries taken together.
const MANY: usize = 4;

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn attend(
    queries: &[f32],
    block: KvBlock<'_>,
    lens: &[usize],
    state: &mut Online<'_>,
) {
    let dim = queries.len() / lens.len();
    let mut live = lens.iter().enumerate().filter(|(_, len)| **len > 0).map(|(i, _)| i);
    loop {
        let mut group = [0; MANY];
        let mut count = 0;
        for (place, i) in group.iter_mut().zip(&mut live) {
            *place = i;
            count += 1;
        }
        match group[..count] {
            [a, b, c, d] => some::<4, 2>(queries, dim, block, lens, [a, b, c, d], state),
            [a, b, c] => some::<3, 2>(queries, dim, block, lens, [a, b, c], state),
            [a, b] => some::<2, 4>(queries, dim, block, lens, [a, b], state),
            [a] => some::<1, 8>(queries, dim, block, lens, [a], state),
            _ => return,
        }
    }
}

/// The queries numbered in `live`, `8 * N` columns at a time: chains enough to hide a latency, registers enough.
#[target_feature(enable = "avx2,fma,f16c")]
fn some<const Q: usize, const N: usize>(
    queries: &[f32],
    dim: usize,
    block: KvBlock<'_>,
    lens: &[usize],
    live: [usize; Q],
    state: &mut Online<'_>,
) {
    let query = live.map(|i| &queries[i * dim..][..dim]);
    let mut weights = [[0.0; BLOCK]; Q];
    for at in (0..BLOCK).step_by(8 * N) {
        let zero = [[_mm256_setzero_ps(); N]; Q];
        let scores = match block {
            KvBlock::F16 { keys, .. } => {
                product(query, keys, BLOCK, at, (zero, state.next), |x| load_f16(x))
            }
            KvBlock::I8 { keys, .. } => {
                product(query, keys, BLOCK, at, (zero, state.next), |x| load_i8(x))
            }
        };
        for (weights, scores) in weights.iter_mut().zip(scores) {
            let places = weights[at..].as_chunks_mut().0;
            for (place, score) in places.iter_mut().zip(scores) {
                store_ps(place, score);
            }
        }
    }
    let mut alpha = [0.0; Q];
    for (q, i) in live.into_iter().enumerate() {
        let weights = &mut weights[q];
        if let KvBlock::I8 { key_steps, .. } = block {
            times(weights, key_steps);
        }
        alpha[q] = softmax(weights, lens[i], &mut state.max[i], &mut state.sum[i]);
        if let KvBlock::I8 { value_steps, .. } = block {
            times(weights, value_steps);
        }
    }
    let weights = std::array::from_fn(|q| &weights[q][..lens[live[q]]]);
    let values = Values { live, weights, alpha, dim, next: state.next };
    match block {
        KvBlock::F16 { values: v, .. } => {
            weigh::<f16, Q, N>(&values, v, state.acc, |x| load_f16(x), f16::to_f32);
        }
        KvBlock::I8 { values: v, .. } => {
            weigh::<i8, Q, N>(&values, v, state.acc, |x| load_i8(x), f32::from);
        }
    }
}

/// `x *= y`.
#[target_feature(enable = "avx2")]
fn times(x: &mut [f32; BLOCK], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// `acc[q] += a[q][p] * b[p]`, for `8 * N` columns of `b` from `at`; `b` is `[p][stride]`. As much of what lies `next` bytes
/// behind `b` is asked for, line after line.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn product<E, const Q: usize, const N: usize>(
    a: [&[f32]; Q],
    b: &[E],
    stride: usize,
    at: usize,
    (mut acc, next): ([[__m256; N]; Q], isize),
    load: impl Fn(&[E; 8]) -> __m256,
) -> [[__m256; N]; Q] {
    let len = a[0].len();
    let bytes = 8 * N * size_of::<E>();
    let ahead = b.as_ptr().wrapping_byte_offset(next).wrapping_add(at * (b.len() / stride));
    let a = a.map(|a| &a[..len]);
    for (p, row) in b.chunks_exact(stride).enumerate().take(len) {
        let row = row[at..at + 8 * N].as_chunks().0;
        for line in (0..bytes).step_by(64) {
            prefetch(ahead, p * bytes + line);
        }
        let mut b = [_mm256_setzero_ps(); N];
        for (b, row) in b.iter_mut().zip(row) {
            *b = load(row);
        }
        for (acc, a) in acc.iter_mut().zip(a) {
            let a = _mm256_set1_ps(a[p]);
            for (acc, b) in acc.iter_mut().zip(b) {
                *acc = _mm256_fmadd_ps(a, b, *acc);
            }
        }
    }
    acc
}

/// Turns scores into weights; gives what the older weights shrink by. Weights beyond `len` are +0.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn softmax(scores: &mut [f32; BLOCK], len: usize, max: &mut f32, sum: &mut f32) -> f32 {
    let place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let live = |n: usize| {
        let left = _mm256_set1_epi32(len as i32 - 8 * n as i32);
        _mm256_castsi256_ps(_mm256_cmpgt_epi32(
            _mm256_sub_epi32(left, place),
            _mm256_setzero_si256(),
        ))
    };
    let (scores, _) = scores.as_chunks_mut::<8>();
    // The second operand wins where a score is NaN; which zero wins does not reach a weight.
    let mut top = _mm256_set1_ps(*max);
    for (n, score) in scores.iter().enumerate() {
        let score = _mm256_blendv_ps(top, load_ps(score), live(n));
        top = _mm256_max_ps(score, top);
    }
    let top = reduce_max(top);
    let alpha = math::exp::<Hardware>(*max - top);
    let mut lanes = [_mm256_setzero_ps(); 2];
    for (n, score) in scores.iter_mut().enumerate() {
        let weight = exp(_mm256_sub_ps(load_ps(score), _mm256_set1_ps(top)));
        // Lanes are +0 or above (or NaN), so that adding +0 for a dead position changes nothing.
        let weight = _mm256_and_ps(weight, live(n));
        store_ps(score, weight);
        lanes[n % 2] = _mm256_add_ps(lanes[n % 2], weight);
    }
    *max = top;
    *sum = sum.mul_add(alpha, fold(lanes));
    alpha
}

/// The greatest of eight values; NaN stands in all of them or in none.
#[target_feature(enable = "avx2")]
pub(super) fn reduce_max(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

/// What the weighted sum of values takes beside the values.
struct Values<'a, const Q: usize> {
    /// The numbers of the queries.
    live: [usize; Q],
    /// Their weights, for as many positions as each sees.
    weights: [&'a [f32]; Q],
    /// What their older sums shrink by.
    alpha: [f32; Q],
    /// Columns of values and of `acc`.
    dim: usize,
    /// Where the next block is.
    next: isize,
}

/// `acc = acc * alpha + weights . values` of each live query.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn weigh<E: Copy, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    acc: &mut [f32],
    load: impl Fn(&[E; 8]) -> __m256,
    one: impl Fn(E) -> f32,
) {
    let mut at = 0;
    while at + 8 * N <= v.dim {
        weigh_columns::<E, Q, N>(v, values, at, acc, &load);
        at += 8 * N;
    }
    while at + 8 <= v.dim {
        weigh_columns::<E, Q, 1>(v, values, at, acc, &load);
        at += 8;
    }
    for d in at..v.dim {
        for q in 0..Q {
            let acc = &mut acc[v.live[q] * v.dim + d];
            *acc *= v.alpha[q];
            for (weight, values) in v.weights[q].iter().zip(values.chunks_exact(v.dim)) {
                *acc = weight.mul_add(one(values[d]), *acc);
            }
        }
    }
}

/// `8 * N` columns of [`weigh`]: together as far as every query sees, then each by itself.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn weigh_columns<E, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    at: usize,
    acc: &mut [f32],
    load: impl Fn(&[E; 8]) -> __m256,
) {
    let common = v.weights.iter().map(|w| w.len()).min().expect("at least one query");
    let mut sums = [[_mm256_setzero_ps(); N]; Q];
    for q in 0..Q {
        let acc = acc[v.live[q] * v.dim + at..][..8 * N].as_chunks().0;
        for (sum, acc) in sums[q].iter_mut().zip(acc) {
            *sum = _mm256_mul_ps(load_ps(acc), _mm256_set1_ps(v.alpha[q]));
        }
    }
    let sums = product(v.weights.map(|w| &w[..common]), values, v.dim, at, (sums, v.next), &load);
    for q in 0..Q {
        let weights = [&v.weights[q][common..]];
        let [sums] =
            product(weights, &values[common * v.dim..], v.dim, at, ([sums[q]], v.next), &load);
        let acc = acc[v.live[q] * v.dim + at..][..8 * N].as_chunks_mut().0;
        for (acc, sums) in acc.iter_mut().zip(sums) {
            store_ps(acc, sums);
        }
    }
}

/// 8 halves as f32, exactly.
#[target_feature(enable = "avx2,f16c")]
fn load_f16(values: &[f16; 8]) -> __m256 {
    // SAFETY: the array is 16 readable bytes, and `loadu` asks no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

/// 8 codes as f32.
#[target_feature(enable = "avx2")]
fn load_i8(values: &[i8; 8]) -> __m256 {
    let codes = _mm_cvtsi64_si128(i64::from_le_bytes(values.map(|code| code as u8)));
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))
}
