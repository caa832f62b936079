//! The feed-forward non-linearities and the residual, section 5.

use super::{Fma, math::exp};

/// `out = relu(gate)^2 * up`.
#[inline(always)]
pub(crate) fn relu2_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let gate = if *gate > 0.0 { *gate } else { 0.0 };
        *out = (gate * gate) * up;
    }
}

/// `out = gate / (1 + exp(-gate)) * up`.
#[inline(always)]
pub(crate) fn silu_mul<F: Fma>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = (gate / (1.0 + exp::<F>(-gate))) * up;
    }
}

/// `x += y`.
#[inline(always)]
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
