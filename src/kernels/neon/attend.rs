//! Attention over one block: keys and values are converted once for up to four queries.
//!
//! Scores and weighted values are the same small product, `acc[q] += a[q][p] *
//! b[p]` over eight columns in two vectors: scores take `a` = query, `b` = keys (one
//! row of 64 positions for each `d`); values take `a` = weights, `b` = values. Each
//! lane is one chain of `fma` in increasing `p`, as the scalar table has it.

use super::{exp, fold, load_ps, store_ps, widen_bytes, widen_halves};
use crate::{
    kernels::{BLOCK, KvBlock, Online},
    ops::{Hardware, math},
    threads::prefetch,
};
use half::f16;
use std::arch::aarch64::*;

/// Queries taken together.
const MANY: usize = 4;

/// Eight columns.
type Eight = [float32x4_t; 2];

#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
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
        let zero = [[[vdupq_n_f32(0.0); 2]; N]; Q];
        let scores = match block {
            KvBlock::F16 { keys, .. } => {
                product(query, keys, BLOCK, at, (zero, state.next), |x| load_f16(x))
            }
            KvBlock::I8 { keys, .. } => {
                product(query, keys, BLOCK, at, (zero, state.next), |x| load_i8(x))
            }
        };
        for (weights, scores) in weights.iter_mut().zip(&scores) {
            store(&mut weights[at..][..8 * N], scores);
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
#[target_feature(enable = "neon")]
fn times(x: &mut [f32; BLOCK], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// Stores eights of columns.
#[inline]
#[target_feature(enable = "neon")]
fn store(places: &mut [f32], columns: &[Eight]) {
    for (place, x) in places.as_chunks_mut().0.iter_mut().zip(columns.as_flattened()) {
        store_ps(place, *x);
    }
}

/// `acc[q] += a[q][p] * b[p]`, for `8 * N` columns of `b` from `at`; `b` is `[p][stride]`. As much of what lies `next` bytes
/// behind `b` is asked for, line after line.
#[inline]
#[target_feature(enable = "neon")]
fn product<E, const Q: usize, const N: usize>(
    a: [&[f32]; Q],
    b: &[E],
    stride: usize,
    at: usize,
    (mut acc, next): ([[Eight; N]; Q], isize),
    load: impl Fn(&[E; 8]) -> Eight,
) -> [[Eight; N]; Q] {
    let len = a[0].len();
    let bytes = 8 * N * size_of::<E>();
    let ahead = b.as_ptr().wrapping_byte_offset(next).wrapping_add(at * (b.len() / stride));
    let a = a.map(|a| &a[..len]);
    for (p, row) in b.chunks_exact(stride).enumerate().take(len) {
        let row = row[at..at + 8 * N].as_chunks().0;
        for line in (0..bytes).step_by(64) {
            prefetch(ahead.addr().wrapping_add(p * bytes + line));
        }
        let mut b = [[vdupq_n_f32(0.0); 2]; N];
        for (b, row) in b.iter_mut().zip(row) {
            *b = load(row);
        }
        for (acc, a) in acc.iter_mut().zip(a) {
            let a = vdupq_n_f32(a[p]);
            for (acc, b) in acc.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
                *acc = vfmaq_f32(*acc, a, *b);
            }
        }
    }
    acc
}

/// Turns scores into weights; gives what the older weights shrink by. Weights beyond `len` are +0.
#[inline]
#[target_feature(enable = "neon")]
fn softmax(scores: &mut [f32; BLOCK], len: usize, max: &mut f32, sum: &mut f32) -> f32 {
    let (scores, _) = scores.as_chunks_mut::<4>();
    // `fmaxnm` takes the number where a score is NaN; which zero wins does not reach a weight.
    let mut top = vdupq_n_f32(*max);
    for (n, score) in scores.iter().enumerate() {
        let score = vbslq_f32(live(len, n), load_ps(score), top);
        top = vmaxnmq_f32(top, score);
    }
    let top = vmaxnmvq_f32(top);
    let alpha = math::exp::<Hardware>(*max - top);
    let mut lanes = [vdupq_n_f32(0.0); 4];
    for (n, score) in scores.iter_mut().enumerate() {
        let weight = exp(vsubq_f32(load_ps(score), vdupq_n_f32(top)));
        // Lanes are +0 or above (or NaN), so that adding +0 for a dead position changes nothing.
        let weight = vandq_u32(vreinterpretq_u32_f32(weight), live(len, n));
        let weight = vreinterpretq_f32_u32(weight);
        store_ps(score, weight);
        lanes[n % 4] = vaddq_f32(lanes[n % 4], weight);
    }
    *max = top;
    *sum = sum.mul_add(alpha, fold(lanes));
    alpha
}

/// All ones where a position of the `n`th four lies before `len`.
#[inline]
#[target_feature(enable = "neon")]
fn live(len: usize, n: usize) -> uint32x4_t {
    let place = vcombine_u32(vcreate_u32(1 << 32), vcreate_u32(3 << 32 | 2));
    vcltq_u32(vaddq_u32(place, vdupq_n_u32(4 * n as u32)), vdupq_n_u32(len as u32))
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
#[target_feature(enable = "neon")]
fn weigh<E: Copy, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    acc: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
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
#[target_feature(enable = "neon")]
fn weigh_columns<E, const Q: usize, const N: usize>(
    v: &Values<'_, Q>,
    values: &[E],
    at: usize,
    acc: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
) {
    let common = v.weights.iter().map(|w| w.len()).min().expect("at least one query");
    let mut sums = [[[vdupq_n_f32(0.0); 2]; N]; Q];
    for q in 0..Q {
        let acc = acc[v.live[q] * v.dim + at..][..8 * N].as_chunks().0;
        for (sum, acc) in sums[q].as_flattened_mut().iter_mut().zip(acc) {
            *sum = vmulq_n_f32(load_ps(acc), v.alpha[q]);
        }
    }
    let sums = product(v.weights.map(|w| &w[..common]), values, v.dim, at, (sums, v.next), &load);
    for q in 0..Q {
        let weights = [&v.weights[q][common..]];
        let [sums] =
            product(weights, &values[common * v.dim..], v.dim, at, ([sums[q]], v.next), &load);
        store(&mut acc[v.live[q] * v.dim + at..][..8 * N], &sums);
    }
}

/// 8 halves as f32, exactly.
#[inline]
#[target_feature(enable = "neon")]
fn load_f16(values: &[f16; 8]) -> Eight {
    // SAFETY: the array is 16 readable bytes, and `f16` is a `u16` inside.
    widen_halves(unsafe { vld1q_u16(values.as_ptr().cast()) })
}

/// 8 codes as f32.
#[inline]
#[target_feature(enable = "neon")]
fn load_i8(values: &[i8; 8]) -> Eight {
    // SAFETY: the array is 8 readable bytes.
    widen_bytes(unsafe { vld1_s8(values.as_ptr()) })
}
