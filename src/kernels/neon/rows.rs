//! Full-precision rows against f32 inputs: four registers of four lanes for each row and input.
//!
//! A chain of `fma` has one term in flight, so that four rows run side by side,
//! or two rows and two inputs, which share their decoding. Four rows are one
//! stretch of memory.

use super::{fold, load_ps, load16, store_ps, widen_bytes, widen_halves};
use crate::{kernels::RowType, ops};
use std::arch::aarch64::*;

/// Values decoded at a time.
const UNIT: usize = ops::LANES;

/// 16 decoded values: one for each lane.
type Unit = [float32x4_t; 4];

#[target_feature(enable = "neon")]
pub(super) fn row_dots(rows: &[u8], kind: RowType, inputs: &[f32], k: usize, out: &mut [f32]) {
    match kind {
        RowType::F32 => all::<64, 1>(rows, 4 * k, inputs, k, out, |x, _| f32s(x)),
        RowType::F16 => all::<32, 1>(rows, 2 * k, inputs, k, out, |x, _| halves(x)),
        RowType::Bf16 => all::<32, 1>(rows, 2 * k, inputs, k, out, |x, _| brains(x)),
        RowType::Q8_0 => all::<34, 2>(rows, k / 32 * 34, inputs, k, out, |x, u| q8_0(x, u)),
        RowType::Q6K => all::<210, 16>(rows, k / 256 * 210, inputs, k, out, |x, u| q6_k(x, u)),
    }
}

/// Every row with every input. A block of `B` bytes holds `U` units; `load` decodes one of them.
#[inline]
#[target_feature(enable = "neon")]
fn all<const B: usize, const U: usize>(
    rows: &[u8],
    row_bytes: usize,
    inputs: &[f32],
    k: usize,
    out: &mut [f32],
    load: impl Fn(&[u8; B], usize) -> Unit,
) {
    let count = rows.len() / row_bytes;
    let mut r = 0;
    while r < count {
        let here = if count - r >= 4 { 4 } else { 1 };
        let stretch = &rows[r * row_bytes..][..here * row_bytes];
        let (two, others) = stretch.split_at(here / 2 * row_bytes);
        let mut i = 0;
        while i * k < inputs.len() {
            let block = &inputs[i * k..];
            let pair = block.len() / k >= 2;
            let out = &mut out[i * count + r..];
            i += match (here, pair) {
                (4, true) => {
                    some::<B, U, 2, 2>(two, block, k, count, out, &load);
                    some::<B, U, 2, 2>(others, block, k, count, &mut out[2..], &load)
                }
                (4, false) => some::<B, U, 4, 1>(stretch, block, k, count, out, &load),
                (_, true) => some::<B, U, 1, 2>(stretch, block, k, count, out, &load),
                (_, false) => some::<B, U, 1, 1>(stretch, block, k, count, out, &load),
            };
        }
        r += here;
    }
}

/// `R` rows with `I` inputs; `out` is `[I][count]` from the first row on. Gives `I`.
#[inline]
#[target_feature(enable = "neon")]
fn some<const B: usize, const U: usize, const R: usize, const I: usize>(
    stretch: &[u8],
    inputs: &[f32],
    k: usize,
    count: usize,
    out: &mut [f32],
    load: impl Fn(&[u8; B], usize) -> Unit,
) -> usize {
    let mut acc = [[[vdupq_n_f32(0.0); 4]; I]; R];
    let row_bytes = stretch.len() / R;
    let blocks = row_bytes / B;
    let row: [&[[u8; B]]; R] = std::array::from_fn(|r| {
        let row = stretch[r * row_bytes..][..row_bytes].as_chunks().0;
        &row[..blocks]
    });
    let input: [&[[[f32; UNIT]; U]]; I] = std::array::from_fn(|i| {
        let input = inputs[i * k..][..k].as_chunks().0.as_chunks().0;
        &input[..blocks]
    });
    for b in 0..blocks {
        for unit in 0..U {
            for r in 0..R {
                let row = load(&row[r][b], unit);
                for i in 0..I {
                    let input = input[i][b][unit].as_chunks().0;
                    for n in 0..4 {
                        let acc = &mut acc[r][i][n];
                        *acc = vfmaq_f32(*acc, load_ps(&input[n]), row[n]);
                    }
                }
            }
        }
    }
    for i in 0..I {
        for r in 0..R {
            let mut sums = acc[r][i];
            if !k.is_multiple_of(UNIT) {
                let row = &stretch[r * row_bytes..][..row_bytes];
                sums = tail(row, &inputs[i * k..][..k], sums, &load);
            }
            out[i * count + r] = fold(sums);
        }
    }
    I
}

/// Adds the last values of a row that is not whole units.
#[target_feature(enable = "neon")]
fn tail<const B: usize>(
    row: &[u8],
    input: &[f32],
    sums: Unit,
    load: impl Fn(&[u8; B], usize) -> Unit,
) -> Unit {
    let (_, row) = row.as_chunks::<B>();
    let (_, input) = input.as_chunks::<UNIT>();
    let mut bytes = [0; B];
    bytes[..row.len()].copy_from_slice(row);
    let (mut values, mut lanes) = ([0.0; UNIT], [0.0; UNIT]);
    for (place, x) in values.as_chunks_mut().0.iter_mut().zip(load(&bytes, 0)) {
        store_ps(place, x);
    }
    for (place, x) in lanes.as_chunks_mut().0.iter_mut().zip(sums) {
        store_ps(place, x);
    }
    for ((lane, input), value) in lanes.iter_mut().zip(input).zip(values) {
        *lane = input.mul_add(value, *lane);
    }
    let (lanes, _) = lanes.as_chunks();
    [load_ps(&lanes[0]), load_ps(&lanes[1]), load_ps(&lanes[2]), load_ps(&lanes[3])]
}

/// 16 little-endian floats.
#[inline]
#[target_feature(enable = "neon")]
fn f32s(bytes: &[u8; 64]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let mut unit = [vdupq_n_f32(0.0); 4];
    for (unit, part) in unit.iter_mut().zip(parts) {
        *unit = vreinterpretq_f32_u8(load16(part));
    }
    unit
}

/// 16 halves.
#[inline]
#[target_feature(enable = "neon")]
fn halves(bytes: &[u8; 32]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let [a, b] = widen_halves(vreinterpretq_u16_u8(load16(&parts[0])));
    let [c, d] = widen_halves(vreinterpretq_u16_u8(load16(&parts[1])));
    [a, b, c, d]
}

/// 16 upper halves of floats.
#[inline]
#[target_feature(enable = "neon")]
fn brains(bytes: &[u8; 32]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let zero = vdupq_n_u16(0);
    let mut unit = [vdupq_n_f32(0.0); 4];
    for (unit, part) in unit.as_chunks_mut::<2>().0.iter_mut().zip(parts) {
        // Zeros below each half: the same as a shift by 16, in one step.
        let x = vreinterpretq_u16_u8(load16(part));
        unit[0] = vreinterpretq_f32_u16(vzip1q_u16(zero, x));
        unit[1] = vreinterpretq_f32_u16(vzip2q_u16(zero, x));
    }
    unit
}

/// Half of 32 codes under one scale, `d * q`.
#[inline]
#[target_feature(enable = "neon")]
fn q8_0(block: &[u8; 34], unit: usize) -> Unit {
    let d = half(block[0], block[1]);
    let codes = block[2 + 16 * unit..].first_chunk().expect("within the block");
    scaled(vreinterpretq_s8_u8(load16(codes)), d)
}

/// Unit `u` of a block of 256: `(d * scale) * (code - 32)`, laid out as `scalar::decode_row` says.
#[inline]
#[target_feature(enable = "neon")]
fn q6_k(block: &[u8; 210], u: usize) -> Unit {
    let (half_at, quarter, place) = (u / 8, u % 8 / 2, u % 2 * 16);
    let part = |at: usize| load16(block[at..].first_chunk().expect("within the block"));
    let low = part(64 * half_at + 32 * (quarter % 2) + place);
    let high = part(128 + 32 * half_at + place);
    // A shift to the left by a negative count is one to the right.
    let low = vshlq_u8(low, vdupq_n_s8(-4 * (quarter as i8 / 2)));
    let low = vandq_u8(low, vdupq_n_u8(15));
    let high = vandq_u8(vshlq_u8(high, vdupq_n_s8(-2 * quarter as i8)), vdupq_n_u8(3));
    let codes = vreinterpretq_s8_u8(vorrq_u8(low, vshlq_n_u8::<4>(high)));
    let d = half(block[208], block[209]);
    scaled(vsubq_s8(codes, vdupq_n_s8(32)), d * f32::from(block[192 + u] as i8))
}

/// `scale * code`.
#[inline]
#[target_feature(enable = "neon")]
fn scaled(codes: int8x16_t, scale: f32) -> Unit {
    let [a, b] = widen_bytes(vget_low_s8(codes));
    let [c, d] = widen_bytes(vget_high_s8(codes));
    [vmulq_n_f32(a, scale), vmulq_n_f32(b, scale), vmulq_n_f32(c, scale), vmulq_n_f32(d, scale)]
}

/// One half as f32.
#[inline]
#[target_feature(enable = "neon")]
fn half(low: u8, high: u8) -> f32 {
    let [wide, _] = widen_halves(vdupq_n_u16(u16::from_le_bytes([low, high])));
    vgetq_lane_f32::<0>(wide)
}
