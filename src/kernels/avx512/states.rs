//! Nibbles and pairs of the head's rows against the terms of several states, joined to six bits in registers.
//!
//! ```text
//! u = 4 * nibble + pair        acc[row][state][0] += u . p of the state;    acc[row][state][1] += nibble . q of the state
//! ```
//!
//! Two rows by four states are sixteen sums: two multiplications for 64 weights and a state, to which a state alone needs three.
//! `|acc| <= 65536 / 16 * 63 * 127 < 2^25` a lane, and 2^29 together.

use super::{load_i8, load64, prefetch};
use crate::kernels::screen::{ROWS, StatesOf};
use std::arch::x86_64::*;

/// States that go together.
const STATES: usize = 4;
/// Rows that do.
const PAIR: usize = 2;
/// How far ahead the planes are asked for.
const AHEAD: usize = 4 << 10;

/// `[row][state][term]`
type Sums<const S: usize> = [[[__m512i; 2]; S]; PAIR];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn states(of: StatesOf<'_>, out: &mut [[i32; 2]]) {
    let StatesOf { high, middle, k, codes } = of;
    let rows = middle.len() / (k / 4);
    // Fields of the middle plane are whole registers if a quarter of a row is.
    if !k.is_multiple_of(256) {
        return super::KERNELS.one_by_one(of, rows, out);
    }
    let whole = rows / ROWS * ROWS;
    let chunks = [codes[0].chunks(STATES * k), codes[1].chunks(STATES * k)];
    let [first, second] = chunks;
    for ((p, q), out) in first.zip(second).zip(out.chunks_mut(STATES * rows)) {
        let some = StatesOf { high, middle, k, codes: [p, q] };
        match p.len() / k {
            1 => together::<1>(some, whole, rows, out),
            2 => together::<2>(some, whole, rows, out),
            3 => together::<3>(some, whole, rows, out),
            _ => together::<4>(some, whole, rows, out),
        }
    }
    if whole < rows {
        let mut last = vec![[0; 2]; (rows - whole) * (codes[0].len() / k)];
        let rest =
            StatesOf { high: &high[whole * k / 2..], middle: &middle[whole * k / 4..], k, codes };
        super::KERNELS.one_by_one(rest, rows - whole, &mut last);
        for (last, out) in last.chunks_exact(rows - whole).zip(out.chunks_exact_mut(rows)) {
            out[whole..].copy_from_slice(last);
        }
    }
}

/// S states and whole groups of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn together<const S: usize>(of: StatesOf<'_>, whole: usize, rows: usize, out: &mut [[i32; 2]]) {
    let k = of.k;
    let mut terms: [[&[[i8; 64]]; 2]; S] = [[&[]; 2]; S];
    for (s, terms) in terms.iter_mut().enumerate() {
        *terms = of.codes.map(|codes| codes[s * k..][..k].as_chunks().0);
    }
    let groups = of.high[..whole * k / 2].chunks_exact(ROWS * k / 2);
    for (n, group) in groups.enumerate() {
        let lines = group.as_chunks::<64>().0.as_chunks::<ROWS>().0;
        for pair in 0..ROWS / PAIR {
            let first = n * ROWS + pair * PAIR;
            let middle = of.middle[first * k / 4..][..PAIR * k / 4].as_chunks::<64>().0;
            let (a, b) = middle.split_at(k / 256);
            let mut acc = [[[_mm512_setzero_si512(); 2]; S]; PAIR];
            // A field of the middle plane is a quarter of the row.
            add::<S, 0>(&mut acc, (lines, 2 * pair), [a, b], &terms);
            add::<S, 2>(&mut acc, (lines, 2 * pair), [a, b], &terms);
            add::<S, 4>(&mut acc, (lines, 2 * pair), [a, b], &terms);
            add::<S, 6>(&mut acc, (lines, 2 * pair), [a, b], &terms);
            for (r, acc) in acc.iter().enumerate() {
                for (s, [p, q]) in acc.iter().enumerate() {
                    out[s * rows + first + r] =
                        [_mm512_reduce_add_epi32(*p), _mm512_reduce_add_epi32(*q)];
                }
            }
        }
    }
}

/// Adds a quarter of two rows: the field of the middle plane from bit SHIFT up.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add<const S: usize, const SHIFT: u32>(
    acc: &mut Sums<S>,
    (lines, row): (&[[[u8; 64]; ROWS]], usize),
    middle: [&[[u8; 64]]; PAIR],
    terms: &[[&[[i8; 64]]; 2]; S],
) {
    let registers = middle[0].len();
    let first = SHIFT as usize / 2 * registers;
    for i in 0..registers {
        let at = first + i;
        let line = &lines[at / 2];
        let mut nibbles = [_mm512_setzero_si512(); PAIR];
        let mut six = [_mm512_setzero_si512(); PAIR];
        for r in 0..PAIR {
            let x = load64(&line[row + r]);
            prefetch(&line[row + r], AHEAD);
            // The second half of a line is in the high bits.
            let (nibble, above) = if at.is_multiple_of(2) {
                (x, _mm512_slli_epi16::<2>(x))
            } else {
                (_mm512_srli_epi16::<4>(x), _mm512_srli_epi16::<2>(x))
            };
            nibbles[r] = _mm512_and_si512(nibble, _mm512_set1_epi8(0x0f));
            let m = load64(&middle[r][i]);
            let pair = _mm512_and_si512(_mm512_srli_epi16::<SHIFT>(m), _mm512_set1_epi8(3));
            // The bits of 0x3c from the nibble, the others from the pair.
            six[r] = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(0x3c), above, pair);
        }
        for (s, [p, q]) in terms.iter().enumerate() {
            let (p, q) = (load_i8(&p[at]), load_i8(&q[at]));
            for r in 0..PAIR {
                acc[r][s][0] = _mm512_dpbusd_epi32(acc[r][s][0], six[r], p);
                acc[r][s][1] = _mm512_dpbusd_epi32(acc[r][s][1], nibbles[r], q);
            }
        }
    }
}
