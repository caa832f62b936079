//! Attention over one block: keys and values are converted once for up to eight queries.
//!
//! Scores and weighted values are the same small product, `acc[q] += a[q][p] *
//! b[p]` over vectors of 16: scores take `a` = query, `b` = keys (one row of 64
//! positions for each `d`); values take `a` = weights, `b` = values. Each lane is
//! one chain of `fma` in increasing `p`, as the scalar table has it.

use super::{exp, fold, load_ps, store_ps};
use crate::kernels::{BLOCK, KvBlock, Online, ahead::prefetch};
use half::f16;
use std::arch::x86_64::*;

/// Queries taken together at most: eight meet 32 columns at a time, fewer 64.
const MANY: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn attend(queries: &[f32], block: KvBlock<'_>, lens: &[usize], state: &mut Online<'_>) {
    let dim = queries.len() / lens.len();
    let mut live = lens.iter().enumerate().filter(|(_, len)| **len > 0).map(|(i, _)| i);
    loop {
        let mut group = [0; MANY];
        let mut count = 0;
        for (place, i) in group.iter_mut().zip(&mut live) {
            *place = i;
            count += 1;
        }
        if count == MANY {
            some::<MANY, 2>(queries, dim, block, lens, group, state);
            continue;
        }
        let mut rest = &group[..count];
        if let Some((four, others)) = rest.split_first_chunk() {
            some::<4, 4>(queries, dim, block, lens, *four, state);
            rest = others;
        }
        match *rest {
            [a, b, c] => some::<3, 4>(queries, dim, block, lens, [a, b, c], state),
            [a, b] => some::<2, 4>(queries, dim, block, lens, [a, b], state),
            [a] => some::<1, 4>(queries, dim, block, lens, [a], state),
            _ => {}
        }
        return;
    }
}

/// The queries numbered in `live`, `16 * N` columns at a time: chains enough to hide a latency, registers enough.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn some<const Q: usize, const N: usize>(
    queries: &[f32],
    dim: usize,
    block: KvBlock<'_>,
    lens: &[usize],
    live: [usize; Q],
    state: &mut Online<'_>,
) {
    let mut query = [&[][..]; Q];
    let mut longest = 0;
    for (query, i) in query.iter_mut().zip(live) {
        *query = &queries[i * dim..][..dim];
        longest = lens[i].max(longest);
    }
    let mut weights = [[0.0; BLOCK]; Q];
    // What no query sees keeps a score of zero.
    for at in (0..longest).step_by(16 * N) {
        let zero = [[_mm512_setzero_ps(); N]; Q];
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
    let mut tops = [0.0; 16];
    for (q, i) in live.into_iter().enumerate() {
        if let KvBlock::I8 { key_steps, .. } = block {
            times(&mut weights[q], key_steps);
        }
        tops[q] = top(&weights[q], lens[i], state.max[i]);
    }
    // What older weights shrink by, of all queries at once.
    let mut alpha = tops;
    for (alpha, i) in alpha.iter_mut().zip(live) {
        *alpha = state.max[i] - *alpha;
    }
    let shrunk = exp(load_ps(&alpha));
    store_ps(&mut alpha, shrunk);
    for (q, i) in live.into_iter().enumerate() {
        let sum = weigh_scores(&mut weights[q], lens[i], tops[q]);
        state.max[i] = tops[q];
        state.sum[i] = state.sum[i].mul_add(alpha[q], sum);
        if let KvBlock::I8 { value_steps, .. } = block {
            times(&mut weights[q], value_steps);
        }
    }
    let mut seen = [&[][..]; Q];
    for ((seen, weights), i) in seen.iter_mut().zip(&weights).zip(live) {
        *seen = &weights[..lens[i]];
    }
    let values = Values { live, weights: seen, alpha, dim, next: state.next };
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
#[target_feature(enable = "avx512f")]
fn times(x: &mut [f32; BLOCK], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// `acc[q] += a[q][p] * b[p]`, for `16 * N` columns of `b` from `at`; `b` is `[p][stride]`.
///
/// As much of what lies `next` bytes behind `b` is asked for, line after line: the next block is wherever its page is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn product<E, const Q: usize, const N: usize>(
    mut a: [&[f32]; Q],
    b: &[E],
    stride: usize,
    at: usize,
    (mut acc, next): ([[__m512; N]; Q], isize),
    load: impl Fn(&[E; 16]) -> __m512,
) -> [[__m512; N]; Q] {
    let len = a[0].len();
    let bytes = 16 * N * size_of::<E>();
    let ahead = b.as_ptr().wrapping_byte_offset(next).wrapping_add(at * (b.len() / stride));
    // In a loop: a closure without the features is a call, and lengths that the compiler does not see are checked for each value.
    for a in &mut a {
        *a = &a[..len];
    }
    for (p, row) in b.chunks_exact(stride).enumerate().take(len) {
        let row = row[at..at + 16 * N].as_chunks().0;
        for line in (0..bytes).step_by(64) {
            prefetch(ahead, p * bytes + line);
        }
        let mut b = [_mm512_setzero_ps(); N];
        for (b, row) in b.iter_mut().zip(row) {
            *b = load(row);
        }
        for (acc, a) in acc.iter_mut().zip(a) {
            let a = _mm512_set1_ps(a[p]);
            for (acc, b) in acc.iter_mut().zip(b) {
                *acc = _mm512_fmadd_ps(a, b, *acc);
            }
        }
    }
    acc
}

/// The positions that exist, of sixteen each.
fn masks(len: usize) -> [__mmask16; 4] {
    let live = u64::MAX >> (64 - len);
    [
        live as __mmask16,
        (live >> 16) as __mmask16,
        (live >> 32) as __mmask16,
        (live >> 48) as __mmask16,
    ]
}

/// The greatest of `max` and the first `len` scores.
#[inline]
#[target_feature(enable = "avx512f")]
fn top(scores: &[f32; BLOCK], len: usize, max: f32) -> f32 {
    // The second operand wins where a score is NaN; which zero wins does not reach a weight.
    let mut top = _mm512_set1_ps(max);
    for (score, live) in scores.as_chunks().0.iter().zip(masks(len)) {
        top = _mm512_mask_max_ps(top, live, load_ps(score), top);
    }
    _mm512_reduce_max_ps(top)
}

/// Turns scores into weights, and gives their sum. Weights beyond `len` are +0.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn weigh_scores(scores: &mut [f32; BLOCK], len: usize, top: f32) -> f32 {
    let mut lanes = _mm512_setzero_ps();
    for (score, live) in scores.as_chunks_mut().0.iter_mut().zip(masks(len)) {
        let weight = exp(_mm512_sub_ps(load_ps(score), _mm512_set1_ps(top)));
        // Lanes are +0 or above (or NaN), so that adding +0 for a dead position changes nothing.
        let weight = _mm512_maskz_mov_ps(live, weight);
        store_ps(score, weight);
        lanes = _mm512_add_ps(lanes, weight);
    }
    fold(lanes)
}

/// What the weighted sum of values takes beside the values.
struct Values<'a, const Q: usize> {
    /// The numbers of the queries.
    live: [usize; Q],
    /// Their weights, for as many positions as each sees.
    weights: [&'a [f32]; Q],
    /// What their older sums shrink by.
    alpha: [f32; 16],
    /// Columns of values and of `acc`.
    dim: usize,
    /// Where the next block is.
    next: isize,
}

/// `acc = acc * alpha + weights . values` of each live query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn weigh<E: Copy, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    acc: &mut [f32],
    load: impl Fn(&[E; 16]) -> __m512,
    one: impl Fn(E) -> f32,
) {
    let mut at = 0;
    while at + 16 * N <= v.dim {
        weigh_columns::<E, Q, N>(v, values, at, acc, &load);
        at += 16 * N;
    }
    while at + 16 <= v.dim {
        weigh_columns::<E, Q, 1>(v, values, at, acc, &load);
        at += 16;
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

/// `16 * N` columns of [`weigh`]: together as far as every query sees, then each by itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn weigh_columns<E, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    at: usize,
    acc: &mut [f32],
    load: impl Fn(&[E; 16]) -> __m512,
) {
    let common = v.weights.iter().map(|w| w.len()).min().expect("at least one query");
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    for q in 0..Q {
        let acc = acc[v.live[q] * v.dim + at..][..16 * N].as_chunks().0;
        for (sum, acc) in sums[q].iter_mut().zip(acc) {
            *sum = _mm512_mul_ps(load_ps(acc), _mm512_set1_ps(v.alpha[q]));
        }
    }
    let mut weights = v.weights;
    for weights in &mut weights {
        *weights = &weights[..common];
    }
    let sums = product(weights, values, v.dim, at, (sums, v.next), &load);
    for q in 0..Q {
        let weights = [&v.weights[q][common..]];
        let [sums] =
            product(weights, &values[common * v.dim..], v.dim, at, ([sums[q]], v.next), &load);
        let acc = acc[v.live[q] * v.dim + at..][..16 * N].as_chunks_mut().0;
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
