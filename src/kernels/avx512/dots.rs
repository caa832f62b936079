//! Ternary products of two-bit panels by `vpdpbusd`.
//!
//! A vector is one tile of one step: 16 rows of four bytes, each byte four
//! fields. `vpdpbusd` multiplies the unsigned codes of a lane's four bytes with
//! four signed acts and adds the sum to the lane: one instruction is 64 products.
//!
//! ```text
//! one token:    for each step, tile and field f:  acc[tile][f] += (x & 3 << 2f) . acts[f]
//!               sum = (acc[0] + (acc[1] >> 2) + (acc[2] >> 4) + (acc[3] >> 6)) - sum of acts
//! six tokens:   for each step and field f:  c[tile] = x[tile] >> 2f & 3;  acc[token][tile] += c[tile] . acts[token][f]
//! ```
//!
//! With one token the unpacking is what costs, and masking in place saves its
//! shifts. The shift at the end is exact: every term of `acc[f]` is a multiple
//! of `4^f`. No accumulator overflows: a byte is at most `2 << 6 = 128`, so
//! `|acc| <= 65536 / 4 * 128 * 127 < 2^28`.

use super::{STREAM, by_width, load64, ordered, prefetch, sparse, splat, store_i32};
use crate::{
    kernels::{Acts, Code, Form},
    ops::norm::RowScale,
};
use std::arch::x86_64::*;

/// Tiles of a panel.
const TILES: usize = 2;

/// One step of a panel.
type Step = [[u8; 64]; TILES];

/// The sums of one token.
type Sums = [[i32; 16]; TILES];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if form.code != Code::Bits2 {
        return sparse::dots(panel, form, k, acts, out);
    }
    if acts.tokens() == 1 {
        return stream(panel, form, k, acts, out);
    }
    let steps = panel.as_chunks().0.as_chunks().0;
    let out = out.as_chunks_mut().0.as_chunks_mut().0;
    for (first, width, codes) in acts.blocks() {
        let rows = &acts.rows[first..][..width];
        let out = &mut out[first..][..width];
        if width == 1 {
            stream(panel, form, k, Acts { codes, rows, ..acts }, out[0].as_flattened_mut());
        } else {
            by_width!(width, several(steps, codes, rows, out));
        }
    }
}

/// The fields of a byte, in place.
#[target_feature(enable = "avx512f")]
pub(super) fn masks() -> [__m512i; 4] {
    [
        _mm512_set1_epi8(0x03),
        _mm512_set1_epi8(0x0c),
        _mm512_set1_epi8(0x30),
        _mm512_set1_epi8(0xc0u8 as i8),
    ]
}

/// One token with any number of panels.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn stream(panels: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    let (masks, total) = (masks(), _mm512_set1_epi32(acts.rows[0].sum));
    let codes = acts.codes.as_chunks().0;
    let (steps, _) = panels.as_chunks().0.as_chunks();
    let out: &mut [Sums] = out.as_chunks_mut().0.as_chunks_mut().0;
    for (steps, out) in steps.chunks_exact(form.steps(k)).zip(out) {
        let mut acc = [[_mm512_setzero_si512(); 5]; TILES];
        ordered::two_bits(steps, codes, &masks, &mut acc);
        for (out, acc) in out.iter_mut().zip(acc) {
            store_i32(out, _mm512_sub_epi32(sum(acc), total));
        }
    }
}

/// The sum of all fields, each of which stands where it was multiplied. The fifth is in the fourth's place.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum(acc: ordered::Fields) -> __m512i {
    let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
    let top = _mm512_srai_epi32::<6>(_mm512_add_epi32(acc[3], acc[4]));
    _mm512_add_epi32(low, _mm512_add_epi32(_mm512_srai_epi32::<4>(acc[2]), top))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn several<const W: usize>(steps: &[Step], codes: &[i8], rows: &[RowScale], out: &mut [Sums]) {
    let mut acc = [[_mm512_setzero_si512(); TILES]; W];
    // Values of W tokens lie in words of four, field after field: [field][token].
    let fields = codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<4>().0;
    for (step, fields) in steps.iter().zip(fields) {
        let x = [load64(&step[0]), load64(&step[1])];
        prefetch(step, STREAM);
        prefetch(step, STREAM + 64);
        multiply::<W, 0>(&mut acc, &x, &fields[0]);
        multiply::<W, 2>(&mut acc, &x, &fields[1]);
        multiply::<W, 4>(&mut acc, &x, &fields[2]);
        multiply::<W, 6>(&mut acc, &x, &fields[3]);
    }
    for ((acc, row), out) in acc.iter().zip(rows).zip(out) {
        for (acc, out) in acc.iter().zip(out) {
            store_i32(out, _mm512_sub_epi32(*acc, _mm512_set1_epi32(row.sum)));
        }
    }
}

/// One field of every tile with its acts of every token.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn multiply<const W: usize, const SHIFT: u32>(
    acc: &mut [[__m512i; TILES]; W],
    x: &[__m512i; TILES],
    acts: &[[i8; 4]; W],
) {
    // Bits that a 16-bit shift brings in from the neighbour fall to the mask.
    let mask = _mm512_set1_epi8(3);
    let mut c = *x;
    for c in &mut c {
        *c = _mm512_and_si512(_mm512_srli_epi16::<SHIFT>(*c), mask);
    }
    for (acc, acts) in acc.iter_mut().zip(acts) {
        let acts = splat(acts);
        for (acc, c) in acc.iter_mut().zip(c) {
            *acc = _mm512_dpbusd_epi32(*acc, c, acts);
        }
    }
}
