//! Products that leave out rows or columns, and the nibbles of the head.
//!
//! ```text
//! live rows:     two rows at a time, fields as in `dots`; 4 blocks add 16 terms of 2032, then widen
//! live columns:  two columns at a time, interleaved by bytes: a 16-bit lane holds one row of both;
//!                c[f] = x >> 2f & 03;   acc[f] += c[f] . acts   |term| <= 508: 64 pairs, then widen
//! nibbles:       four rows at a time; 2 blocks add 8 terms of 2*15*127 = 3810, then widen
//! ```
//!
//! All of these 16-bit sums stay within 32512.

use super::{dots::widen, load32, store_i32};
use crate::kernels::{
    Live, RowsOf,
    ahead::{AHEAD, Ahead, prefetch},
    scalar,
    screen::{PlaneOf, ROWS as GROUP},
    sparse::Sparse,
};
use std::arch::x86_64::*;

pub(in crate::kernels) const SPARSE: Sparse = Sparse { live_rows, live_columns };

/// Rows that share the loads of their acts.
const ROWS: usize = 2;

/// Pairs of columns between two widenings.
const PAIRS: usize = 64;

#[target_feature(enable = "avx2")]
pub(super) fn live_rows(of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
    let lines = of.k / 256;
    let (rows, _) = of.rows.as_chunks::<64>();
    let (acts, _) = of.acts[..of.k].as_chunks::<32>();
    let (acts, _) = acts.as_chunks::<8>();
    let row = |i: usize| &rows[live[i.min(live.len() - 1)] as usize * lines..][..lines];
    let mut ahead = Ahead::new(rows, lines, live);
    for (group, out) in out.chunks_mut(ROWS).enumerate() {
        let sums = two_rows([row(group * ROWS), row(group * ROWS + 1)], acts, &mut ahead);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum - of.sum;
        }
    }
}

/// The sums of code times act of two rows.
#[inline]
#[target_feature(enable = "avx2")]
fn two_rows(
    rows: [&[[u8; 64]]; ROWS],
    acts: &[[[i8; 32]; 8]],
    ahead: &mut Ahead<'_>,
) -> [i32; ROWS] {
    let (low_mask, top_mask) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; ROWS];
    for (n, acts) in acts.chunks(4).enumerate() {
        let mut acc = [[zero; 2]; ROWS];
        for (b, acts) in acts.iter().enumerate() {
            for (row, [low, top]) in rows.iter().zip(&mut acc) {
                ahead.next();
                let (halves, _) = row[4 * n + b].as_chunks();
                for (h, half) in halves.iter().enumerate() {
                    let x = load32(half);
                    let hi = _mm256_srli_epi16::<4>(x);
                    for (x, f) in [(x, 0), (hi, 2)] {
                        let c = _mm256_and_si256(x, low_mask);
                        let product = _mm256_maddubs_epi16(c, load_i8(&acts[2 * f + h]));
                        *low = _mm256_add_epi16(*low, product);
                        let c = _mm256_and_si256(x, top_mask);
                        let product = _mm256_maddubs_epi16(c, load_i8(&acts[2 * f + 2 + h]));
                        *top = _mm256_add_epi16(*top, product);
                    }
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = _mm256_add_epi32(*sum, widen(acc));
            }
        }
    }
    let mut out = [0; ROWS];
    for (out, [low, top]) in out.iter_mut().zip(sums) {
        // Exact: every term of `top` is a multiple of four.
        *out = reduce_add(_mm256_add_epi32(low, _mm256_srai_epi32::<2>(top)));
    }
    out
}

#[target_feature(enable = "avx2")]
pub(super) fn live_columns(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]) {
    let (columns, _) = panel.as_chunks::<64>();
    out.fill(-live.sum);
    for first in (0..live.places.len()).step_by(2 * PAIRS) {
        let until = live.places.len().min(first + 2 * PAIRS);
        for place in live.places[until..].iter().take(AHEAD) {
            prefetch(panel.as_ptr(), *place as usize * 64);
        }
        let (places, codes) = (&live.places[first..until], &live.codes[first..until]);
        for h in 0..2 {
            half_columns(columns, h, places, codes, out);
        }
    }
}

/// Adds one half of some columns, 32 bytes of each.
#[target_feature(enable = "avx2")]
fn half_columns(
    columns: &[[u8; 64]],
    h: usize,
    places: &[u32],
    codes: &[i8],
    out: &mut [i32; 256],
) {
    let mask = _mm256_set1_epi8(3);
    let column = |place: u32| load32(&columns[place as usize].as_chunks().0[h]);
    let mut acc = [[_mm256_setzero_si256(); 4]; 2];
    for (places, codes) in places.chunks(2).zip(codes.chunks(2)) {
        // A single column at the end is paired with itself, times zero.
        let (a, b) = (column(places[0]), column(places[places.len() - 1]));
        let second = if codes.len() == 2 { codes[1] } else { 0 };
        let y = _mm256_set1_epi16(i16::from_le_bytes([codes[0] as u8, second as u8]));
        let x = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
        for (acc, x) in acc.iter_mut().zip(x) {
            let fields = [
                x,
                _mm256_srli_epi16::<2>(x),
                _mm256_srli_epi16::<4>(x),
                _mm256_srli_epi16::<6>(x),
            ];
            for (acc, x) in acc.iter_mut().zip(fields) {
                let product = _mm256_maddubs_epi16(_mm256_and_si256(x, mask), y);
                *acc = _mm256_add_epi16(*acc, product);
            }
        }
    }
    for (u, acc) in acc.iter().enumerate() {
        for (f, acc) in acc.iter().enumerate() {
            // Lane 8*l + j is byte 32*h + 16*l + 8*u + j of its column.
            let (rows, _) = out[64 * f + 32 * h..].as_chunks_mut::<8>();
            add_i32(&mut rows[u], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(*acc)));
            add_i32(&mut rows[2 + u], _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(*acc)));
        }
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn nibbles(of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
    let (groups, rest) = of.rows.split_at(out.len() / GROUP * GROUP * of.k / 2);
    let (out, last) = out.as_chunks_mut::<GROUP>();
    let codes = of.codes.map(|codes| codes.as_chunks::<32>().0.as_chunks::<4>().0);
    for (group, out) in groups.chunks_exact(GROUP * of.k / 2).zip(out) {
        *out = four_rows(group.as_chunks::<64>().0.as_chunks::<GROUP>().0, codes);
    }
    scalar::nibbles(PlaneOf { rows: rest, ..of }, last);
}

/// The nibble sums of a group of rows.
#[inline]
#[target_feature(enable = "avx2")]
fn four_rows(group: &[[[u8; 64]; GROUP]], codes: [&[[[i8; 32]; 4]]; 2]) -> [[i32; 2]; GROUP] {
    let mask = _mm256_set1_epi8(15);
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; GROUP];
    let codes = codes[0].chunks(2).zip(codes[1].chunks(2));
    for (lines, (first, second)) in group.chunks(2).zip(codes) {
        let mut acc = [[zero; 2]; GROUP];
        for (lines, codes) in lines.iter().zip(first.iter().zip(second)) {
            for line in lines {
                prefetch(line, 64 * AHEAD);
            }
            for h in 0..2 {
                let codes = [codes.0, codes.1];
                for (line, acc) in lines.iter().zip(&mut acc) {
                    let x = load32(&line.as_chunks::<32>().0[h]);
                    let low = _mm256_and_si256(x, mask);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask);
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        let product = _mm256_maddubs_epi16(low, load_i8(&codes[h]));
                        *acc = _mm256_add_epi16(*acc, product);
                        let product = _mm256_maddubs_epi16(high, load_i8(&codes[2 + h]));
                        *acc = _mm256_add_epi16(*acc, product);
                    }
                }
            }
        }
        for (sum, acc) in sums.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
            *sum = _mm256_add_epi32(*sum, widen(*acc));
        }
    }
    let mut out = [[0; 2]; GROUP];
    for (out, sums) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *out = reduce_add(*sums);
    }
    out
}

/// Adds to 8 sums.
#[target_feature(enable = "avx2")]
pub(super) fn add_i32(sums: &mut [i32; 8], x: __m256i) {
    // SAFETY: the array is 8 readable words, and `loadu` asks no alignment.
    let old = unsafe { _mm256_loadu_si256(sums.as_ptr().cast()) };
    store_i32(sums, _mm256_add_epi32(old, x));
}

/// 32 acts.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn load_i8(acts: &[i8; 32]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and `loadu` asks no alignment.
    unsafe { _mm256_loadu_si256(acts.as_ptr().cast()) }
}

/// The sum of eight words.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn reduce_add(x: __m256i) -> i32 {
    let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let x = _mm_add_epi32(x, _mm_unpackhi_epi64(x, x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<1>(x)))
}
