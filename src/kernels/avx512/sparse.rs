//! Products that leave out rows or columns, and the dense products of the same forms.
//!
//! ```text
//! live rows:      four rows at a time, 64 bytes of each; acc[row][f] += (x & 3 << 2f) . acts[f], folded at the end
//! live columns:   four columns at a time; interleaved by bytes, a lane holds one row of each column in
//!                 every field: acc[u][f] += (x[u] & 3 << 2f) . acts, for all 256 rows
//! several tokens: a stretch of the panel is shuffled once into such lanes, and multiplied as in `dots`
//! ```

use super::{by_width, dots as two_bits, load_i8, load_i32, load64, splat, store_i32, store64};
use crate::kernels::{
    Acts, Code, Form, Live, RowsOf,
    ahead::{AHEAD, Ahead, prefetch},
    sparse::Sparse,
};
use std::arch::x86_64::*;

pub(super) const SPARSE: Sparse = Sparse { live_rows, live_columns };

/// Rows that share the loads of their acts.
const ROWS: usize = 4;

/// A register in memory.
type Line = [u8; 64];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn live_rows(of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
    let lines = of.k / 256;
    let (rows, _) = of.rows.as_chunks::<64>();
    let (acts, _) = of.acts[..of.k].as_chunks::<64>();
    let (acts, _) = acts.as_chunks::<4>();
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * lines..][..lines];
    let mut ahead = Ahead::new(rows, lines, live);
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let i = group * ROWS;
        let sums = four_rows([row(i), row(i + 1), row(i + 2), row(i + 3)], acts, &mut ahead);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum - of.sum;
        }
    }
}

/// The sums of code times act of four rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn four_rows(rows: [&[Line]; ROWS], acts: &[[[i8; 64]; 4]], ahead: &mut Ahead<'_>) -> [i32; ROWS] {
    let masks = two_bits::masks();
    let mut acc = [[_mm512_setzero_si512(); 4]; ROWS];
    for (b, acts) in acts.iter().enumerate() {
        let mut y = [_mm512_setzero_si512(); 4];
        for (y, acts) in y.iter_mut().zip(acts) {
            *y = load_i8(acts);
        }
        for r in 0..ROWS {
            ahead.next();
            let x = load64(&rows[r][b]);
            for f in 0..4 {
                let c = _mm512_and_si512(x, masks[f]);
                acc[r][f] = _mm512_dpbusd_epi32(acc[r][f], c, y[f]);
            }
        }
    }
    let mut sums = [0; ROWS];
    for (sum, acc) in sums.iter_mut().zip(&acc) {
        *sum = _mm512_reduce_add_epi32(shift_fields(acc));
    }
    sums
}

/// The sum of four fields that were multiplied in place: exact, as field `f` is a multiple of `4^f`.
#[target_feature(enable = "avx512f")]
fn shift_fields(acc: &[__m512i; 4]) -> __m512i {
    let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(acc[2]), _mm512_srai_epi32::<6>(acc[3]));
    _mm512_add_epi32(low, high)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn live_columns(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]) {
    let masks = two_bits::masks();
    let (columns, _) = panel.as_chunks::<64>();
    let mut acc = [[_mm512_setzero_si512(); 4]; 4];
    let (places, rest) = live.places.as_chunks::<4>();
    let (codes, rest_codes) = live.codes.as_chunks::<4>();
    let (mut last, mut last_codes) = ([0; 4], [0; 4]);
    last[..rest.len()].copy_from_slice(rest);
    last_codes[..rest.len()].copy_from_slice(rest_codes);
    for (i, (places, codes)) in
        places.iter().chain([&last]).zip(codes.iter().chain([&last_codes])).enumerate()
    {
        let at = 4 * i + AHEAD;
        if let Some(ahead) = live.places.get(at..at + 4) {
            for place in ahead {
                prefetch(panel.as_ptr(), *place as usize * 64);
            }
        } else if let Some(ahead) = live.places.get(at.wrapping_sub(live.places.len())..) {
            // The list ends: the same columns of the panel behind this one come next.
            for place in ahead.iter().take(4) {
                prefetch(panel.as_ptr(), panel.len() + *place as usize * 64);
            }
        }
        let x = interleave(
            load64(&columns[places[0] as usize]),
            load64(&columns[places[1] as usize]),
            load64(&columns[places[2] as usize]),
            load64(&columns[places[3] as usize]),
        );
        let y = splat(codes);
        for u in 0..4 {
            for f in 0..4 {
                let c = _mm512_and_si512(x[u], masks[f]);
                acc[u][f] = _mm512_dpbusd_epi32(acc[u][f], c, y);
            }
        }
    }
    let mut sums = [[0; 16]; 16];
    for u in 0..4 {
        for (f, sums) in sums[4 * u..].iter_mut().take(4).enumerate() {
            let x = match f {
                0 => acc[u][0],
                1 => _mm512_srai_epi32::<2>(acc[u][1]),
                2 => _mm512_srai_epi32::<4>(acc[u][2]),
                _ => _mm512_srai_epi32::<6>(acc[u][3]),
            };
            store_i32(sums, _mm512_sub_epi32(x, _mm512_set1_epi32(live.sum)));
        }
    }
    order_rows(&sums, out);
}

/// Bytes of four columns side by side: lane `4*l + j` of vector `u` is byte `16*l + 4*u + j` of each column.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(ab, cd),
        _mm512_unpackhi_epi16(ab, cd),
        _mm512_unpacklo_epi16(ab_high, cd_high),
        _mm512_unpackhi_epi16(ab_high, cd_high),
    ]
}

/// Sums of [`interleave`]d lanes, `[4*u + f]`, in the order of their rows `64*f + 16*l + 4*u + j`.
fn order_rows(sums: &[[i32; 16]; 16], out: &mut [i32; 256]) {
    for (i, sums) in sums.iter().enumerate() {
        let (u, f) = (i / 4, i % 4);
        for (l, sums) in sums.chunks_exact(4).enumerate() {
            out[64 * f + 16 * l + 4 * u..][..4].copy_from_slice(sums);
        }
    }
}

/// Dense products of the sparse forms.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    let by_rows = form.code == Code::Rows;
    if let ([row], true) = (acts.rows, by_rows) {
        let all: [u32; 32] = std::array::from_fn(|i| i as u32);
        return live_rows(RowsOf { rows: panel, k, acts: acts.codes, sum: row.sum }, &all, out);
    }
    for (row, out) in acts.rows.iter().zip(out.chunks_exact_mut(form.rows())) {
        out.fill(-row.sum);
    }
    if by_rows { rows_several(panel, k, acts, out) } else { columns_several(panel, acts, out) }
}

/// Blocks of rows shuffled at a time: 8 KiB.
const BLOCKS: usize = 4;

/// 32 rows: the four bytes of each row, two vectors for each of a block's sixteen words.
type Words = [[Line; 2]; 16];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn rows_several(panel: &[u8], k: usize, acts: Acts<'_>, out: &mut [i32]) {
    let blocks = k / 256;
    let (lines, _) = panel.as_chunks::<64>();
    let (out, _) = out.as_chunks_mut::<16>();
    let (out, _) = out.as_chunks_mut::<2>();
    let mut words = [[[[0; 64]; 2]; 16]; BLOCKS];
    for first in (0..blocks).step_by(BLOCKS) {
        let here = BLOCKS.min(blocks - first);
        for (b, words) in words[..here].iter_mut().enumerate() {
            for tile in 0..2 {
                let mut x = [_mm512_setzero_si512(); 16];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = load64(&lines[(16 * tile + r) * blocks + first + b]);
                }
                for (words, x) in words.iter_mut().zip(transpose(x)) {
                    store64(&mut words[tile], x);
                }
            }
        }
        for (token, width, codes) in acts.blocks() {
            let codes = &codes[first * 256 * width..];
            let out = &mut out[token..][..width];
            let words = &words[..here];
            by_width!(width, rows_block(words, codes, out));
        }
    }
}

/// Adds some blocks of 32 rows to the sums of W tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn rows_block<const W: usize>(blocks: &[Words], codes: &[i8], out: &mut [[[i32; 16]; 2]]) {
    let Some(out) = out.first_chunk_mut::<W>() else { return };
    let mut acc = load_sums(out);
    // Of a block, word j of field f holds the acts of four weights from 64*f + 4*j.
    let words = codes.as_chunks::<4>().0.as_chunks::<W>().0;
    for (block, acts) in blocks.iter().zip(words.as_chunks::<64>().0) {
        for (j, x) in block.iter().enumerate() {
            let x = [load64(&x[0]), load64(&x[1])];
            two_bits::multiply::<W, 0>(&mut acc, &x, &acts[j]);
            two_bits::multiply::<W, 2>(&mut acc, &x, &acts[16 + j]);
            two_bits::multiply::<W, 4>(&mut acc, &x, &acts[32 + j]);
            two_bits::multiply::<W, 6>(&mut acc, &x, &acts[48 + j]);
        }
    }
    store_sums(acc, out);
}

/// Sums so far.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums<const W: usize>(out: &[[[i32; 16]; 2]; W]) -> [[__m512i; 2]; W] {
    let mut acc = [[_mm512_setzero_si512(); 2]; W];
    for (acc, out) in acc.iter_mut().zip(out) {
        *acc = [load_i32(&out[0]), load_i32(&out[1])];
    }
    acc
}

/// Stores sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_sums<const W: usize>(acc: [[__m512i; 2]; W], out: &mut [[[i32; 16]; 2]; W]) {
    for (acc, out) in acc.iter().zip(out) {
        store_i32(&mut out[0], acc[0]);
        store_i32(&mut out[1], acc[1]);
    }
}

/// Words of sixteen rows: vector `j` of the result holds word `j` of each row.
#[target_feature(enable = "avx512f")]
fn transpose(x: [__m512i; 16]) -> [__m512i; 16] {
    let zero = [_mm512_setzero_si512(); 16];
    let (mut pairs, mut fours, mut out) = (zero, zero, zero);
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..4 {
        for n in 0..2 {
            fours[4 * i + 2 * n] = _mm512_unpacklo_epi64(pairs[4 * i + n], pairs[4 * i + 2 + n]);
            fours[4 * i + 2 * n + 1] =
                _mm512_unpackhi_epi64(pairs[4 * i + n], pairs[4 * i + 2 + n]);
        }
    }
    // fours[4*i + n], quarter q: word 4*q + n of rows 4*i..4*i + 4. Quarters of four vectors change places.
    for n in 0..4 {
        let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[n], fours[4 + n]);
        let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[n], fours[4 + n]);
        let even_high = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[8 + n], fours[12 + n]);
        let odd_high = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[8 + n], fours[12 + n]);
        out[n] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even, even_high);
        out[4 + n] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd, odd_high);
        out[8 + n] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even, even_high);
        out[12 + n] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd, odd_high);
    }
    out
}

/// Fours of columns interleaved at a time: 8 KiB.
const FOURS: usize = 32;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn columns_several(panel: &[u8], acts: Acts<'_>, out: &mut [i32]) {
    let (columns, _) = panel.as_chunks::<64>();
    let (columns, _) = columns.as_chunks::<4>();
    let (sums, _) = out.as_chunks_mut::<16>();
    let (sums, _) = sums.as_chunks_mut::<2>();
    let (sums, _) = sums.as_chunks_mut::<8>();
    let mut lanes = [[[0; 64]; 4]; FOURS];
    for (n, columns) in columns.chunks(FOURS).enumerate() {
        for (lanes, c) in lanes.iter_mut().zip(columns) {
            let x = interleave(load64(&c[0]), load64(&c[1]), load64(&c[2]), load64(&c[3]));
            for (lanes, x) in lanes.iter_mut().zip(x) {
                store64(lanes, x);
            }
        }
        for (token, width, codes) in acts.blocks() {
            let codes = &codes[n * FOURS * 4 * width..];
            let sums = &mut sums[token..][..width];
            let lanes = &lanes[..columns.len()];
            by_width!(width, columns_block(lanes, codes, sums));
        }
    }
    // Sums lie as [field][pair of vectors][vector]; each token's go to the order of their rows.
    for out in out.as_chunks_mut::<256>().0 {
        let mut sums = [[0; 16]; 16];
        for (i, out) in out.chunks_exact(16).enumerate() {
            let (f, u) = (i / 4, i % 4);
            sums[4 * u + f].copy_from_slice(out);
        }
        order_rows(&sums, out);
    }
}

/// Sums of one token: for each field and pair of vectors, 32 rows.
type ColumnSums = [[[i32; 16]; 2]; 8];

/// Adds some fours of columns to the sums of W tokens, 32 rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn columns_block<const W: usize>(lanes: &[[Line; 4]], codes: &[i8], sums: &mut [ColumnSums]) {
    columns_field::<W, 0>(lanes, codes, sums);
    columns_field::<W, 2>(lanes, codes, sums);
    columns_field::<W, 4>(lanes, codes, sums);
    columns_field::<W, 6>(lanes, codes, sums);
}

/// One field of [`columns_block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn columns_field<const W: usize, const SHIFT: u32>(
    lanes: &[[Line; 4]],
    codes: &[i8],
    sums: &mut [ColumnSums],
) {
    let Some(sums) = sums.first_chunk_mut::<W>() else { return };
    let words = codes.as_chunks::<4>().0.as_chunks::<W>().0;
    for pair in 0..2 {
        let at = SHIFT as usize + pair;
        let mut acc = [[_mm512_setzero_si512(); 2]; W];
        for (acc, sums) in acc.iter_mut().zip(&*sums) {
            *acc = [load_i32(&sums[at][0]), load_i32(&sums[at][1])];
        }
        for (lanes, acts) in lanes.iter().zip(words) {
            let x = [load64(&lanes[2 * pair]), load64(&lanes[2 * pair + 1])];
            two_bits::multiply::<W, SHIFT>(&mut acc, &x, acts);
        }
        for (acc, sums) in acc.iter().zip(&mut *sums) {
            store_i32(&mut sums[at][0], acc[0]);
            store_i32(&mut sums[at][1], acc[1]);
        }
    }
}
