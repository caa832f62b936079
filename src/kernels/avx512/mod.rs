//! x86-64 with AVX-512 F, BW, DQ, VL and VNNI: Ice Lake, Sapphire Rapids, Zen 4 and later.
//!
//! `dots` holds the ternary products, `base3` their five-weights-a-byte form for
//! CPUs with VBMI, `attend` the attention, `rows` the full-precision head. The
//! other float steps are stamped: they stream through short rows.

use super::{ActsLayout, Code, Form, Kernels, stamp::stamp};
use crate::ops;
use std::arch::x86_64::*;

mod attend;
mod base3;
mod dots;
mod first_terms;
mod float;
mod gather;
mod inputs;
mod limits;
mod nibbles;
mod ordered;
mod pairs;
mod planes;
mod rows;
mod sparse;
mod states;

/// Two bits, two tiles: a stream of 128 bytes a step, 32 rows of sums in registers.
const TWO_BITS: Form = Form { code: Code::Bits2, tiles: 2 };
/// The same rows in base 3: a fifth fewer bytes for a decoding by table.
const BASE_3: Form = Form { code: Code::Base3, tiles: 2 };

/// Eight tokens by 32 rows: sixteen accumulators, and room for what decoding keeps.
const LAYOUT: ActsLayout = ActsLayout { block: 8, unit: 4 };

macro_rules! table {
    ($name:ident, $forms:expr, $dots:expr, $stream:expr) => {
        pub(super) static $name: Kernels = Kernels {
            name: "avx512",
            forms: $forms,
            layout: LAYOUT,
            dots: $dots,
            stream: Some($stream),
            rms_norm,
            quantize: float::quantize,
            rescale: float::rescale,
            relu2_mul,
            silu_mul: float::silu_mul,
            gather: gather::gather,
            rotate,
            attend: attend::attend,
            merge,
            row_dots: rows::row_dots,
            sparse: sparse::SPARSE,
            split_row,
            limits: limits::limits,
            nibbles: nibbles::nibbles,
            pairs: pairs::pairs,
            states: Some(states::states),
            first_terms: Some(first_terms::first_terms),
            look_up: None,
            inputs: Some(inputs::inputs),
        };
    };
}

table!(KERNELS, &[TWO_BITS, Form::ROWS, Form::COLUMNS], dots::dots, dots::stream);
table!(KERNELS_VBMI, &[TWO_BITS, BASE_3, Form::ROWS, Form::COLUMNS], base3::dots, base3::stream);

stamp!(ops::Hardware, "avx512f,avx512bw,avx512dq,avx512vl,fma");

/// Calls a function of a block's tokens, one to eight.
macro_rules! by_width {
    ($width:expr, $several:ident($($arg:expr),*)) => {
        match $width {
            1 => $several::<1>($($arg),*),
            2 => $several::<2>($($arg),*),
            3 => $several::<3>($($arg),*),
            4 => $several::<4>($($arg),*),
            5 => $several::<5>($($arg),*),
            6 => $several::<6>($($arg),*),
            7 => $several::<7>($($arg),*),
            _ => $several::<8>($($arg),*),
        }
    };
}
use by_width;

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
}

/// Whether it has what [`KERNELS_VBMI`] enables beside that.
pub(super) fn detected_vbmi() -> bool {
    detected() && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("gfni")
}

/// How far ahead of itself a stream in the order of the memory asks for lines, into the first cache (docs/kernels.md has the distances
/// that were measured).
const STREAM: usize = 6 << 10;

/// Asks for the cache line `bytes` after `at`. Panels are contiguous, so beyond one lies the next.
#[target_feature(enable = "avx512f")]
#[allow(unused_unsafe)] // safe from Rust 1.94 on
fn prefetch<T>(at: *const T, bytes: usize) {
    // SAFETY: a prefetch never faults, whatever its address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(bytes).cast()) }
}

/// 64 bytes.
#[target_feature(enable = "avx512f")]
fn load64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the array is 64 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Stores 64 bytes.
#[target_feature(enable = "avx512f")]
fn store64(bytes: &mut [u8; 64], x: __m512i) {
    // SAFETY: the array is 64 writable bytes, and `storeu` asks no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), x) }
}

/// 64 acts.
#[target_feature(enable = "avx512f")]
fn load_i8(acts: &[i8; 64]) -> __m512i {
    // SAFETY: the array is 64 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm512_loadu_si512(acts.as_ptr().cast()) }
}

/// 16 floats.
#[target_feature(enable = "avx512f")]
fn load_ps(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array is 16 readable floats, and `loadu` asks no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Stores 16 floats.
#[target_feature(enable = "avx512f")]
fn store_ps(values: &mut [f32; 16], x: __m512) {
    // SAFETY: the array is 16 writable floats, and `storeu` asks no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), x) }
}

/// 16 sums.
#[target_feature(enable = "avx512f")]
fn load_i32(values: &[i32; 16]) -> __m512i {
    // SAFETY: the array is 16 readable words, and `loadu` asks no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// Stores 16 sums.
#[target_feature(enable = "avx512f")]
fn store_i32(values: &mut [i32; 16], x: __m512i) {
    // SAFETY: the array is 16 writable words, and `storeu` asks no alignment.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), x) }
}

/// Four activations of one token in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn splat(acts: &[i8; 4]) -> __m512i {
    // As one word: bytes are gathered into longer words, and split again on the pipes that multiply.
    // SAFETY: the array is 4 readable bytes, and the read asks no alignment.
    _mm512_set1_epi32(unsafe { acts.as_ptr().cast::<i32>().read_unaligned() })
}

/// Folds sixteen lanes: 8, 4, 2, 1, as `ops::fold`.
#[target_feature(enable = "avx512f,avx512dq")]
fn fold(x: __m512) -> f32 {
    let x = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// `ops::math::exp` of sixteen values.
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let floor = _mm512_set1_ps(ops::math::EXP_FLOOR);
    // The second operand wins where a comparison meets NaN, so NaN stays NaN.
    let clamped = _mm512_max_ps(floor, _mm512_min_ps(_mm512_set1_ps(88.0), x));
    let round = _mm512_set1_ps(12_582_912.0);
    let n = _mm512_mul_ps(clamped, _mm512_set1_ps(std::f32::consts::LOG2_E));
    let n = _mm512_sub_ps(_mm512_add_ps(n, round), round);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693_359_4), clamped);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    let p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    let p = _mm512_add_ps(p, _mm512_set1_ps(1.0));
    let biased = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
    let power = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased));
    let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, floor);
    _mm512_mask_mul_ps(_mm512_setzero_ps(), !below, p, power)
}
