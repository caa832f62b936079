//! Full-precision rows against f32 inputs: two registers of eight lanes for each row and input.
//!
//! A chain of `fma` has one term in flight, so that four rows run side by side,
//! or two rows and two inputs, which share their decoding. Four rows are one
//! stretch of memory, and lines are asked for one stretch ahead, in order: to the
//! memory it is one stream.

use super::{fold, load_ps, load32, prefetch, store_ps};
use crate::{kernels::RowType, ops};
use std::arch::x86_64::*;

/// Values decoded at a time.
const UNIT: usize = 32;

/// 32 decoded values.
type Unit = [__m256; 4];

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn row_dots(
    rows: &[u8],
    kind: RowType,
    inputs: &[f32],
    k: usize,
    out: &mut [f32],
) {
    match kind {
        RowType::F32 => all(rows, 4 * k, inputs, k, out, |x: &[u8; 128], _| f32s(x)),
        RowType::F16 => all(rows, 2 * k, inputs, k, out, |x: &[u8; 64], _| halves(x)),
        RowType::Bf16 => all(rows, 2 * k, inputs, k, out, |x: &[u8; 64], _| brains(x)),
        RowType::Q8_0 => all(rows, k / 32 * 34, inputs, k, out, |x: &[u8; 34], _| q8_0(x)),
        RowType::Q6K => all(rows, k / 256 * 210, inputs, k, out, |x: &[u8; 210], g| q6_k(x, g)),
    }
}

/// Every row with every input. A block of `B` bytes holds whole units; `load` decodes one of them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn all<const B: usize>(
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
        let (two, _) = stretch.split_at(here / 2 * row_bytes);
        let mut i = 0;
        while i * k < inputs.len() {
            let block = &inputs[i * k..];
            let pair = block.len() / k >= 2;
            let out = &mut out[i * count + r..];
            i += match (here, pair) {
                (4, true) => {
                    some::<B, 2, 2>(two, block, k, count, out, &load);
                    let others = &stretch[two.len()..];
                    some::<B, 2, 2>(others, block, k, count, &mut out[2..], &load)
                }
                (4, false) => some::<B, 4, 1>(stretch, block, k, count, out, &load),
                (_, true) => some::<B, 1, 2>(stretch, block, k, count, out, &load),
                (_, false) => some::<B, 1, 1>(stretch, block, k, count, out, &load),
            };
        }
        r += here;
    }
}

/// `R` rows with `I` inputs; `out` is `[I][count]` from the first row on. Gives `I`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn some<const B: usize, const R: usize, const I: usize>(
    stretch: &[u8],
    inputs: &[f32],
    k: usize,
    count: usize,
    out: &mut [f32],
    load: impl Fn(&[u8; B], usize) -> Unit,
) -> usize {
    let mut acc = [[[_mm256_setzero_ps(); 2]; I]; R];
    let row_bytes = stretch.len() / R;
    let blocks = row_bytes / B;
    let row: [&[[u8; B]]; R] = std::array::from_fn(|r| {
        let row = stretch[r * row_bytes..][..row_bytes].as_chunks().0;
        &row[..blocks]
    });
    // A row shorter than a block has no whole unit: `tail` takes all of it.
    let units = (k / UNIT).checked_div(blocks).unwrap_or(0);
    let input: [&[[f32; UNIT]]; I] =
        std::array::from_fn(|i| &inputs[i * k..][..k].as_chunks().0[..blocks * units]);
    for b in 0..blocks {
        for line in 0..(R * B).div_ceil(64) {
            prefetch(stretch.as_ptr(), stretch.len() + b * R * B + 64 * line);
        }
        for unit in 0..units {
            for r in 0..R {
                let row = load(&row[r][b], unit);
                for i in 0..I {
                    let (input, _) = input[i][b * units + unit].as_chunks();
                    for n in 0..4 {
                        let acc = &mut acc[r][i][n % 2];
                        *acc = _mm256_fmadd_ps(load_ps(&input[n]), row[n], *acc);
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
#[target_feature(enable = "avx2,fma,f16c")]
fn tail<const B: usize>(
    row: &[u8],
    input: &[f32],
    sums: [__m256; 2],
    load: impl Fn(&[u8; B], usize) -> Unit,
) -> [__m256; 2] {
    let (_, row) = row.as_chunks::<B>();
    let (_, input) = input.as_chunks::<UNIT>();
    let mut bytes = [0; B];
    bytes[..row.len()].copy_from_slice(row);
    let (mut values, mut lanes) = ([0.0; UNIT], [0.0; ops::LANES]);
    for (values, x) in values.as_chunks_mut().0.iter_mut().zip(load(&bytes, 0)) {
        store_ps(values, x);
    }
    for (lanes, x) in lanes.as_chunks_mut().0.iter_mut().zip(sums) {
        store_ps(lanes, x);
    }
    for (i, (input, value)) in input.iter().zip(values).enumerate() {
        let lane = &mut lanes[i % ops::LANES];
        *lane = input.mul_add(value, *lane);
    }
    let (lanes, _) = lanes.as_chunks();
    [load_ps(&lanes[0]), load_ps(&lanes[1])]
}

/// 32 little-endian floats.
#[target_feature(enable = "avx2")]
fn f32s(bytes: &[u8; 128]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let part = |n: usize| _mm256_castsi256_ps(load32(&parts[n]));
    [part(0), part(1), part(2), part(3)]
}

/// 32 halves.
#[target_feature(enable = "avx2,f16c")]
fn halves(bytes: &[u8; 64]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let part = |n: usize| _mm256_cvtph_ps(load16(&parts[n]));
    [part(0), part(1), part(2), part(3)]
}

/// 32 upper halves of floats.
#[target_feature(enable = "avx2")]
fn brains(bytes: &[u8; 64]) -> Unit {
    let (parts, _) = bytes.as_chunks();
    let part = |n: usize| {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load16(&parts[n]))))
    };
    [part(0), part(1), part(2), part(3)]
}

/// 32 codes under one scale, `d * q`.
#[target_feature(enable = "avx2,f16c")]
fn q8_0(block: &[u8; 34]) -> Unit {
    let d = _mm256_set1_ps(half(block[0], block[1]));
    let [_, _, codes @ ..] = block;
    let mut values = floats(load32(codes));
    for value in &mut values {
        *value = _mm256_mul_ps(d, *value);
    }
    values
}

/// Unit `g` of a block of 256: `(d * scale) * (code - 32)`, laid out as `scalar::decode_row` says.
#[target_feature(enable = "avx2,f16c")]
fn q6_k(block: &[u8; 210], g: usize) -> Unit {
    let (half_at, quarter) = (g / 4, g % 4);
    let part = |at: usize| load32(block[at..].first_chunk().expect("within the block"));
    let low = part(64 * half_at + 32 * (quarter % 2));
    let high = part(128 + 32 * half_at);
    let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(4 * (quarter as i32 / 2)));
    let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(2 * quarter as i32));
    let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
    let codes = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
    let d = half(block[208], block[209]);
    let scale = |n: usize| _mm256_set1_ps(d * f32::from(block[192 + 2 * g + n] as i8));
    let scales = [scale(0), scale(1)];
    let mut values = floats(codes);
    for (n, value) in values.iter_mut().enumerate() {
        *value = _mm256_mul_ps(scales[n / 2], *value);
    }
    values
}

/// 32 codes as f32.
#[target_feature(enable = "avx2")]
fn floats(codes: __m256i) -> Unit {
    let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
    let wide = |q| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
    [
        wide(low),
        wide(_mm_unpackhi_epi64(low, low)),
        wide(high),
        wide(_mm_unpackhi_epi64(high, high)),
    ]
}

/// One half as f32.
#[target_feature(enable = "avx2,f16c")]
fn half(low: u8, high: u8) -> f32 {
    let bits = i32::from(u16::from_le_bytes([low, high]));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
}

/// 16 bytes.
#[target_feature(enable = "avx2")]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array is 16 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
