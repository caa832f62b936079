//! Bounds on the scores of a full-precision head, from eight bits a weight.
//!
//! Greedy and top-k choices need the exact score of few rows, and a bound on every other one: a row whose
//! bound lies below the best exact score cannot be chosen. The bound is rigorous, so that a choice after
//! screening is the choice of the full head, to the bit.
//!
//! # What is stored
//!
//! A row `e` of the head (as `decode_row` gives it) becomes `e ~ s * c`, `c = u - 128`, `u` a byte. The high and
//! the low nibbles of a row lie in two planes, so that the high ones can be read alone:
//!
//! ```text
//! plane: rows, one after the other; of a row, blocks of 64 bytes        k is a multiple of 128
//!        byte i of block b holds the nibbles k = 128*b + i (bits 0..=3) and k = 128*b + 64 + i (bits 4..=7)
//! ```
//!
//! A state `h` becomes two terms of eight bits, `h ~ a * (p + q / 256)`.
//!
//! # Why the bound holds
//!
//! Let `n` be the length, `u = 2^-24`, `r = e - s*c`, `d = h - a*(p + q/256)`, `N = |h|`, `E = |e|`, all norms Euclidean,
//! `D = sum c_i * (p_i + q_i/256)` (integers, exact).
//!
//! - `h.e = s*(h.c) + h.r` and `h.c = a*D + d.c`, so `|h.e - s*a*D| <= N*|r| + |d|*|s*c|`, and
//!   `|s*c| <= E + |r|` (Cauchy-Schwarz, triangle).
//! - The score is the `S16` sum in f32. A term passes `n/16` fused steps and 4 folds, so it is off by at most
//!   `g * sum |h_i*e_i| <= g*N*E` with `g = m*u / (1 - m*u)`, `m = ceil(n/16) + 4`.
//! - The estimate is `(f32(P) + f32(Q)/256) * (s*a)` with `P = sum c*p`, `Q = sum c*q`: five roundings on the way of each
//!   term, off by at most `4.01*u * s*a*(|P| + |Q|/256) (1 + 2u)`. As `a*|p_i| <= 2*|h_i|` (a code is 0 below half a step) and likewise
//!   for `q`, `s*a*(|P| + |Q|/256) <= 4*N*(E + |r|)`: at most `17*u*N*(E + |r|)`.
//!
//! Together `N*|r| + (|d| + N*(g + 17u)) * (E + |r|)`. The stored norms are rounded up, the f32 arithmetic of
//! the bound itself is covered by a factor of `1 + 2^-18`, results that underflow by `1e-24`. What is not
//! finite gives a bound that is not finite: such a row always survives a test written as "not below".

use super::Kernels;

/// What is known of one row besides its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowBounds {
    /// `s`: what one step of a code is worth.
    pub step: f32,
    /// At least `|e - s*c|`.
    pub rest: f32,
    /// At least `|e|`.
    pub norm: f32,
}

/// A state in two terms of eight bits.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// The codes of both terms, `[k]` each.
    pub codes: [&'a [i8]; 2],
    /// `128 * sum of codes`: what the offset of the stored bytes adds.
    offset: [i32; 2],
    /// `a`.
    step: f32,
    /// At least `|h|`.
    norm: f32,
    /// What multiplies `E + |r|` in the bound.
    slack: f32,
}

/// Rows of one plane against a state.
#[derive(Clone, Copy, Debug)]
pub struct PlaneOf<'a> {
    /// Whole rows, one after the other.
    pub rows: &'a [u8],
    /// Values of a row, a multiple of 128.
    pub k: usize,
    /// The codes of both terms, `[k]` each.
    pub codes: [&'a [i8]; 2],
}

/// Whether rows of `k` values can be screened.
#[must_use]
pub const fn fits(k: usize) -> bool {
    k > 0 && k.is_multiple_of(128) && k <= super::MAX_K
}

/// A value that is not below `x`.
fn up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Lanes of a sum over a row.
const LANES: usize = 8;

/// The body of [`Kernels::split_row`], which every table stamps; sums run in lanes, so that they can be wide.
#[inline(always)]
pub(super) fn split_row(row: &[f32], high: &mut [u8], low: &mut [u8]) -> RowBounds {
    let mut lanes = [0.0f32; 2 * LANES];
    for values in row.chunks_exact(2 * LANES) {
        for (max, x) in lanes.iter_mut().zip(values) {
            *max = if x.abs() > *max { x.abs() } else { *max };
        }
    }
    let max = lanes.iter().fold(0.0f32, |max, x| if *x > max { *x } else { max });
    let step = max / 127.0;
    let (mut rest, mut square) = ([0.0f64; LANES], [0.0f64; LANES]);
    let mut codes = [0i32; 128];
    for (values, (high, low)) in
        row.chunks_exact(128).zip(high.chunks_exact_mut(64).zip(low.chunks_exact_mut(64)))
    {
        for (code, x) in codes.iter_mut().zip(values) {
            // NaN, of a zero step or a strange weight, gives 0.
            *code = (x / step).round_ties_even().clamp(-127.0, 127.0) as i32;
        }
        for (codes, values) in codes.chunks_exact(LANES).zip(values.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let x = f64::from(values[lane]);
                let left = x - f64::from(step) * f64::from(codes[lane]);
                rest[lane] += left * left;
                square[lane] += x * x;
            }
        }
        for i in 0..64 {
            let (first, second) = ((codes[i] + 128) as u8, (codes[i + 64] + 128) as u8);
            high[i] = first >> 4 | second & 0xf0;
            low[i] = first & 15 | second << 4;
        }
    }
    let norm = square.iter().sum::<f64>().sqrt();
    let rest = rest.iter().sum::<f64>().sqrt();
    // f64 rounds each difference and sum by 2^-53 of at most |e|: far below the margins.
    RowBounds {
        step,
        rest: up((rest + 1e-12 * norm) * (1.0 + 1e-12)),
        norm: up(norm * (1.0 + 1e-12)),
    }
}

/// What the fast mode leaves to chance: a score this many deviations off, about one in 10^10.
const DEVIATIONS: f32 = 6.5;

/// Makes up for the rounding of the two sums.
fn widen(below: f32, above: f32) -> (f32, f32) {
    (below - below.abs() * (2.0 * f32::EPSILON), above + above.abs() * (2.0 * f32::EPSILON))
}

impl<'a> Split<'a> {
    /// Splits a state; the codes are written to the two buffers of its length.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn new(state: &[f32], first: &'a mut [i8], second: &'a mut [i8]) -> Self {
        let n = state.len();
        assert!(first.len() == n && second.len() == n, "lengths of a split");
        let max = state.iter().fold(0.0f32, |max, x| if x.abs() > max { x.abs() } else { max });
        let step = max / 127.0;
        let wide = f64::from(step);
        let mut rest = 0.0;
        for ((p, q), x) in first.iter_mut().zip(&mut *second).zip(state) {
            let x = f64::from(*x);
            // A zero step gives NaN, which saturates to 0.
            *p = (x / wide).round_ties_even().clamp(-127.0, 127.0) as i8;
            let left = x - wide * f64::from(*p);
            *q = (left * 256.0 / wide).round_ties_even().clamp(-127.0, 127.0) as i8;
            rest += (left - wide * f64::from(*q) / 256.0).powi(2);
        }
        let norm = norm(state.iter().map(|x| f64::from(*x)));
        let rest = (rest.sqrt() + 1e-12 * norm) * (1.0 + 1e-12);
        let m = n.div_ceil(16) as f64 + 4.0;
        let u = f64::powi(2.0, -24);
        let rounding = m * u / (1.0 - m * u) + 17.0 * u;
        let sum = |codes: &[i8]| 128 * codes.iter().map(|code| i32::from(*code)).sum::<i32>();
        Self {
            offset: [sum(first), sum(second)],
            codes: [first, second],
            step,
            norm: up(norm * (1.0 + 1e-12)),
            slack: up((rest + norm * rounding) * (1.0 + 1e-12)),
        }
    }

    /// An estimate of a row's score, and how far the score can be from it; from the nibble sums of both planes.
    #[must_use]
    pub fn estimate(&self, row: &RowBounds, high: [i32; 2], low: [i32; 2]) -> (f32, f32) {
        let sum = |t: usize| (16 * high[t] + low[t] - self.offset[t]) as f32;
        let estimate = (sum(0) + sum(1) / 256.0) * (row.step * self.step);
        let bound = self.norm * row.rest + self.slack * (row.norm + row.rest);
        (estimate, bound * (1.0 + f32::EPSILON * 32.0) + 1e-24)
    }

    /// Bounds of a row's score, below and above; NaN where there is none.
    #[must_use]
    pub fn interval(&self, row: &RowBounds, high: [i32; 2], low: [i32; 2]) -> (f32, f32) {
        let (middle, bound) = self.estimate(row, high, low);
        widen(middle - bound, middle + bound)
    }

    /// Bounds that all but never fail, from the high nibbles alone: six and a half deviations.
    #[must_use]
    pub fn likely_interval(&self, row: &RowBounds, high: [i32; 2]) -> (f32, f32) {
        let (middle, deviation) = self.guess(row, high);
        (middle - DEVIATIONS * deviation, middle + DEVIATIONS * deviation)
    }

    /// An estimate of a row's score from its high nibbles alone, and the standard deviation of what it leaves
    /// out if low nibbles are evenly spread: a likelihood, not a bound.
    #[must_use]
    pub fn guess(&self, row: &RowBounds, high: [i32; 2]) -> (f32, f32) {
        // A low nibble is 7.5 on average, and 16 / sqrt(12) is the deviation of an even spread over 16.
        let sum = |t: usize| 16.0 * high[t] as f32 - self.offset[t] as f32 * (120.5 / 128.0);
        let estimate = (sum(0) + sum(1) / 256.0) * (row.step * self.step);
        (estimate, row.step * 4.618_802 * self.norm)
    }
}

impl Kernels {
    /// Splits one row into its planes, `k / 2` bytes each.
    ///
    /// # Panics
    ///
    /// If the row cannot be screened or the planes do not have its length.
    pub fn split_row(&self, row: &[f32], high: &mut [u8], low: &mut [u8]) -> RowBounds {
        assert!(
            fits(row.len()) && high.len() * 2 == row.len() && low.len() == high.len(),
            "planes of a row"
        );
        // SAFETY: a table leaves this module only through `available`, which detects what its functions enable.
        unsafe { (self.split_row)(row, high, low) }
    }

    /// `out[i][t] = sum of nibble * code of term t` of row `live[i]` of a plane, exactly.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others, or a row does not exist.
    pub fn nibbles(&self, of: PlaneOf<'_>, live: &[u32], out: &mut [[i32; 2]]) {
        assert!(fits(of.k) && of.codes.iter().all(|codes| codes.len() == of.k), "codes of a state");
        let bytes = of.k / 2;
        assert!(of.rows.len().is_multiple_of(bytes), "whole rows");
        let count = of.rows.len() / bytes;
        assert!(live.iter().all(|row| (*row as usize) < count), "a row that does not exist");
        assert_eq!(live.len(), out.len(), "out must match live");
        // SAFETY: a table leaves this module only through `available`, which detects what its functions enable.
        unsafe { (self.nibbles)(of, live, out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::RowType;

    struct Head {
        k: usize,
        rows: Vec<f32>,
        high: Vec<u8>,
        low: Vec<u8>,
        bounds: Vec<RowBounds>,
    }

    impl Head {
        fn new(k: usize, rows: Vec<f32>) -> Self {
            let (mut high, mut low) = (vec![0; rows.len() / 2], vec![0; rows.len() / 2]);
            let bounds = rows
                .chunks_exact(k)
                .zip(high.chunks_exact_mut(k / 2).zip(low.chunks_exact_mut(k / 2)))
                .map(|(row, (high, low))| Kernels::best().split_row(row, high, low))
                .collect();
            Self { k, rows, high, low, bounds }
        }

        /// For each row: its score, estimate, bound, guess and deviation.
        fn score(&self, table: &Kernels, state: &[f32]) -> Vec<[f32; 5]> {
            let (k, count) = (self.k, self.bounds.len());
            let (mut first, mut second) = (vec![0; k], vec![0; k]);
            let split = Split::new(state, &mut first, &mut second);
            let live: Vec<u32> = (0..count as u32).collect();
            let (mut high, mut low) = (vec![[0; 2]; count], vec![[0; 2]; count]);
            table.nibbles(PlaneOf { rows: &self.high, k, codes: split.codes }, &live, &mut high);
            table.nibbles(PlaneOf { rows: &self.low, k, codes: split.codes }, &live, &mut low);
            let bytes: Vec<u8> = self.rows.iter().flat_map(|x| x.to_le_bytes()).collect();
            let mut scores = vec![0.0; count];
            table.row_dots(&bytes, RowType::F32, state, k, &mut scores);
            (0..count)
                .map(|r| {
                    let (estimate, bound) = split.estimate(&self.bounds[r], high[r], low[r]);
                    let (guess, deviation) = split.guess(&self.bounds[r], high[r]);
                    [scores[r], estimate, bound, guess, deviation]
                })
                .collect()
        }
    }

    fn normal(rng: &mut fastrand::Rng) -> f32 {
        (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0
    }

    #[test]
    fn no_score_leaves_its_bound() {
        let mut rng = fastrand::Rng::with_seed(21);
        for table in Kernels::available() {
            for (k, scale) in [(128, 1.0f32), (640, 1e-3), (2560, 300.0), (2560, 1e-30)] {
                let rows = (0..40 * k).map(|_| normal(&mut rng) * scale).collect();
                let head = Head::new(k, rows);
                for state in 0..3 {
                    let state: Vec<f32> = match state {
                        0 => (0..k).map(|_| normal(&mut rng)).collect(),
                        1 => (0..k).map(|i| if i % 97 == 0 { 50.0 } else { 1e-3 }).collect(),
                        _ => head.rows[..k].to_vec(),
                    };
                    for (r, [score, estimate, bound, guess, deviation]) in
                        head.score(table, &state).into_iter().enumerate()
                    {
                        let name = table.name();
                        assert!(
                            (score - estimate).abs() <= bound,
                            "{name}, k {k}, row {r}: {score} is not {estimate} +- {bound}"
                        );
                        assert!(
                            (score - guess).abs() <= 6.5 * deviation + bound,
                            "{name}, k {k}, row {r}: {score} is far from {guess} +- {deviation}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_table_splits_alike() {
        let mut rng = fastrand::Rng::with_seed(23);
        for k in [128, 640, 2560] {
            let mut row: Vec<f32> = (0..k).map(|_| normal(&mut rng)).collect();
            for strange in [0.0, f32::INFINITY, f32::NAN] {
                row[7] = strange;
                let split = |table: &Kernels| {
                    let (mut high, mut low) = (vec![1; k / 2], vec![2; k / 2]);
                    let bounds = table.split_row(&row, &mut high, &mut low);
                    let bits = [bounds.step, bounds.rest, bounds.norm].map(f32::to_bits);
                    (high, low, if strange.is_finite() { bits } else { [0; 3] })
                };
                for table in Kernels::available() {
                    assert!(split(table) == split(Kernels::scalar()), "{} {k}", table.name());
                }
            }
        }
    }

    #[test]
    fn the_bound_is_met_by_the_worst_state() {
        let mut rng = fastrand::Rng::with_seed(22);
        let k = 1280;
        let head = Head::new(k, (0..k).map(|_| normal(&mut rng)).collect());
        let bounds = head.bounds[0];
        // The state along what the codes leave out: Cauchy-Schwarz is met.
        let state: Vec<f32> = head
            .rows
            .iter()
            .map(|x| x - bounds.step * (x / bounds.step).round_ties_even())
            .collect();
        let [score, estimate, bound, ..] = head.score(Kernels::best(), &state)[0];
        let off = (score - estimate).abs();
        assert!(off <= bound && off > 0.98 * bound, "{score}, {estimate} +- {bound}");
    }

    /// Whether a score of at most `most` is not below a threshold that any finite one here is below.
    fn survives(most: f32) -> bool {
        most.partial_cmp(&1e30) != Some(std::cmp::Ordering::Less)
    }

    #[test]
    fn what_is_not_finite_survives() {
        let k = 128;
        for strange in [f32::NAN, f32::INFINITY] {
            let mut rows = vec![1.0; 2 * k];
            rows[5] = strange;
            let head = Head::new(k, rows);
            let scores = head.score(Kernels::best(), &vec![1.0; k]);
            let [_, estimate, bound, ..] = scores[0];
            assert!(survives(estimate + bound), "{strange}: {estimate} +- {bound}");
            let [_, estimate, bound, ..] = scores[1];
            assert!((estimate - 128.0).abs() <= bound && bound < 1.0, "{estimate} +- {bound}");
        }
        let head = Head::new(k, vec![1.0; k]);
        let mut state = vec![1.0; k];
        state[7] = f32::NAN;
        let [_, estimate, bound, ..] = head.score(Kernels::best(), &state)[0];
        assert!(survives(estimate + bound), "{estimate} +- {bound}");
        let [score, estimate, bound, ..] = head.score(Kernels::best(), &vec![0.0; k])[0];
        assert!(score == 0.0 && estimate.abs() <= bound, "{estimate} +- {bound}");
    }
}
