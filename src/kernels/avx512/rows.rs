//! Full-precision rows against f32 inputs: one register of sixteen lanes for each row and input.
//!
//! A chain of `fma` has one term in flight, so that four rows run side by side;
//! several inputs share the decoding of a row. Four rows are one stretch of
//! memory, and lines are asked for one stretch ahead, in order: to the memory it
//! is one stream.

use super::{fold, load_ps, load64};
use crate::kernels::{RowType, ahead::prefetch};
use std::arch::x86_64::*;

/// Values decoded at a time.
const UNIT: usize = 32;

/// 32 decoded values.
type Unit = [__m512; 2];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn row_dots(rows: &[u8], kind: RowType, inputs: &[f32], k: usize, out: &mut [f32]) {
    match kind {
        RowType::F32 => all(rows, 4 * k, inputs, k, out, |x: &[u8; 128], _| f32s(x)),
        RowType::F16 => all(rows, 2 * k, inputs, k, out, |x: &[u8; 64], _| halves(x)),
        RowType::Bf16 => all(rows, 2 * k, inputs, k, out, |x: &[u8; 64], _| brains(x)),
        RowType::Q8_0 => all(rows, k / 32 * 34, inputs, k, out, |x: &[u8; 34], _| q8_0(x)),
        RowType::Q6K => all(rows, k / 256 * 210, inputs, k, out, |x: &[u8; 210], g| q6_k(x, g)),
    }
}

/// Every row with every input, four by four. A block of `B` bytes holds whole units; `load` decodes one of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
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
        let four = count - r >= 4;
        let stretch = &rows[r * row_bytes..][..if four { 4 * row_bytes } else { row_bytes }];
        let mut i = 0;
        while i * k < inputs.len() {
            let block = &inputs[i * k..];
            let out = &mut out[i * count + r..];
            i += match (four, block.len() / k >= 4) {
                (true, true) => some::<B, 4, 4>(stretch, block, k, count, out, &load),
                (true, false) => some::<B, 4, 1>(stretch, block, k, count, out, &load),
                (false, true) => some::<B, 1, 4>(stretch, block, k, count, out, &load),
                (false, false) => some::<B, 1, 1>(stretch, block, k, count, out, &load),
            };
        }
        r += if four { 4 } else { 1 };
    }
}

/// `R` rows with `I` inputs; `out` is `[I][count]` from the first row on. Gives `I`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn some<const B: usize, const R: usize, const I: usize>(
    stretch: &[u8],
    inputs: &[f32],
    k: usize,
    count: usize,
    out: &mut [f32],
    load: impl Fn(&[u8; B], usize) -> Unit,
) -> usize {
    let mut acc = [[_mm512_setzero_ps(); I]; R];
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
            let mut values = [[_mm512_setzero_ps(); 2]; R];
            for r in 0..R {
                values[r] = load(&row[r][b], unit);
            }
            for i in 0..I {
                let [low, high] = halves_of(&input[i][b * units + unit]);
                for r in 0..R {
                    acc[r][i] = _mm512_fmadd_ps(low, values[r][0], acc[r][i]);
                    acc[r][i] = _mm512_fmadd_ps(high, values[r][1], acc[r][i]);
                }
            }
        }
    }
    let rest = k % UNIT;
    if rest > 0 {
        tail(stretch, inputs, k, &mut acc, load);
    }
    for i in 0..I {
        for r in 0..R {
            out[i * count + r] = fold(acc[r][i]);
        }
    }
    I
}

/// The last values of rows that are not whole units; lanes without a value keep their sum.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn tail<const B: usize, const R: usize, const I: usize>(
    stretch: &[u8],
    inputs: &[f32],
    k: usize,
    acc: &mut [[__m512; I]; R],
    load: impl Fn(&[u8; B], usize) -> Unit,
) {
    let row_bytes = stretch.len() / R;
    let rest = k % UNIT;
    let live = (1u32 << rest) - 1;
    let live = [live as __mmask16, (live >> 16) as __mmask16];
    for r in 0..R {
        let mut bytes = [0; B];
        let row = &stretch[r * row_bytes..][..row_bytes];
        let row = &row[row_bytes / B * B..];
        bytes[..row.len()].copy_from_slice(row);
        let row = load(&bytes, 0);
        for i in 0..I {
            let mut values = [0.0; UNIT];
            values[..rest].copy_from_slice(&inputs[(i + 1) * k - rest..][..rest]);
            let input = halves_of(&values);
            for n in 0..2 {
                acc[r][i] = _mm512_mask3_fmadd_ps(input[n], row[n], acc[r][i], live[n]);
            }
        }
    }
}

/// 32 floats.
#[target_feature(enable = "avx512f")]
fn halves_of(values: &[f32; UNIT]) -> Unit {
    let (halves, _) = values.as_chunks();
    [load_ps(&halves[0]), load_ps(&halves[1])]
}

/// 32 little-endian floats.
#[target_feature(enable = "avx512f")]
fn f32s(bytes: &[u8; 128]) -> Unit {
    let (halves, _) = bytes.as_chunks();
    [_mm512_castsi512_ps(load64(&halves[0])), _mm512_castsi512_ps(load64(&halves[1]))]
}

/// 32 halves.
#[target_feature(enable = "avx512f")]
fn halves(bytes: &[u8; 64]) -> Unit {
    let (halves, _) = bytes.as_chunks();
    [_mm512_cvtph_ps(load32(&halves[0])), _mm512_cvtph_ps(load32(&halves[1]))]
}

/// 32 upper halves of floats.
#[target_feature(enable = "avx512f")]
fn brains(bytes: &[u8; 64]) -> Unit {
    let (halves, _) = bytes.as_chunks();
    let wide = |x| _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x));
    [_mm512_castsi512_ps(wide(load32(&halves[0]))), _mm512_castsi512_ps(wide(load32(&halves[1])))]
}

/// 32 codes under one scale, `d * q`.
#[target_feature(enable = "avx512f,avx512vl")]
fn q8_0(block: &[u8; 34]) -> Unit {
    let d = _mm512_set1_ps(half(block[0], block[1]));
    let [_, _, codes @ ..] = block;
    let [low, high] = floats(load32(codes));
    [_mm512_mul_ps(d, low), _mm512_mul_ps(d, high)]
}

/// Unit `g` of a block of 256: `(d * scale) * (code - 32)`, laid out as `scalar::decode_row` says.
#[target_feature(enable = "avx512f,avx512vl")]
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
    let scale = |n: usize| d * f32::from(block[192 + 2 * g + n] as i8);
    let [first, second] = floats(codes);
    [
        _mm512_mul_ps(_mm512_set1_ps(scale(0)), first),
        _mm512_mul_ps(_mm512_set1_ps(scale(1)), second),
    ]
}

/// 32 codes as f32.
#[target_feature(enable = "avx512f")]
fn floats(codes: __m256i) -> Unit {
    let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
    [_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high))]
}

/// One half as f32.
#[target_feature(enable = "avx512f,avx512vl")]
fn half(low: u8, high: u8) -> f32 {
    let bits = i32::from(u16::from_le_bytes([low, high]));
    _mm512_cvtss_f32(_mm512_cvtph_ps(_mm256_zextsi128_si256(_mm_cvtsi32_si128(bits))))
}

/// 32 bytes.
#[target_feature(enable = "avx512f")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
