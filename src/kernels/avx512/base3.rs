//! Ternary products of base-3 panels, decoded by table (VBMI).
//!
//! A byte is `85*c4 + v` with `v = 27*c3 + 9*c2 + 3*c1 + c0 <= 80`:
//!
//! ```text
//! avg(a, b) = (a + b + 1) >> 1
//! avg(byte, avg(byte, 0)) = 3/4 of the byte, so c4 stands in its top two bits:
//!     byte   0..80  ->   0..=60     85..165 ->  64..=124     170..250 -> 128..=188
//! v = byte - 85*c4, and 85*c4 is linear in the bits of c4: 01010101 for bit 0, 10101010 for bit 1 (GFNI)
//! fields of c0..c3 = table[v], 128 bytes in two registers (VBMI)
//! ```
//!
//! One token multiplies as in `dots`, masking in place; the fifth code and the
//! fourth field are both worth 64, and `|acc| <= 65536 * 2/5 * 128 * 127 < 2^29`.
//! Of several tokens the first block decodes as it multiplies: the pipes that
//! decode are not those that multiply, and lines are asked for at an even pace.
//! Further blocks multiply from what it left in the nearest cache, a stretch of
//! steps at a time.

use super::{
    STREAM, by_width, dots as two_bits, load_i32, load64, ordered, prefetch, splat, store_i32,
    store64,
};
use crate::kernels::{Acts, Code, Form};
use std::arch::x86_64::*;

/// Tiles of a panel.
const TILES: usize = 2;

/// Steps decoded at a time: 8 KiB, beside the acts of eight tokens.
const STRETCH: usize = 32;

/// One step of a panel.
type Step = [[u8; 64]; TILES];

/// The sums of one token.
type Sums = [[i32; 16]; TILES];

/// One tile of one step: four two-bit fields, and the fifth code.
#[derive(Clone, Copy)]
struct Decoded([u8; 64], [u8; 64]);

/// The two-bit fields of `v`, for the 81 values that occur: two registers of a table of 128 bytes.
static FIELDS: [[u8; 64]; 2] = {
    let mut fields = [[0; 64]; 2];
    let mut v = 0;
    while v < 128 {
        let codes = (v % 3) | ((v / 3 % 3) << 2) | ((v / 9 % 3) << 4) | ((v / 27 % 3) << 6);
        fields[v / 64][v % 64] = codes as u8;
        v += 1;
    }
    fields
};

/// Products of either form.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni")]
pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if form.code != Code::Base3 {
        return two_bits::dots(panel, form, k, acts, out);
    }
    if acts.tokens() == 1 {
        return stream(panel, form, k, acts, out);
    }
    let steps = panel.as_chunks().0.as_chunks().0;
    let out = out.as_chunks_mut().0.as_chunks_mut().0;
    for (out, row) in out.iter_mut().zip(acts.rows) {
        *out = [[-row.sum; 16]; TILES];
    }
    let mut blocks = acts.blocks();
    let Some((_, width, codes)) = blocks.next() else { return };
    if width == acts.tokens() {
        // A block alone leaves nothing behind, and keeps its sums in registers.
        return by_width!(width, first(steps, codes, &mut [], out));
    }
    let mut decoded = [[Decoded([0; 64], [0; 64]); TILES]; STRETCH];
    for (s, steps) in steps.chunks(STRETCH).enumerate() {
        let at = s * STRETCH * 20;
        by_width!(width, first(steps, &codes[at * width..], &mut decoded, out));
        let decoded = &decoded[..steps.len()];
        for (first, width, codes) in blocks.clone() {
            by_width!(width, several(decoded, &codes[at * width..], &mut out[first..]));
        }
    }
}

/// What decoding keeps in registers.
pub(super) struct Tables {
    pub(super) fields: [__m512i; 2],
    /// The bits of `c4 << 6` to `85 * c4`: bit 6 to 01010101, bit 7 to 10101010.
    pub(super) times_85: __m512i,
    pub(super) top: __m512i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self {
            fields: [load64(&FIELDS[0]), load64(&FIELDS[1])],
            times_85: _mm512_set1_epi64(0x4080_4080_4080_4080),
            top: _mm512_set1_epi8(0xc0u8 as i8),
        }
    }

    /// The two-bit fields of 64 bytes, and the fifth code in the top two bits of each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
    fn decode(&self, bytes: __m512i) -> (__m512i, __m512i) {
        let half = _mm512_avg_epu8(bytes, _mm512_setzero_si512());
        let fifth = _mm512_and_si512(_mm512_avg_epu8(bytes, half), self.top);
        let v = _mm512_sub_epi8(bytes, _mm512_gf2p8affine_epi64_epi8::<0>(fifth, self.times_85));
        (_mm512_permutex2var_epi8(self.fields[0], v, self.fields[1]), fifth)
    }
}

/// One token with any number of panels of either dense form.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni")]
pub(super) fn stream(panels: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    if form.code != Code::Base3 {
        return two_bits::stream(panels, form, k, acts, out);
    }
    let (tables, masks) = (Tables::new(), two_bits::masks());
    let total = _mm512_set1_epi32(acts.rows[0].sum);
    let (steps, _) = panels.as_chunks().0.as_chunks::<TILES>();
    let out: &mut [Sums] = out.as_chunks_mut().0.as_chunks_mut().0;
    for (steps, out) in steps.chunks_exact(form.steps(k)).zip(out) {
        let mut acc = [[_mm512_setzero_si512(); 5]; TILES];
        let (pairs, rest) = steps.as_chunks();
        ordered::base_3(pairs, acts.codes.as_chunks().0, &tables, &masks, &mut acc);
        if let [step] = rest {
            one_step(step, &acts.codes[40 * pairs.len()..], &tables, &masks, &mut acc);
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            store_i32(out, _mm512_sub_epi32(two_bits::sum(acc), total));
        }
    }
}

/// What [`ordered::base_3`] does, in the plainest order: for the last of an odd number of steps.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni")]
fn one_step(
    step: &Step,
    codes: &[i8],
    tables: &Tables,
    masks: &[__m512i; 4],
    sums: &mut [ordered::Fields; TILES],
) {
    let Some(acts) = codes.as_chunks::<4>().0.first_chunk::<5>() else { return };
    for (tile, acc) in step.iter().zip(sums) {
        let (x, fifth) = tables.decode(load64(tile));
        for f in 0..4 {
            let c = _mm512_and_si512(x, masks[f]);
            acc[f] = _mm512_dpbusd_epi32(acc[f], c, splat(&acts[f]));
        }
        acc[4] = _mm512_dpbusd_epi32(acc[4], fifth, splat(&acts[4]));
    }
}

/// A step decoded: the two-bit fields of both tiles, and the fifth code.
type Split = [[__m512i; TILES]; 2];

/// Decodes a step beside the products of several tokens. Its instructions go to pipes that do not multiply, all but
/// a part of the permute; [`Tables::decode`] is shorter, but GFNI shares the multipliers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn split(step: &Step) -> Split {
    let times_85 = _mm512_set1_epi32(0x00aa_5500);
    let table = [load64(&FIELDS[0]), load64(&FIELDS[1])];
    let mut split = [[_mm512_setzero_si512(); TILES]; 2];
    for (t, tile) in step.iter().enumerate() {
        let bytes = load64(tile);
        let fifth = _mm512_avg_epu8(bytes, _mm512_avg_epu8(bytes, _mm512_setzero_si512()));
        let fifth = _mm512_and_si512(_mm512_srli_epi16::<6>(fifth), _mm512_set1_epi8(3));
        let v = _mm512_sub_epi8(bytes, _mm512_shuffle_epi8(times_85, fifth));
        split[0][t] = _mm512_permutex2var_epi8(table[0], v, table[1]);
        split[1][t] = fifth;
    }
    split
}

/// The sums of W tokens, as they stand.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums<const W: usize>(out: &[Sums; W]) -> [[__m512i; TILES]; W] {
    let mut acc = [[_mm512_setzero_si512(); TILES]; W];
    for (acc, out) in acc.iter_mut().zip(out) {
        for (acc, out) in acc.iter_mut().zip(out) {
            *acc = load_i32(out);
        }
    }
    acc
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_sums<const W: usize>(acc: [[__m512i; TILES]; W], out: &mut [Sums; W]) {
    for (out, acc) in out.iter_mut().zip(acc) {
        for (out, acc) in out.iter_mut().zip(acc) {
            store_i32(out, acc);
        }
    }
}

/// Adds some steps to the sums of W tokens, and leaves them decoded as far as there is room.
///
/// A step is decoded within the products of the one before it, so that nobody waits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn first<const W: usize>(
    steps: &[Step],
    codes: &[i8],
    room: &mut [[Decoded; TILES]],
    out: &mut [Sums],
) {
    let (Some(out), Some(mut step)) = (out.first_chunk_mut::<W>(), steps.first()) else { return };
    let mut acc = load_sums(out);
    let mut room = room.iter_mut();
    let mut now = split(step);
    for (i, acts) in words(codes)[..steps.len()].iter().enumerate() {
        step = steps.get(i + 1).unwrap_or(step);
        prefetch(step, STREAM);
        prefetch(step, STREAM + 64);
        let [x, fifth] = now;
        if let Some(room) = room.next() {
            for (t, room) in room.iter_mut().enumerate() {
                store64(&mut room.0, x[t]);
                store64(&mut room.1, fifth[t]);
            }
        }
        two_bits::multiply::<W, 0>(&mut acc, &x, &acts[0]);
        now = split(step);
        multiply_rest(&mut acc, &x, &fifth, acts);
    }
    store_sums(acc, out);
}

/// Adds a decoded stretch of steps to the sums of W tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn several<const W: usize>(steps: &[[Decoded; TILES]], codes: &[i8], out: &mut [Sums]) {
    let Some(out) = out.first_chunk_mut::<W>() else { return };
    let mut acc = load_sums(out);
    for ([low, high], acts) in steps.iter().zip(words(codes)) {
        let x = [load64(&low.0), load64(&high.0)];
        two_bits::multiply::<W, 0>(&mut acc, &x, &acts[0]);
        multiply_rest(&mut acc, &x, &[load64(&low.1), load64(&high.1)], acts);
    }
    store_sums(acc, out);
}

/// Values of W tokens in words of four, step after step: `[field][token]`.
fn words<const W: usize>(codes: &[i8]) -> &[[[[i8; 4]; W]; 5]] {
    codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<5>().0
}

/// All fields but the first of every tile with their acts of every token.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_rest<const W: usize>(
    acc: &mut [[__m512i; TILES]; W],
    x: &[__m512i; TILES],
    fifth: &[__m512i; TILES],
    acts: &[[[i8; 4]; W]; 5],
) {
    two_bits::multiply::<W, 2>(acc, x, &acts[1]);
    two_bits::multiply::<W, 4>(acc, x, &acts[2]);
    two_bits::multiply::<W, 6>(acc, x, &acts[3]);
    for (acc, acts) in acc.iter_mut().zip(&acts[4]) {
        let acts = splat(acts);
        for (acc, fifth) in acc.iter_mut().zip(fifth) {
            *acc = _mm512_dpbusd_epi32(*acc, *fifth, acts);
        }
    }
}
