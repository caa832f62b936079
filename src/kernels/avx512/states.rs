//! Nibbles and pairs of the head's rows against the terms of several states, joined to six bits in registers.
//!
//! ```text
//! u = 4 * nibble + pair        acc[row][state][0] += u . p of the state;    acc[row][state][1] += nibble . q of the state
//! ```
//!
//! Two rows by four states are sixteen sums: two multiplications for 64 weights and a state, to which a state alone needs three.
//! `|acc| <= 65536 / 16 * 63 * 127 < 2^25` a lane, and 2^29 together. One or two states go alone, the memory is their limit.

use super::{
    planes::{self, Ahead},
    store_i32,
};
use crate::kernels::screen::{ROWS, StatesOf};
use std::arch::x86_64::*;

/// States that go together.
const STATES: usize = 4;
/// Rows that do.
const PAIR: usize = 2;
/// Rows that all states go through before the next ones: a quarter of a second cache with those behind them, which are fetched
/// meanwhile. Otherwise the first states wait for the memory and the others for the multiplier.
const BLOCK: usize = 64;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn states(of: StatesOf<'_>, out: &mut [[i32; 2]]) {
    let k = of.k;
    let rows = of.middle.len() / (k / 4);
    let states = of.codes[0].len() / k;
    // A field of the middle plane is a quarter of a row, and whole lines of the other plane: blocks of 512 weights.
    let many = if k.is_multiple_of(512) { states - states % STATES % 3 } else { 0 };
    let whole = if many > 0 { rows / ROWS * ROWS } else { 0 };
    let passes = many.div_ceil(STATES);
    for block in (0..whole).step_by(BLOCK) {
        let block = block..whole.min(block + BLOCK);
        for pass in 0..passes {
            let some = pass * STATES..many.min((pass + 1) * STATES);
            let codes = of.codes.map(|codes| &codes[some.start * k..some.end * k]);
            let out = &mut out[some.start * rows..some.end * rows];
            for first in block.clone().step_by(PAIR) {
                let ahead = ahead(&of, first, (pass, passes));
                together(StatesOf { codes, ..of }, first, ahead, rows, out);
            }
        }
    }
    let (last, few) = out.split_at_mut(many * rows);
    let codes = |states: std::ops::Range<usize>| {
        of.codes.map(|codes| &codes[states.start * k..states.end * k])
    };
    super::KERNELS.one_by_one(StatesOf { codes: codes(0..many), ..of }, whole, rows, last);
    super::KERNELS.one_by_one(StatesOf { codes: codes(many..states), ..of }, 0, rows, few);
}

/// What a pair of rows asks for of the next block: an equal share in each pass, at an even pace.
fn ahead(of: &StatesOf<'_>, first: usize, (pass, passes): (usize, usize)) -> Ahead {
    let (place, block) = (first % BLOCK, first - first % BLOCK + BLOCK);
    let next = |plane: &[u8], share: usize, step: usize| {
        let rows = block * passes + pass * BLOCK + place;
        (plane.as_ptr().wrapping_add(rows * (of.k / share) / passes), step / passes)
    };
    Ahead { high: next(of.high, 2, 128), middle: next(of.middle, 4, 64) }
}

/// Two rows against three or four states.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn together(of: StatesOf<'_>, first: usize, ahead: Ahead, rows: usize, out: &mut [[i32; 2]]) {
    let k = of.k;
    let group = first / ROWS;
    let lines = of.high[group * ROWS * k / 2..][..ROWS * k / 2].as_chunks::<64>().0;
    let lines = (lines.as_chunks::<ROWS>().0, first % ROWS / PAIR);
    let middle = of.middle[first * k / 4..][..PAIR * k / 4].as_chunks::<64>().0;
    let middle = middle.split_at(k / 256);
    let sums = each(planes::states(lines, middle, of.codes, k, ahead));
    let sums: [[[i32; 2]; PAIR]; STATES] = sums.map(|row| [[row[0], row[1]], [row[2], row[3]]]);
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(rows)) {
        out[first..first + PAIR].copy_from_slice(sums);
    }
}

/// The sum of each of sixteen registers: half as many registers at each step, of twice as many sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn each(acc: [__m512i; 16]) -> [[i32; 4]; 4] {
    let pairs = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let fours = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let halves = |a, b| {
        let low = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
        _mm512_add_epi32(low, _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b))
    };
    let four = |i: usize| fours(pairs(acc[i], acc[i + 1]), pairs(acc[i + 2], acc[i + 3]));
    let (low, high) = (halves(four(0), four(4)), halves(four(8), four(12)));
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
    let sums = _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high));
    let mut out = [0; 16];
    store_i32(&mut out, sums);
    let (rows, _) = out.as_chunks();
    [rows[0], rows[1], rows[2], rows[3]]
}
