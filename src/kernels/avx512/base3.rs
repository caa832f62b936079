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
//! Several tokens decode a stretch of steps once, into memory that stays in the
//! nearest cache, and multiply from there.

use super::{dots as two_bits, load_i32, load64, ordered, prefetch, splat, store_i32, store64};
use crate::kernels::{Acts, Code, Form};
use std::arch::x86_64::*;

/// How far ahead of itself the stream asks for lines.
pub(super) const AHEAD: usize = 6 << 10;

/// Tiles of a panel.
const TILES: usize = 2;

/// Steps decoded at a time: 8 KiB, beside the acts of six tokens.
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
    let mut decoded = [[Decoded([0; 64], [0; 64]); TILES]; STRETCH];
    for (s, steps) in steps.chunks(STRETCH).enumerate() {
        decode_stretch(steps, &mut decoded);
        let decoded = &decoded[..steps.len()];
        for (first, width, codes) in acts.blocks() {
            let codes = &codes[s * STRETCH * 20 * width..];
            let out = &mut out[first..][..width];
            match width {
                1 => several::<1>(decoded, codes, out),
                2 => several::<2>(decoded, codes, out),
                3 => several::<3>(decoded, codes, out),
                4 => several::<4>(decoded, codes, out),
                5 => several::<5>(decoded, codes, out),
                _ => several::<6>(decoded, codes, out),
            }
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
            acc[f] = _mm512_dpbusd_epi32(acc[f], c, splat(acts[f]));
        }
        acc[4] = _mm512_dpbusd_epi32(acc[4], fifth, splat(acts[4]));
    }
}

/// The fifth code, from the top bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn fifth_code(fifth: __m512i) -> __m512i {
    _mm512_and_si512(_mm512_srli_epi16::<6>(fifth), _mm512_set1_epi8(3))
}

/// Decodes some steps to where the products of several tokens read them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni")]
fn decode_stretch(steps: &[Step], decoded: &mut [[Decoded; TILES]; STRETCH]) {
    let tables = Tables::new();
    for (step, decoded) in steps.iter().zip(decoded) {
        for (tile, decoded) in step.iter().zip(decoded) {
            prefetch(tile, AHEAD);
            let (x, fifth) = tables.decode(load64(tile));
            store64(&mut decoded.0, x);
            store64(&mut decoded.1, fifth_code(fifth));
        }
    }
}

/// Adds a stretch of steps to the sums of W tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn several<const W: usize>(steps: &[[Decoded; TILES]], codes: &[i8], out: &mut [Sums]) {
    let Some(out) = out.first_chunk_mut::<W>() else { return };
    let mut acc = [[_mm512_setzero_si512(); TILES]; W];
    for (acc, out) in acc.iter_mut().zip(&mut *out) {
        for (acc, out) in acc.iter_mut().zip(out) {
            *acc = load_i32(out);
        }
    }
    // Values of W tokens lie in words of four, field after field: [field][token].
    let fields = codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<5>().0;
    for (step, fields) in steps.iter().zip(fields) {
        let x = [load64(&step[0].0), load64(&step[1].0)];
        two_bits::multiply::<W, 0>(&mut acc, &x, &fields[0]);
        two_bits::multiply::<W, 2>(&mut acc, &x, &fields[1]);
        two_bits::multiply::<W, 4>(&mut acc, &x, &fields[2]);
        two_bits::multiply::<W, 6>(&mut acc, &x, &fields[3]);
        for (acc, acts) in acc.iter_mut().zip(&fields[4]) {
            let acts = splat(*acts);
            for (acc, tile) in acc.iter_mut().zip(step) {
                *acc = _mm512_dpbusd_epi32(*acc, load64(&tile.1), acts);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        for (out, acc) in out.iter_mut().zip(acc) {
            store_i32(out, acc);
        }
    }
}
