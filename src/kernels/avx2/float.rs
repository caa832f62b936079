//! The float steps that the compiler does not widen by itself.

use super::{attend::reduce_max, exp, load_ps, sparse::reduce_add, store_ps};
use crate::ops::norm::RowScale;
use std::arch::x86_64::*;

/// `ops::norm::quantize`, eight values at a time. Padding of zeros changes neither maximum nor sum.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) fn quantize(x: &[f32], codes: &mut [i8]) -> RowScale {
    let (chunks, rest) = x.as_chunks();
    let mut last = [0.0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut max = [_mm256_set1_ps(1e-5); 2];
    for (n, x) in chunks.iter().chain([&last]).enumerate() {
        // The second operand wins where a value is NaN.
        let x = _mm256_andnot_ps(_mm256_set1_ps(-0.0), load_ps(x));
        max[n % 2] = _mm256_max_ps(x, max[n % 2]);
    }
    let max = reduce_max(_mm256_max_ps(max[0], max[1]));
    let scale = _mm256_set1_ps(127.0 / max);
    let (places, rest) = codes.as_chunks_mut();
    let mut sum = _mm256_setzero_si256();
    for (x, place) in chunks.iter().zip(places) {
        let q = round(load_ps(x), scale);
        sum = _mm256_add_epi32(sum, q);
        *place = narrow(q);
    }
    let q = round(load_ps(&last), scale);
    rest.copy_from_slice(&narrow(q)[..rest.len()]);
    RowScale { step: max / 127.0, sum: reduce_add(_mm256_add_epi32(sum, q)) }
}

/// `x * scale` between -127 and 127, rounded half to even; NaN gives 0.
#[target_feature(enable = "avx2")]
fn round(x: __m256, scale: __m256) -> __m256i {
    let x = _mm256_mul_ps(x, scale);
    let clamped = _mm256_min_ps(_mm256_set1_ps(127.0), _mm256_max_ps(_mm256_set1_ps(-127.0), x));
    let number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(x, x));
    _mm256_and_si256(_mm256_cvtps_epi32(clamped), number)
}

/// The low bytes of eight words that fit them.
#[target_feature(enable = "avx2")]
fn narrow(q: __m256i) -> [i8; 8] {
    let halves = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
    let bytes = _mm_packs_epi16(halves, halves);
    _mm_cvtsi128_si64(bytes).to_le_bytes().map(|byte| byte as i8)
}

/// `ops::activation::silu_mul`, eight values at a time.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gates, gate_rest) = gate.as_chunks();
    let (ups, up_rest) = up.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut();
    for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
        store_ps(out, silu(load_ps(gate), load_ps(up)));
    }
    let (mut gate, mut up, mut out) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    gate[..gate_rest.len()].copy_from_slice(gate_rest);
    up[..up_rest.len()].copy_from_slice(up_rest);
    store_ps(&mut out, silu(load_ps(&gate), load_ps(&up)));
    out_rest.copy_from_slice(&out[..out_rest.len()]);
}

/// `(gate / (1 + exp(-gate))) * up`.
#[target_feature(enable = "avx2,fma")]
fn silu(gate: __m256, up: __m256) -> __m256 {
    let negative = _mm256_xor_ps(gate, _mm256_set1_ps(-0.0));
    let divisor = _mm256_add_ps(_mm256_set1_ps(1.0), exp(negative));
    _mm256_mul_ps(_mm256_div_ps(gate, divisor), up)
}
