//! The float steps that the compiler does not widen by itself.

use super::{exp, load_ps, store_ps};
use crate::ops::norm::RowScale;
use std::arch::aarch64::*;

/// `ops::norm::quantize`, sixteen values at a time. Padding of zeros changes neither maximum nor sum.
#[target_feature(enable = "neon")]
pub(super) fn quantize(x: &[f32], codes: &mut [i8]) -> RowScale {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut last = [0.0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let mut max = [vdupq_n_f32(1e-5); 4];
    for x in chunks.iter().chain([&last]) {
        for (max, x) in max.iter_mut().zip(x.as_chunks().0) {
            let x = vabsq_f32(load_ps(x));
            // A comparison with NaN is false: the maximum ignores it.
            *max = vbslq_f32(vcgtq_f32(x, *max), x, *max);
        }
    }
    let max = vmaxq_f32(vmaxq_f32(max[0], max[1]), vmaxq_f32(max[2], max[3]));
    let max = vmaxvq_f32(max);
    let scale = vdupq_n_f32(127.0 / max);
    let (places, rest) = codes.as_chunks_mut();
    let mut sum = vdupq_n_s32(0);
    for (x, place) in chunks.iter().zip(places) {
        sum = vaddq_s32(sum, round(x, scale, place));
    }
    let mut place = [0; 16];
    sum = vaddq_s32(sum, round(&last, scale, &mut place));
    rest.copy_from_slice(&place[..rest.len()]);
    RowScale { step: max / 127.0, sum: vaddvq_s32(sum) }
}

/// `x * scale` between -127 and 127, rounded half to even; NaN gives 0. Answers partial sums.
#[inline]
#[target_feature(enable = "neon")]
fn round(x: &[f32; 16], scale: float32x4_t, place: &mut [i8; 16]) -> int32x4_t {
    let mut words = [vdupq_n_s32(0); 4];
    for (word, x) in words.iter_mut().zip(x.as_chunks().0) {
        let x = vmulq_f32(load_ps(x), scale);
        let clamped = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-127.0)), vdupq_n_f32(127.0));
        // `fcvtns` rounds half to even and gives 0 for NaN, which the clamp lets through.
        *word = vcvtnq_s32_f32(clamped);
    }
    let low = vmovn_high_s32(vmovn_s32(words[0]), words[1]);
    let high = vmovn_high_s32(vmovn_s32(words[2]), words[3]);
    let bytes = vmovn_high_s16(vmovn_s16(low), high);
    // SAFETY: the array is 16 writable bytes.
    unsafe { vst1q_s8(place.as_mut_ptr(), bytes) };
    vpaddlq_s16(vpaddlq_s8(bytes))
}

/// `ops::activation::silu_mul`, four values at a time.
#[target_feature(enable = "neon")]
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gates, gate_rest) = gate.as_chunks();
    let (ups, up_rest) = up.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut();
    for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
        store_ps(out, silu(load_ps(gate), load_ps(up)));
    }
    let (mut gate, mut up, mut out) = ([0.0; 4], [0.0; 4], [0.0; 4]);
    gate[..gate_rest.len()].copy_from_slice(gate_rest);
    up[..up_rest.len()].copy_from_slice(up_rest);
    store_ps(&mut out, silu(load_ps(&gate), load_ps(&up)));
    out_rest.copy_from_slice(&out[..out_rest.len()]);
}

/// `(gate / (1 + exp(-gate))) * up`.
#[inline]
#[target_feature(enable = "neon")]
fn silu(gate: float32x4_t, up: float32x4_t) -> float32x4_t {
    let divisor = vaddq_f32(vdupq_n_f32(1.0), exp(vnegq_f32(gate)));
    vmulq_f32(vdivq_f32(gate, divisor), up)
}
