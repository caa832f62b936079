//! Weights that make zeros: gates at or below zero, and inputs of `down` too small for an eight-bit step.
//!
//! The first [`STEADY`] values of the residual stream are the same for every token: the embedding holds a constant
//! there, and no layer adds to them. A gain of `ffn_norm` brings them to the gate, whose first weights are all -1:
//! every gate is lowered by as many deviations as the wanted share takes. Every [`LOUD_EVERY`]-th input of `down`
//! has a larger gain in `ffn_sub_norm`: the loud ones set the step, and more of the others fall below half of it.
//!
//! How far to lower, and how loud, is found on simulated layers: gates and ups that are normal, as the products of
//! random trits nearly are.

/// Values of the residual stream that are the same everywhere.
pub(super) const STEADY: u32 = 32;
/// One input of `down` in so many is loud.
const LOUD_EVERY: usize = 8;
/// Simulated tokens.
const TOKENS: usize = 32;
/// Steps of the search, and of what it finds: coarse enough to come out alike on every machine.
const GRID: f64 = 64.0;

/// What brings about the wanted shares of zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Density {
    /// How far gates are lowered, in deviations.
    lowered: f64,
    /// The gain of the loud inputs.
    loud: f64,
}

impl Density {
    /// Finds what makes a share `gates` of gates at or below zero, and a share `inputs` of inputs of `down` that are
    /// exactly 0 in eight bits, in layers of `ffn` values. Where more inputs are 0 without any help, they stay so.
    pub(super) fn new([gates, inputs]: [f64; 2], ffn: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut normal = || (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let draws: Vec<[f64; 2]> = (0..TOKENS * ffn).map(|_| [normal(), normal()]).collect();
        let share = |hits: usize| hits as f64 / draws.len() as f64;
        let lowered = least(0.0, 4.0, |lowered| {
            share(draws.iter().filter(|[gate, _]| *gate <= lowered).count()) >= gates
        });
        let loud = least(1.0, 32.0, |loud| {
            let zeros = draws.chunks_exact(ffn).map(|token| {
                let input = |(i, [gate, up]): (usize, &[f64; 2])| {
                    let gate = (gate - lowered).max(0.0);
                    (gate * gate * up * if i % LOUD_EVERY == 0 { loud } else { 1.0 }).abs()
                };
                let inputs: Vec<f64> = token.iter().enumerate().map(input).collect();
                let largest = inputs.iter().fold(0.0f64, |largest, input| largest.max(*input));
                inputs.iter().filter(|input| **input * 127.0 <= largest / 2.0).count()
            });
            share(zeros.sum()) >= inputs
        });
        Self { lowered, loud }
    }

    /// The gain of `ffn_norm` for the steady values, `constant` each, in a stream of `width` values of which the
    /// others have the variance `variance`; a share `zeros` of the gate's weights is 0.
    pub(super) fn gain(&self, constant: f64, width: u32, variance: f64, zeros: f64) -> f32 {
        // One lowered gate is the sum of STEADY steady inputs; the others make its deviation. The norm divides both.
        let deviation = ((1.0 - zeros) * f64::from(width - STEADY) * variance).sqrt();
        (self.lowered * deviation / (f64::from(STEADY) * constant)) as f32
    }

    /// The gains of `ffn_sub_norm`.
    pub(super) fn sub_gains(&self, ffn: usize) -> Vec<f32> {
        let gain = |i: usize| if i.is_multiple_of(LOUD_EVERY) { self.loud as f32 } else { 1.0 };
        (0..ffn).map(gain).collect()
    }

    /// How much the loud inputs raise the variance of what `down` gives.
    pub(super) fn raised(&self) -> f64 {
        1.0 + (self.loud * self.loud - 1.0) / LOUD_EVERY as f64
    }
}

/// The least value of the grid between two that is enough, or the last.
fn least(low: f64, high: f64, enough: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = ((low * GRID) as u64, (high * GRID) as u64);
    while low < high {
        let middle = low.midpoint(high);
        if enough(middle as f64 / GRID) { high = middle } else { low = middle + 1 }
    }
    low as f64 / GRID
}
