//! Six bits of four rows at a time, unpacked for tables that multiply registers of bytes: rows are unpacked once for all states.

use super::{FirstTermsOf, ROWS};
use crate::threads::ask;

/// Weights that are unpacked at a time: 4 KiB of rows, beside as many of states.
const CHUNK: usize = 1024;
/// States that meet them together; the last one again where there are fewer.
pub(in crate::kernels) const STATES: usize = 4;
/// Values whose nibbles share a line.
const BLOCK: usize = 128;

/// Four rows of at most [`CHUNK`] values, blocks of 128.
pub(in crate::kernels) type Rows<'a> = [&'a [u8]; ROWS];
/// As many values of the states.
pub(in crate::kernels) type Codes<'a> = [&'a [i8]; STATES];

/// [`Kernels::first_terms`](super::super::Kernels::first_terms) by sums of `[state][row]` that a table has a function for.
#[inline(always)]
pub(in crate::kernels) fn in_chunks(
    of: FirstTermsOf<'_>,
    out: &mut [[i32; 2]],
    product: impl Fn(Rows<'_>, Codes<'_>) -> [[i32; ROWS]; STATES],
) {
    let FirstTermsOf { high, middle, k, codes } = of;
    let (rows, states) = (middle.len() / (k / 4), codes.len() / k);
    let mut six = [[0; CHUNK]; ROWS];
    let groups = high.chunks(ROWS * k / 2).zip(middle.chunks(ROWS * k / 4));
    let mut behind = groups.clone().skip(1);
    for (group, (high, middle)) in groups.enumerate() {
        let next = behind.next();
        let count = high.len() / (k / 2);
        for start in (0..k).step_by(CHUNK) {
            let len = CHUNK.min(k - start);
            let lines = high.as_chunks::<64>().0[start / BLOCK * count..].chunks_exact(count);
            for (r, (six, pairs)) in six.iter_mut().zip(middle.chunks_exact(k / 4)).enumerate() {
                // A share of the next rows, which come from the memory meanwhile.
                let share = ROWS * start + r * len..ROWS * start + (r + 1) * len;
                for (plane, weights) in next.iter().flat_map(|next| [(next.0, 2), (next.1, 4)]) {
                    ask(plane.get(share.start / weights..share.end / weights).unwrap_or_default());
                }
                let six = six[..len].as_chunks_mut::<BLOCK>().0;
                let lines = lines.clone().map(|lines| &lines[r]);
                six.iter_mut().zip(lines).for_each(|(six, line)| nibbles(line, six));
                with_pairs(pairs, start, six.as_flattened_mut());
            }
            let rows_of = six.each_ref().map(|six| &six[..len]);
            for first in (0..states).step_by(STATES) {
                let state = |i: usize| (first + i).min(states - 1) * k + start;
                let of: Codes<'_> = std::array::from_fn(|i| &codes[state(i)..][..len]);
                let sums = product(rows_of, of);
                for (sums, out) in sums.iter().zip(out[first * rows..].chunks_exact_mut(rows)) {
                    for (out, sum) in out[group * ROWS..][..count].iter_mut().zip(sums) {
                        let before = if start == 0 { 0 } else { out[0] };
                        *out = [before + sum, 0];
                    }
                }
            }
        }
    }
}

/// The nibbles of a line, above two bits of 0.
#[inline(always)]
fn nibbles(line: &[u8; 64], six: &mut [u8; BLOCK]) {
    for i in 0..64 {
        six[i] = (line[i] & 0x0f) << 2;
        six[i + 64] = line[i] >> 4 << 2;
    }
}

/// And their pairs; `start` is the first value in its row.
#[inline(always)]
fn with_pairs(pairs: &[u8], mut start: usize, mut six: &mut [u8]) {
    // Fields are as long as they can be: short loops are unrolled before they can be wide.
    while !six.is_empty() {
        let (field, at) = (start / pairs.len(), start % pairs.len());
        let from = &pairs[at..];
        let (here, rest) = six.split_at_mut(from.len().min(six.len()));
        macro_rules! field {
            ($shift:literal) => {
                for (six, byte) in here.iter_mut().zip(from) {
                    *six |= byte >> $shift & 3;
                }
            };
        }
        match field {
            0 => field!(0),
            1 => field!(2),
            2 => field!(4),
            _ => field!(6),
        }
        start += here.len();
        six = rest;
    }
}
