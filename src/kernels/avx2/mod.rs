//! x86-64 with AVX2, FMA and F16C: every Intel since Haswell (2013), every AMD since Zen.
//!
//! `dots` holds the ternary products, `attend` the attention, `rows` the
//! full-precision head. The other float steps are stamped: they stream through
//! short rows. Sixteen virtual lanes are two registers.

use super::{ActsLayout, Code, Form, Kernels, stamp::stamp};
use crate::ops;
use std::arch::x86_64::*;

pub(super) mod attend;
mod dots;
mod first_terms;
pub(super) mod float;
mod lanes;
mod pairs;
pub(super) mod rows;
pub(super) mod several;
pub(super) mod sparse;

/// One tile: a stream of 64 bytes a step, 16 rows of sums in registers.
pub(super) const TWO_BITS: Form = Form { code: Code::Bits2, tiles: 1 };

pub(super) static KERNELS: Kernels = TABLE;

/// The table as a value, for the tables that differ in little.
pub(super) const TABLE: Kernels = Kernels {
    name: "avx2",
    forms: &[TWO_BITS, Form::ROWS, Form::COLUMNS],
    layout: ActsLayout { block: 4, unit: 4 },
    dots: dots::dots,
    stream: None,
    rms_norm,
    quantize: float::quantize,
    rescale,
    relu2_mul,
    silu_mul: float::silu_mul,
    gather,
    rotate,
    attend: attend::attend,
    merge,
    row_dots: rows::row_dots,
    sparse: sparse::SPARSE,
    split_row,
    limits,
    nibbles: sparse::nibbles,
    pairs: pairs::pairs,
    states: None,
    first_terms: Some(first_terms::first_terms),
    look_up: super::lookup::look_up!("avx2", lanes::Sums),
    inputs: None,
};

stamp!(ops::Hardware, "avx2,fma");

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Asks for the cache line `bytes` after `at`. Panels are contiguous, so beyond one lies the next.
#[target_feature(enable = "avx2")]
#[allow(unused_unsafe)] // safe from Rust 1.94 on
pub(super) fn prefetch<T>(at: *const T, bytes: usize) {
    // SAFETY: a prefetch never faults, whatever its address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(bytes).cast()) }
}

/// 32 bytes.
#[target_feature(enable = "avx2")]
pub(super) fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 8 floats.
#[target_feature(enable = "avx2")]
fn load_ps(values: &[f32; 8]) -> __m256 {
    // SAFETY: the array is 8 readable floats, and `loadu` asks no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Stores 8 floats.
#[target_feature(enable = "avx2")]
fn store_ps(values: &mut [f32; 8], x: __m256) {
    // SAFETY: the array is 8 writable floats, and `storeu` asks no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), x) }
}

/// Stores 8 sums.
#[target_feature(enable = "avx2")]
pub(super) fn store_i32(values: &mut [i32; 8], x: __m256i) {
    // SAFETY: the array is 8 writable words, and `storeu` asks no alignment.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), x) }
}

/// Four activations of one token in every lane.
#[target_feature(enable = "avx2")]
pub(super) fn splat(acts: [i8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(acts.map(|act| act as u8)))
}

/// Folds sixteen lanes: 8, 4, 2, 1, as `ops::fold`.
#[target_feature(enable = "avx2")]
fn fold(lanes: [__m256; 2]) -> f32 {
    let x = _mm256_add_ps(lanes[0], lanes[1]);
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// `ops::math::exp` of eight values.
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    let floor = _mm256_set1_ps(ops::math::EXP_FLOOR);
    // The second operand wins where a comparison meets NaN, so NaN stays NaN.
    let clamped = _mm256_max_ps(floor, _mm256_min_ps(_mm256_set1_ps(88.0), x));
    let round = _mm256_set1_ps(12_582_912.0);
    let n = _mm256_mul_ps(clamped, _mm256_set1_ps(std::f32::consts::LOG2_E));
    let n = _mm256_sub_ps(_mm256_add_ps(n, round), round);
    let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693_359_4), clamped);
    let r = _mm256_fmadd_ps(n, _mm256_set1_ps(2.121_944_4e-4), r);
    let mut p = _mm256_set1_ps(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
    }
    let p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    let p = _mm256_add_ps(p, _mm256_set1_ps(1.0));
    let biased = _mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
    let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased));
    // Where x lies below the floor, +0; a NaN lies nowhere.
    _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, floor), _mm256_mul_ps(p, power))
}
