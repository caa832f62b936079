//! A state in two terms of eight bits, and what it says of rows: scores and bounds.

use super::{Basis, RowBounds, RowSums};

/// A state in two terms of eight bits, but for their codes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// Sums of the codes.
    sums: [f64; 2],
    /// `a`.
    pub(in crate::kernels) step: f64,
    /// At least `|h|`.
    pub(in crate::kernels) norm: f32,
    /// What multiplies `E + |r|` in the bound.
    pub(in crate::kernels) slack: f32,
    /// The same where the second term is left out.
    pub(in crate::kernels) slack_first: f32,
    /// At least `a/256 * sum |q_i|`.
    pub(in crate::kernels) cross: f32,
}

/// What the bits that are known of a row's codes are worth, and what the others are taken for.
pub(in crate::kernels) struct Known {
    /// Of one in the first sum.
    pub worth: i32,
    /// What each sum has too much.
    pub offsets: [f64; 2],
}

/// A value that is not below `x`.
pub(super) fn up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

/// The body of [`Kernels::limits`], which every table stamps.
#[inline(always)]
pub(in crate::kernels) fn limits(
    split: &Split,
    rows: RowSums<'_>,
    score: &mut [f32],
    upper: &mut [f32],
) {
    let out = score.iter_mut().zip(upper).zip(rows.bounds).zip(rows.sums);
    macro_rules! each {
        ($from:ident) => {
            for (((score, upper), bounds), sums) in out {
                (*score, *upper) = split.$from(bounds, *sums);
            }
        };
    }
    match rows.basis {
        Basis::Nibbles => each!(from_nibbles),
        Basis::BothTerms => each!(from_both_terms),
        Basis::FirstTerm => each!(from_first_term),
    }
}

/// What the fast mode leaves to chance: a score this many deviations off, about one in 10^10.
pub(in crate::kernels) const DEVIATIONS: f32 = 6.5;
/// 16 / sqrt(12): the deviation of an even spread over 16.
pub(in crate::kernels) const SPREAD: f32 = 4.618_802;
/// `m` where the low pairs are not known, and where they are.
pub(in crate::kernels) const MOST_COARSE: f32 = 6.0;
const MOST_FINE: f32 = 7.5;
/// What the first term may leave of a state, a share of its length, to be bounded by it alone. Bounds that both terms leave within
/// some 4 % of the greatest score that the lengths allow become a quarter wider by a hundredth.
const MOST_LEFT: f32 = 1.0 / 64.0;

/// The middle of what is not known of a code below the bits that are: of four bits, and of two.
const FOUR_BITS: f64 = 7.5;
const TWO_BITS: f64 = 1.5;

/// `score + bound`, rounded up; NaN if either is not finite.
#[inline(always)]
fn above(score: f32, bound: f32) -> f32 {
    let sum = score + bound;
    if score.is_finite() { sum + sum.abs() * (2.0 * f32::EPSILON) } else { f32::NAN }
}

/// The code nearest to `x`, from -127 to 127, ties to even; 0 of what is no number. A call where the CPU's base has no
/// instruction that rounds, so the sum with `1.5 * 2^52` does, in whose lowest byte the code is. (A NaN that was an f32 has zeros there.)
pub(super) fn nearest(x: f64) -> i8 {
    (x.clamp(-127.0, 127.0) + 6_755_399_441_055_744.0).to_bits() as i8
}

impl Split {
    /// Splits a state; the codes are written to the two buffers of its length.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn new(state: &[f32], first: &mut [i8], second: &mut [i8]) -> Self {
        let n = state.len();
        assert!(first.len() == n && second.len() == n, "lengths of a split");
        let max = state.iter().fold(0.0f32, |max, x| if x.abs() > max { x.abs() } else { max });
        let wide = f64::from(max / 127.0);
        // Sums in lanes, so that the loop can be wide.
        let [mut firsts, mut rests, mut squares] = [[0.0; 8]; 3];
        let codes = first.chunks_mut(8).zip(second.chunks_mut(8));
        for ((p, q), x) in codes.zip(state.chunks(8)) {
            let sums = firsts.iter_mut().zip(&mut rests).zip(&mut squares);
            for ((((first, rest), square), (p, q)), x) in sums.zip(p.iter_mut().zip(q)).zip(x) {
                let x = f64::from(*x);
                // A zero step gives NaN, of which the code is 0.
                *p = nearest(x / wide);
                let left = x - wide * f64::from(*p);
                *q = nearest(left * 256.0 / wide);
                let lost = left - wide * f64::from(*q) / 256.0;
                *first += left * left;
                *rest += lost * lost;
                *square += x * x;
            }
        }
        let [first_rest, rest, norm] =
            [firsts, rests, squares].map(|lanes| lanes.iter().sum::<f64>().sqrt());
        let m = n.div_ceil(16) as f64 + 4.0;
        let u = f64::powi(2.0, -24);
        let rounding = m * u / (1.0 - m * u);
        let slack = |rest: f64| {
            let rest = (rest + 1e-12 * norm) * (1.0 + 1e-12);
            up((rest + norm * rounding) * (1.0 + 1e-12))
        };
        let sum = |codes: &[i8]| codes.iter().map(|code| i64::from(*code)).sum::<i64>() as f64;
        let cross = second.iter().map(|code| i64::from(code.unsigned_abs())).sum::<i64>() as f64;
        Self {
            sums: [sum(first), sum(second)],
            step: wide,
            norm: up(norm * (1.0 + 1e-12)),
            slack: slack(rest),
            slack_first: slack(first_rest),
            cross: up(wide / 256.0 * cross),
        }
    }

    /// What is known of codes by the bits that first bounds are from. What is not is taken for its middle.
    pub(in crate::kernels) fn known(&self, basis: Basis) -> Known {
        let [p, q] = self.sums;
        let nibbles = (128.0 - FOUR_BITS) * q;
        match basis {
            Basis::Nibbles => Known { worth: 16, offsets: [(128.0 - FOUR_BITS) * p, nibbles] },
            Basis::BothTerms => Known { worth: 4, offsets: [(128.0 - TWO_BITS) * p, nibbles] },
            Basis::FirstTerm => Known { worth: 4, offsets: [(128.0 - TWO_BITS) * p, 0.0] },
        }
    }

    /// A score of what is known of a row, from its sums with both terms.
    #[inline(always)]
    fn score(&self, row: &RowBounds, known: &Known, sums: [i32; 2]) -> f32 {
        let first = f64::from(known.worth * sums[0]) - known.offsets[0];
        let second = 16.0 * f64::from(sums[1]) - known.offsets[1];
        ((first + second / 256.0) * (f64::from(row.step) * self.step)) as f32
    }

    /// How far a score can be from what is known of it; `most` is `m`, 0 without the second term.
    #[inline(always)]
    fn bound(&self, row: &RowBounds, (rest, slack, most): (f32, f32, f32), rounded: f32) -> f32 {
        let bound = self.norm * rest + slack * (row.norm + rest) + row.step * self.cross * most;
        (bound + rounded * f32::EPSILON) * (1.0 + f32::EPSILON * 32.0) + 1e-24
    }

    /// About what a row's score is and what it is at most, from the sums of the high nibbles alone: likely instead of sure, six
    /// and a half deviations, if what is left out is evenly spread.
    #[inline(always)]
    #[must_use]
    pub fn from_nibbles(&self, row: &RowBounds, sums: [i32; 2]) -> (f32, f32) {
        let score = self.score(row, &self.known(Basis::Nibbles), sums);
        (score, above(score, DEVIATIONS * (row.step * SPREAD * self.norm)))
    }

    /// The same from the sums of [`Kernels::states`](super::Kernels::states), sure; NaN where there is no bound.
    #[inline(always)]
    #[must_use]
    pub fn from_both_terms(&self, row: &RowBounds, sums: [i32; 2]) -> (f32, f32) {
        let score = self.score(row, &self.known(Basis::BothTerms), sums);
        let of = (row.coarse, self.slack, MOST_COARSE);
        (score, above(score, self.bound(row, of, score.abs())))
    }

    /// The same from the sums of [`Kernels::first_terms`](super::Kernels::first_terms).
    #[inline(always)]
    #[must_use]
    pub fn from_first_term(&self, row: &RowBounds, sums: [i32; 2]) -> (f32, f32) {
        let score = self.score(row, &self.known(Basis::FirstTerm), sums);
        let of = (row.coarse, self.slack_first, 0.0);
        (score, above(score, self.bound(row, of, score.abs())))
    }

    /// Whether the first term alone is near the state.
    #[must_use]
    pub fn is_near_first(&self) -> bool {
        self.slack_first <= self.norm * MOST_LEFT
    }

    /// Finer, and sure, of a row whose score [`from_nibbles`](Self::from_nibbles) is known, from the sums of both pairs.
    #[must_use]
    pub fn refine_nibbles(&self, row: &RowBounds, score: f32, middle: i32, low: i32) -> (f32, f32) {
        let pairs = f64::from(4 * middle + low) - FOUR_BITS * self.sums[0];
        self.fine(row, [score], pairs, (self.slack, MOST_FINE))
    }

    /// The same of a row whose score [`from_both_terms`](Self::from_both_terms) is known, from the sum of its low pairs.
    #[must_use]
    pub fn refine_both_terms(&self, row: &RowBounds, score: f32, low: i32) -> (f32, f32) {
        self.fine(row, [score], self.low(low), (self.slack, MOST_FINE))
    }

    /// The same of a row whose score [`from_first_term`](Self::from_first_term) is known, still without the second term.
    #[must_use]
    pub fn refine_first_term(&self, row: &RowBounds, score: f32, low: i32) -> (f32, f32) {
        self.fine(row, [score], self.low(low), (self.slack_first, 0.0))
    }

    /// And with it, from the sum of its nibbles and both scores.
    #[must_use]
    pub fn refine_second_term(
        &self,
        row: &RowBounds,
        scores: [f32; 2],
        nibbles: i32,
    ) -> (f32, f32) {
        let second = 16.0 * f64::from(nibbles) - (128.0 - FOUR_BITS) * self.sums[1];
        self.fine(row, scores, second / 256.0, (self.slack, MOST_FINE))
    }

    fn low(&self, low: i32) -> f64 {
        f64::from(low) - TWO_BITS * self.sums[0]
    }

    /// From the scores on the way, the last of which is known, and what that lacks in steps of both codes. Each was rounded.
    fn fine<const N: usize>(
        &self,
        row: &RowBounds,
        scores: [f32; N],
        lacks: f64,
        (slack, most): (f32, f32),
    ) -> (f32, f32) {
        let known = f64::from(scores[N - 1]);
        let score = (known + lacks * (f64::from(row.step) * self.step)) as f32;
        let rounded = scores.into_iter().fold(score.abs(), |sum, score| sum + score.abs());
        let bound = self.bound(row, (row.rest, slack, most), rounded);
        (score, above(score, bound))
    }
}
