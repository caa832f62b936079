//! Nibbles and pairs of the head's rows against the terms of several states, joined to six bits in registers.
//!
//! ```text
//! u = 4 * nibble + pair        acc[row][state][0] += u . p of the state;    acc[row][state][1] += nibble . q of the state
//! ```
//!
//! Two rows by four states are sixteen sums: two multiplications for 64 weights and a state, to which a state alone needs three.
//! `|acc| <= 65536 / 16 * 63 * 127 < 2^25` a lane, and 2^29 together. One or two states go alone, the memory is their limit.

use super::{ahead, planes};
use crate::kernels::screen::{ROWS, StatesOf};
use std::arch::x86_64::*;

/// States that go together.
const STATES: usize = 4;
/// Rows that do.
const PAIR: usize = 2;
/// Rows that all states go through before the next ones: half of a second cache's share, as the rows behind them are fetched
/// meanwhile. Otherwise the first states wait for the memory and the others for the multiplier.
const BLOCK: usize = 32;

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
                fetch(&of, first, (pass, passes));
                together(StatesOf { codes, ..of }, first, rows, out);
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

/// Asks the second cache for what a pair of rows of the next block has, one line of so many.
#[target_feature(enable = "avx512f")]
fn fetch(of: &StatesOf<'_>, first: usize, (pass, passes): (usize, usize)) {
    let next = first + BLOCK;
    for (plane, share) in [(of.high, 2), (of.middle, 4)] {
        let row = plane.as_ptr().wrapping_add(next * of.k / share);
        for line in (pass..PAIR * of.k / share / 64).step_by(passes) {
            ahead::prefetch(row, 64 * line);
        }
    }
}

/// Two rows against three or four states.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn together(of: StatesOf<'_>, first: usize, rows: usize, out: &mut [[i32; 2]]) {
    let k = of.k;
    let group = first / ROWS;
    let lines = of.high[group * ROWS * k / 2..][..ROWS * k / 2].as_chunks::<64>().0;
    let lines = (lines.as_chunks::<ROWS>().0, first % ROWS / PAIR);
    let middle = of.middle[first * k / 4..][..PAIR * k / 4].as_chunks::<64>().0;
    let middle = middle.split_at(k / 256);
    let mut acc = [_mm512_setzero_si512(); 2 * PAIR * STATES];
    planes::states::<0>(&mut acc, lines, middle, of.codes, k);
    planes::states::<2>(&mut acc, lines, middle, of.codes, k);
    planes::states::<4>(&mut acc, lines, middle, of.codes, k);
    planes::states::<6>(&mut acc, lines, middle, of.codes, k);
    for (acc, out) in acc.chunks_exact(2 * PAIR).zip(out.chunks_exact_mut(rows)) {
        for (acc, out) in acc.chunks_exact(2).zip(&mut out[first..]) {
            *out = [_mm512_reduce_add_epi32(acc[0]), _mm512_reduce_add_epi32(acc[1])];
        }
    }
}
