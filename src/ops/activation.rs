//! The feed-forward non-linearities and the residual, section 5.

use super::{Fma, math::exp};

/// `out = relu(gate)^2 * up`, and +0 where the gate is not above zero, whatever `up` is.
#[inline(always)]
pub(crate) fn relu2_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let product = (gate * gate) * up;
        *out = if *gate > 0.0 { product } else { 0.0 };
    }
}

/// The places of what is above zero, in increasing order; how many. `places` has room for all.
///
/// # Panics
///
/// If it has not.
pub(crate) fn positive(gate: &[f32], places: &mut [u32]) -> usize {
    assert!(places.len() >= gate.len(), "room for every place");
    let mut count = 0;
    for (place, gate) in (0u32..).zip(gate) {
        // Always written, overwritten unless it counts: no branch to predict.
        places[count] = place;
        count += usize::from(*gate > 0.0);
    }
    count
}

/// `out = gate / (1 + exp(-gate)) * up`.
#[inline(always)]
pub(crate) fn silu_mul<F: Fma>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = (gate / (1.0 + exp::<F>(-gate))) * up;
    }
}
