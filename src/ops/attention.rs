//! Attention over the cache, one key/value head and one block of 64 positions at a time, section 7.

use super::{Fma, LANES, fold, math::exp};
use half::f16;

/// Positions in a block of the cache.
pub const BLOCK: usize = 64;
/// Positions in a span: blocks are chained inside it, spans are merged.
pub const SPAN: usize = 512;

/// Keys and values of one head over one block, as the cache stores them.
///
/// `keys` is `[head_dim][BLOCK]` (position fastest), `values` is `[BLOCK][head_dim]`.
#[derive(Clone, Copy)]
pub enum KvBlock<'a> {
    /// Half precision.
    F16 {
        /// `[head_dim][BLOCK]`
        keys: &'a [f16],
        /// `[BLOCK][head_dim]`
        values: &'a [f16],
    },
    /// Eight bits, with one step a position.
    I8 {
        /// `[head_dim][BLOCK]`
        keys: &'a [i8],
        /// `[BLOCK][head_dim]`
        values: &'a [i8],
        /// `[BLOCK]`
        key_steps: &'a [f32],
        /// `[BLOCK]`
        value_steps: &'a [f32],
    },
}

/// Where a query's softmax stands within a span: maximum, sum and weighted values.
pub struct Online<'a> {
    /// `[queries]`, from minus infinity.
    pub max: &'a mut [f32],
    /// `[queries]`, from zero.
    pub sum: &'a mut [f32],
    /// `[queries][head_dim]`, from zero.
    pub acc: &'a mut [f32],
    /// Bytes from the block to the one that comes next, which may be fetched meanwhile; 0 if none does. A hint: nothing is read there.
    pub next: isize,
}

/// Takes one block into the state of each query. `queries` is `[n][head_dim]`,
/// scaled; `lens[i]` positions of the block exist for query `i`, 0 to skip it.
#[inline(always)]
pub(crate) fn attend<F: Fma>(
    queries: &[f32],
    block: KvBlock<'_>,
    lens: &[usize],
    state: &mut Online<'_>,
) {
    let head_dim = queries.len() / lens.len().max(1);
    for (i, len) in lens.iter().enumerate() {
        if *len == 0 {
            continue;
        }
        let query = &queries[i * head_dim..][..head_dim];
        let acc = &mut state.acc[i * head_dim..][..head_dim];
        let mut scores = [0.0f32; BLOCK];
        match block {
            KvBlock::F16 { keys, .. } => {
                for (q, keys) in query.iter().zip(keys.chunks_exact(BLOCK)) {
                    for (score, key) in scores.iter_mut().zip(keys) {
                        *score = F::fma(*q, key.to_f32(), *score);
                    }
                }
            }
            KvBlock::I8 { keys, key_steps, .. } => {
                for (q, keys) in query.iter().zip(keys.chunks_exact(BLOCK)) {
                    for (score, key) in scores.iter_mut().zip(keys) {
                        *score = F::fma(*q, f32::from(*key), *score);
                    }
                }
                for (score, step) in scores.iter_mut().zip(key_steps) {
                    *score *= step;
                }
            }
        }
        let old = state.max[i];
        let max = scores[..*len].iter().fold(old, |max, x| if *x > max { *x } else { max });
        let alpha = exp::<F>(old - max);
        let mut lanes = [0.0f32; LANES];
        for (p, score) in scores[..*len].iter_mut().enumerate() {
            *score = exp::<F>(*score - max);
            lanes[p % LANES] += *score;
        }
        state.max[i] = max;
        state.sum[i] = F::fma(state.sum[i], alpha, fold(lanes));
        for acc in acc.iter_mut() {
            *acc *= alpha;
        }
        match block {
            KvBlock::F16 { values, .. } => {
                for (e, values) in scores[..*len].iter().zip(values.chunks_exact(head_dim)) {
                    for (acc, value) in acc.iter_mut().zip(values) {
                        *acc = F::fma(*e, value.to_f32(), *acc);
                    }
                }
            }
            KvBlock::I8 { values, value_steps, .. } => {
                for ((e, step), values) in
                    scores[..*len].iter().zip(value_steps).zip(values.chunks_exact(head_dim))
                {
                    for (acc, value) in acc.iter_mut().zip(values) {
                        *acc = F::fma(e * step, f32::from(*value), *acc);
                    }
                }
            }
        }
    }
}

/// Merges the state of a later span into an earlier one, for one query.
#[inline(always)]
pub(crate) fn merge<F: Fma>(
    max: &mut f32,
    sum: &mut f32,
    acc: &mut [f32],
    max2: f32,
    sum2: f32,
    acc2: &[f32],
) {
    let top = if max2 > *max { max2 } else { *max };
    let (alpha, beta) = (exp::<F>(*max - top), exp::<F>(max2 - top));
    *sum = F::fma(sum2, beta, *sum * alpha);
    for (acc, acc2) in acc.iter_mut().zip(acc2) {
        *acc = F::fma(*acc2, beta, *acc * alpha);
    }
    *max = top;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Software;

    #[test]
    fn equals_a_plain_softmax() {
        let (dim, n) = (16, 100usize);
        let mut rng = fastrand::Rng::with_seed(3);
        let query: Vec<f32> = (0..dim).map(|_| rng.f32() - 0.5).collect();
        let mut blocks = Vec::new();
        for _ in 0..2 {
            let mut draw = || {
                (0..dim * BLOCK).map(|_| f16::from_f32(rng.f32() * 4.0 - 2.0)).collect::<Vec<_>>()
            };
            blocks.push((draw(), draw()));
        }
        let (mut max, mut sum, mut acc) = (vec![f32::NEG_INFINITY], vec![0.0], vec![0.0; dim]);
        for (b, (keys, values)) in blocks.iter().enumerate() {
            let lens = [(n - b * BLOCK).min(BLOCK)];
            let mut state = Online { max: &mut max, sum: &mut sum, acc: &mut acc, next: 0 };
            attend::<Software>(&query, KvBlock::F16 { keys, values }, &lens, &mut state);
        }
        let score = |p: usize| -> f64 {
            (0..dim)
                .map(|d| f64::from(query[d]) * blocks[p / BLOCK].0[d * BLOCK + p % BLOCK].to_f64())
                .sum()
        };
        let total: f64 = (0..n).map(|p| score(p).exp()).sum();
        for d in 0..dim {
            let want: f64 = (0..n)
                .map(|p| score(p).exp() * blocks[p / BLOCK].1[p % BLOCK * dim + d].to_f64() / total)
                .sum();
            let got = f64::from(acc[d] / sum[0]);
            assert!((got - want).abs() < 1e-5, "value {d}: {got}, wanted {want}");
        }
    }
}
