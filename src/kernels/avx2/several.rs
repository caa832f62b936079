//! Dense products of the sparse forms for several tokens.
//!
//! A stretch of the panel is shuffled once, into memory that stays in the nearest cache, such that a vector
//! holds four bytes of eight rows (`rows`) or one row of four columns in every field (`columns`);
//! then a block of tokens is multiplied as in `dots`: four, or six where a table says so.

use super::{
    dots::{Step, multiply, widen},
    load32,
    sparse::{self, add_i32},
};
use crate::kernels::{Acts, Code, Form, RowsOf};
use std::arch::x86_64::*;

/// A register in memory.
type Half = [u8; 32];

/// Dense products of the sparse forms.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn dots(
    panel: &[u8],
    form: Form,
    k: usize,
    acts: Acts<'_>,
    out: &mut [i32],
) {
    let by_rows = form.code == Code::Rows;
    if let ([row], true) = (acts.rows, by_rows) {
        let all: [u32; 32] = std::array::from_fn(|i| i as u32);
        let of = RowsOf { rows: panel, k, acts: acts.codes, sum: row.sum };
        return sparse::live_rows(of, &all, out);
    }
    for (row, out) in acts.rows.iter().zip(out.chunks_exact_mut(form.rows())) {
        out.fill(-row.sum);
    }
    if by_rows { rows(panel, k, acts, out) } else { columns(panel, acts, out) }
}

/// A block of 16 rows: for each of its sixteen words, the words of two times eight rows.
type Words = [[Half; 2]; 16];

#[target_feature(enable = "avx2")]
fn rows(panel: &[u8], k: usize, acts: Acts<'_>, out: &mut [i32]) {
    let blocks = k / 256;
    let (lines, _) = panel.as_chunks::<64>();
    let mut words = [[[0; 32]; 2]; 16];
    for tile in 0..2 {
        for b in 0..blocks {
            for h in 0..2 {
                for half in 0..2 {
                    let mut x = [_mm256_setzero_si256(); 8];
                    for (r, x) in x.iter_mut().enumerate() {
                        let line = &lines[(16 * tile + 8 * half + r) * blocks + b];
                        *x = load32(&line.as_chunks().0[h]);
                    }
                    for (words, x) in words[8 * h..].iter_mut().zip(transpose(x)) {
                        store32(&mut words[half], x);
                    }
                }
            }
            for (token, width, codes) in acts.blocks() {
                let codes = &codes[b * 256 * width..][..256 * width];
                let out = &mut out[token * 32..][..width * 32];
                match width {
                    1 => rows_block::<1>(&words, codes, tile, out),
                    2 => rows_block::<2>(&words, codes, tile, out),
                    3 => rows_block::<3>(&words, codes, tile, out),
                    4 => rows_block::<4>(&words, codes, tile, out),
                    5 => rows_block::<5>(&words, codes, tile, out),
                    _ => rows_block::<6>(&words, codes, tile, out),
                }
            }
        }
    }
}

/// Adds one block of 16 rows to the sums of W tokens. Sixteen words of four fields are 64 terms of 508.
#[target_feature(enable = "avx2")]
fn rows_block<const W: usize>(words: &Words, codes: &[i8], tile: usize, out: &mut [i32]) {
    let mut acc = [[_mm256_setzero_si256(); 2]; W];
    // Word j of field f holds the acts of four weights from 64*f + 4*j.
    let acts = codes.as_chunks::<4>().0.as_chunks::<W>().0;
    let Some(acts) = acts.first_chunk::<64>() else { return };
    for (j, x) in words.iter().enumerate() {
        multiply::<W, 0>(&mut acc, x, &acts[j]);
        multiply::<W, 2>(&mut acc, x, &acts[16 + j]);
        multiply::<W, 4>(&mut acc, x, &acts[32 + j]);
        multiply::<W, 6>(&mut acc, x, &acts[48 + j]);
    }
    for (acc, out) in acc.iter().zip(out.chunks_exact_mut(32)) {
        let (sums, _) = out[16 * tile..].as_chunks_mut();
        add_i32(&mut sums[0], widen(acc[0]));
        add_i32(&mut sums[1], widen(acc[1]));
    }
}

/// Words of eight rows: vector `j` of the result holds word `j` of each row.
#[target_feature(enable = "avx2")]
fn transpose(x: [__m256i; 8]) -> [__m256i; 8] {
    let zero = [_mm256_setzero_si256(); 8];
    let (mut pairs, mut fours, mut out) = (zero, zero, zero);
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..2 {
        for n in 0..2 {
            fours[4 * i + 2 * n] = _mm256_unpacklo_epi64(pairs[4 * i + n], pairs[4 * i + 2 + n]);
            fours[4 * i + 2 * n + 1] =
                _mm256_unpackhi_epi64(pairs[4 * i + n], pairs[4 * i + 2 + n]);
        }
    }
    // fours[4*i + n], lane q: word 4*q + n of rows 4*i..4*i + 4.
    for n in 0..4 {
        out[n] = _mm256_permute2x128_si256::<0x20>(fours[n], fours[4 + n]);
        out[4 + n] = _mm256_permute2x128_si256::<0x31>(fours[n], fours[4 + n]);
    }
    out
}

/// Fours of columns between two widenings: each adds one term of 508 to a sum.
const FOURS: usize = 64;

/// Four columns, in pairs of vectors: vector `4*h + u` holds, in lane `4*l + j`, the rows `32*h + 16*l + 4*u + j`
/// of each field's 64.
type Lanes = [Step; 4];

#[target_feature(enable = "avx2")]
fn columns(panel: &[u8], acts: Acts<'_>, out: &mut [i32]) {
    let (columns, _) = panel.as_chunks::<64>();
    let (columns, _) = columns.as_chunks::<4>();
    let mut lanes = [[[[0; 32]; 2]; 4]; FOURS];
    for (n, columns) in columns.chunks(FOURS).enumerate() {
        for (lanes, columns) in lanes.iter_mut().zip(columns) {
            interleave(columns, lanes);
        }
        for (token, width, codes) in acts.blocks() {
            let codes = &codes[n * FOURS * 4 * width..];
            let out = &mut out[token * 256..][..width * 256];
            let lanes = &lanes[..columns.len()];
            match width {
                1 => columns_block::<1>(lanes, codes, out),
                2 => columns_block::<2>(lanes, codes, out),
                3 => columns_block::<3>(lanes, codes, out),
                4 => columns_block::<4>(lanes, codes, out),
                5 => columns_block::<5>(lanes, codes, out),
                _ => columns_block::<6>(lanes, codes, out),
            }
        }
    }
    out.as_chunks_mut().0.iter_mut().for_each(order_rows);
}

/// Bytes of four columns side by side.
#[target_feature(enable = "avx2")]
fn interleave(columns: &[[u8; 64]; 4], lanes: &mut Lanes) {
    let (low, high) = lanes.split_at_mut(2);
    for (h, lanes) in [low, high].into_iter().enumerate() {
        let half = |c: usize| load32(&columns[c].as_chunks().0[h]);
        let (a, b, c, d) = (half(0), half(1), half(2), half(3));
        let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        store32(&mut lanes[0][0], _mm256_unpacklo_epi16(ab, cd));
        store32(&mut lanes[0][1], _mm256_unpackhi_epi16(ab, cd));
        store32(&mut lanes[1][0], _mm256_unpacklo_epi16(ab_high, cd_high));
        store32(&mut lanes[1][1], _mm256_unpackhi_epi16(ab_high, cd_high));
    }
}

/// Adds some fours of columns to the sums of W tokens.
#[target_feature(enable = "avx2")]
fn columns_block<const W: usize>(lanes: &[Lanes], codes: &[i8], out: &mut [i32]) {
    columns_field::<W, 0>(lanes, codes, out);
    columns_field::<W, 2>(lanes, codes, out);
    columns_field::<W, 4>(lanes, codes, out);
    columns_field::<W, 6>(lanes, codes, out);
}

/// One field of [`columns_block`], 16 rows at a time.
#[target_feature(enable = "avx2")]
fn columns_field<const W: usize, const SHIFT: i32>(lanes: &[Lanes], codes: &[i8], out: &mut [i32]) {
    let words = codes.as_chunks::<4>().0.as_chunks::<W>().0;
    for pair in 0..4 {
        let mut acc = [[_mm256_setzero_si256(); 2]; W];
        for (lanes, acts) in lanes.iter().zip(words) {
            multiply::<W, SHIFT>(&mut acc, &lanes[pair], acts);
        }
        let at = 4 * SHIFT as usize + 2 * pair;
        for (acc, out) in acc.iter().zip(out.chunks_exact_mut(256)) {
            let (sums, _) = out.as_chunks_mut();
            add_i32(&mut sums[at], widen(acc[0]));
            add_i32(&mut sums[at + 1], widen(acc[1]));
        }
    }
}

/// One token's sums, `[8*f + vector][lane]`, in the order of their rows.
fn order_rows(out: &mut [i32; 256]) {
    let sums = *out;
    for (i, sums) in sums.chunks_exact(8).enumerate() {
        let (f, h, u) = (i / 8, i % 8 / 4, i % 4);
        let rows = &mut out[64 * f + 32 * h + 4 * u..];
        rows[..4].copy_from_slice(&sums[..4]);
        rows[16..20].copy_from_slice(&sums[4..]);
    }
}

/// Stores 32 bytes.
#[target_feature(enable = "avx2")]
fn store32(bytes: &mut Half, x: __m256i) {
    // SAFETY: the array is 32 writable bytes, and `storeu` asks no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), x) }
}
