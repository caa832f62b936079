//! The float steps that the compiler does not widen by itself.

use super::{exp, load_i32, load_ps, store_ps};
use crate::ops::norm::RowScale;
use std::arch::x86_64::*;

/// `ops::norm::quantize`, sixteen values at a time. Padding of zeros changes neither maximum nor sum.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn quantize(x: &[f32], codes: &mut [i8]) -> RowScale {
    let (chunks, rest) = x.as_chunks();
    let mut last = [0.0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let mut max = _mm512_set1_ps(1e-5);
    for x in chunks.iter().chain([&last]) {
        // The second operand wins where a value is NaN.
        max = _mm512_max_ps(_mm512_abs_ps(load_ps(x)), max);
    }
    let max = _mm512_reduce_max_ps(max);
    let scale = _mm512_set1_ps(127.0 / max);
    let (places, rest) = codes.as_chunks_mut();
    let mut sum = _mm512_setzero_si512();
    for (x, place) in chunks.iter().zip(places) {
        let q = round(load_ps(x), scale);
        sum = _mm512_add_epi32(sum, q);
        store_i8(place, q);
    }
    let q = round(load_ps(&last), scale);
    let mut place = [0; 16];
    store_i8(&mut place, q);
    rest.copy_from_slice(&place[..rest.len()]);
    let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sum, q));
    RowScale { step: max / 127.0, sum }
}

/// `ops::norm::rescale`, sixteen values at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn rescale(
    dots: &[i32],
    weights: &[f32],
    rows: &[RowScale],
    stride: usize,
    out: &mut [f32],
) {
    let (weight_pieces, weight_rest) = weights.as_chunks();
    let rows = dots.chunks_exact(weights.len()).zip(rows);
    if let ([a, b], []) = (weight_pieces, weight_rest) {
        // The usual panel: its weights stay in registers.
        let (a, b) = (load_ps(a), load_ps(b));
        for (out, (dots, row)) in out.chunks_mut(stride).zip(rows) {
            let step = _mm512_set1_ps(row.step);
            if let ([x, y, ..], ([d, e], _)) = (out.as_chunks_mut().0, dots.as_chunks()) {
                store_ps(x, scaled(d, a, step));
                store_ps(y, scaled(e, b, step));
            }
        }
        return;
    }
    for (out, (dots, row)) in out.chunks_mut(stride).zip(rows) {
        let step = _mm512_set1_ps(row.step);
        let (pieces, rest) = out[..weights.len()].as_chunks_mut();
        let (dot_pieces, dot_rest) = dots.as_chunks();
        for ((out, dots), weights) in pieces.iter_mut().zip(dot_pieces).zip(weight_pieces) {
            store_ps(out, scaled(dots, load_ps(weights), step));
        }
        for ((out, dot), weight) in rest.iter_mut().zip(dot_rest).zip(weight_rest) {
            *out = *dot as f32 * (weight * row.step);
        }
    }
}

/// `f32(dot) * (weight * step)`.
#[target_feature(enable = "avx512f")]
fn scaled(dots: &[i32; 16], weights: __m512, step: __m512) -> __m512 {
    _mm512_mul_ps(_mm512_cvtepi32_ps(load_i32(dots)), _mm512_mul_ps(weights, step))
}

/// `x * scale` between -127 and 127, rounded half to even; NaN gives 0.
#[target_feature(enable = "avx512f")]
pub(super) fn round(x: __m512, scale: __m512) -> __m512i {
    let x = _mm512_mul_ps(x, scale);
    let clamped = _mm512_min_ps(_mm512_set1_ps(127.0), _mm512_max_ps(_mm512_set1_ps(-127.0), x));
    _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), clamped)
}

/// Stores the low bytes of 16 words.
#[target_feature(enable = "avx512f,avx512bw")]
fn store_i8(place: &mut [i8; 16], q: __m512i) {
    let narrow = _mm512_cvtepi32_epi8(q);
    // SAFETY: the array is 16 writable bytes, and `storeu` asks no alignment.
    unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), narrow) }
}

/// `ops::activation::silu_mul`, sixteen values at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gates, gate_rest) = gate.as_chunks();
    let (ups, up_rest) = up.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut();
    for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
        store_ps(out, silu(load_ps(gate), load_ps(up)));
    }
    let (mut gate, mut up, mut out) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    gate[..gate_rest.len()].copy_from_slice(gate_rest);
    up[..up_rest.len()].copy_from_slice(up_rest);
    store_ps(&mut out, silu(load_ps(&gate), load_ps(&up)));
    out_rest.copy_from_slice(&out[..out_rest.len()]);
}

/// `(gate / (1 + exp(-gate))) * up`.
#[target_feature(enable = "avx512f,avx512dq")]
fn silu(gate: __m512, up: __m512) -> __m512 {
    let negative = _mm512_xor_ps(gate, _mm512_set1_ps(-0.0));
    let divisor = _mm512_add_ps(_mm512_set1_ps(1.0), exp(negative));
    _mm512_mul_ps(_mm512_div_ps(gate, divisor), up)
}
