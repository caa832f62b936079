//! Every aarch64: Advanced SIMD as the architecture began with it (Cortex-A53, A57, A72 and all that followed).
//!
//! `dots` holds the ternary products, `chunks` how several tokens share them,
//! `sparse` those that leave out zeros, `attend` the attention, `rows` the
//! full-precision head, `float` what the compiler does not widen by itself. The
//! other float steps are stamped. Sixteen virtual lanes are four registers.
//!
//! The tables of newer cores (`dotprod`, `i8mm`) replace the products of
//! integers and take the rest from here.

use super::{ActsLayout, Code, Form, Kernels, stamp::stamp};
use crate::ops;
use std::arch::{aarch64::*, asm};

mod attend;
mod chunks;
mod dots;
mod first_terms;
mod float;
mod lanes;
mod pairs;
mod rows;
mod sparse;

pub(super) use chunks::{Planes, in_chunks, interleave, plane};
pub(super) use sparse::{ALL_ROWS, Block, add_i32, halves};

/// One tile: a stream of 64 bytes a step, 16 rows of sums in registers.
const TWO_BITS: Form = Form { code: Code::Bits2, tiles: 1 };

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
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
    look_up: super::lookup::look_up!("neon", lanes::Sums),
    inputs: None,
};

stamp!(ops::Hardware, "neon");

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load16(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array is 16 readable bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// Stores 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store16(bytes: &mut [u8; 16], x: uint8x16_t) {
    // SAFETY: the array is 16 writable bytes.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), x) }
}

/// 16 codes of activations, or of weights.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_acts(codes: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array is 16 readable bytes.
    unsafe { vld1q_s8(codes.as_ptr()) }
}

/// Four activations of one token in every lane.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn splat(acts: &[i8; 4]) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(acts.map(|act| act as u8))))
}

/// Four sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i32(values: &[i32; 4]) -> int32x4_t {
    // SAFETY: the array is four readable words.
    unsafe { vld1q_s32(values.as_ptr()) }
}

/// Stores four sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_i32(values: &mut [i32; 4], x: int32x4_t) {
    // SAFETY: the array is four writable words.
    unsafe { vst1q_s32(values.as_mut_ptr(), x) }
}

/// Four floats.
#[inline]
#[target_feature(enable = "neon")]
fn load_ps(values: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array is four readable floats.
    unsafe { vld1q_f32(values.as_ptr()) }
}

/// Stores four floats.
#[inline]
#[target_feature(enable = "neon")]
fn store_ps(values: &mut [f32; 4], x: float32x4_t) {
    // SAFETY: the array is four writable floats.
    unsafe { vst1q_f32(values.as_mut_ptr(), x) }
}

/// Eight halves as f32, exactly. The intrinsic for this is younger than the compilers we support.
#[inline]
#[target_feature(enable = "neon")]
fn widen_halves(halves: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: the instruction is a part of `neon` and works on registers alone.
    unsafe {
        asm!("fcvtl {out:v}.4s, {x:v}.4h", out = out(vreg) low, x = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: as above.
    unsafe {
        asm!("fcvtl2 {out:v}.4s, {x:v}.8h", out = out(vreg) high, x = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}

/// Eight signed bytes as f32.
#[inline]
#[target_feature(enable = "neon")]
fn widen_bytes(codes: int8x8_t) -> [float32x4_t; 2] {
    let wide = vmovl_s8(codes);
    [vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))]
}

/// Folds sixteen lanes: 8, 4, 2, 1, as `ops::fold`.
#[inline]
#[target_feature(enable = "neon")]
fn fold(lanes: [float32x4_t; 4]) -> f32 {
    let x = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)))
}

/// `ops::math::exp` of four values.
#[inline]
#[target_feature(enable = "neon")]
fn exp(x: float32x4_t) -> float32x4_t {
    let floor = vdupq_n_f32(ops::math::EXP_FLOOR);
    // `fmin` and `fmax` give NaN for NaN, so NaN stays NaN.
    let clamped = vmaxq_f32(vminq_f32(x, vdupq_n_f32(88.0)), floor);
    let n = vrndnq_f32(vmulq_f32(clamped, vdupq_n_f32(std::f32::consts::LOG2_E)));
    let r = vfmaq_f32(clamped, n, vdupq_n_f32(-0.693_359_4));
    let r = vfmaq_f32(r, n, vdupq_n_f32(2.121_944_4e-4));
    let mut p = vdupq_n_f32(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
        p = vfmaq_f32(vdupq_n_f32(c), p, r);
    }
    let p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0));
    let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    let power = vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased));
    let result = vreinterpretq_u32_f32(vmulq_f32(p, power));
    // Where x lies below the floor, +0; a NaN lies nowhere.
    vreinterpretq_f32_u32(vbicq_u32(result, vcltq_f32(x, floor)))
}
