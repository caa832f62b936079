//! Scores and bounds of the head's rows, sixteen at a time: the steps of `Split::from_nibbles` and the like in their order.

use super::{load_i32, load_ps, store_ps};
use crate::kernels::screen::{
    self, Basis, DEVIATIONS, Known, MOST_COARSE, RowBounds, RowSums, SPREAD, Split,
};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn limits(split: &Split, rows: RowSums<'_>, score: &mut [f32], upper: &mut [f32]) {
    let known = split.known(rows.basis);
    let (bounds, bounds_rest) = rows.bounds.as_chunks();
    let (sums, sums_rest) = rows.sums.as_chunks();
    let (scores, scores_rest) = score.as_chunks_mut();
    let (uppers, uppers_rest) = upper.as_chunks_mut();
    for (((bounds, sums), score), upper) in bounds.iter().zip(sums).zip(scores).zip(uppers) {
        let fields = Fields::new(bounds);
        let scores = fields.score(split, &known, sums);
        store_ps(score, scores);
        let bound = match rows.basis {
            Basis::Nibbles => fields.likely(split),
            Basis::BothTerms => fields.sure(split, (split.slack, MOST_COARSE), scores),
            Basis::FirstTerm => fields.sure(split, (split.slack_first, 0.0), scores),
        };
        store_ps(upper, above(scores, bound));
    }
    let rest = RowSums { bounds: bounds_rest, sums: sums_rest, basis: rows.basis };
    screen::limits(split, rest, scores_rest, uppers_rest);
}

/// The bounds of sixteen rows that these steps need, by field.
struct Fields {
    step: __m512,
    coarse: __m512,
    norm: __m512,
}

impl Fields {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn new(bounds: &[RowBounds; 16]) -> Self {
        let [a, b, c, d] = lines(bounds).each_ref().map(|line| load_ps(line));
        let field = |first: i32| {
            let row = |row: i32| 4 * (row % 4) + first + 16 * (row / 4);
            let (e, f, g, h) = (row(0), row(1), row(2), row(3));
            let (i, j, k, l) = (row(4), row(5), row(6), row(7));
            let places = _mm512_setr_epi32(e, f, g, h, i, j, k, l, e, f, g, h, i, j, k, l);
            let (low, high) =
                (_mm512_permutex2var_ps(a, places, b), _mm512_permutex2var_ps(c, places, d));
            _mm512_shuffle_f32x4::<0b01_00_01_00>(low, high)
        };
        Self { step: field(0), coarse: field(2), norm: field(3) }
    }

    /// `Split::score`: eight rows at a time in f64.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn score(&self, split: &Split, known: &Known, sums: &[[i32; 2]; 16]) -> __m512 {
        let (lines, _) = sums.as_flattened().as_chunks();
        let (a, b) = (load_i32(&lines[0]), load_i32(&lines[1]));
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let first = _mm512_permutex2var_epi32(a, even, b);
        let first = _mm512_mullo_epi32(first, _mm512_set1_epi32(known.worth));
        let second = _mm512_permutex2var_epi32(a, odd, b);
        let eight = |first: __m256i, second: __m256i, step: __m256| {
            let first = _mm512_sub_pd(_mm512_cvtepi32_pd(first), _mm512_set1_pd(known.offsets[0]));
            let second = _mm512_mul_pd(_mm512_set1_pd(16.0), _mm512_cvtepi32_pd(second));
            let second = _mm512_sub_pd(second, _mm512_set1_pd(known.offsets[1]));
            // A power of two: the product is the quotient.
            let second = _mm512_mul_pd(second, _mm512_set1_pd(1.0 / 256.0));
            let step = _mm512_mul_pd(_mm512_cvtps_pd(step), _mm512_set1_pd(split.step));
            _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_add_pd(first, second), step))
        };
        let low = eight(
            _mm512_castsi512_si256(first),
            _mm512_castsi512_si256(second),
            _mm512_castps512_ps256(self.step),
        );
        let high = eight(
            _mm512_extracti64x4_epi64::<1>(first),
            _mm512_extracti64x4_epi64::<1>(second),
            _mm512_extractf32x8_ps::<1>(self.step),
        );
        _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
    }

    /// `Split::bound` where the low pairs are not known.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn sure(&self, split: &Split, (slack, most): (f32, f32), score: __m512) -> __m512 {
        let rest = self.coarse;
        let bound = _mm512_add_ps(
            _mm512_mul_ps(_mm512_set1_ps(split.norm), rest),
            _mm512_mul_ps(_mm512_set1_ps(slack), _mm512_add_ps(self.norm, rest)),
        );
        let most = _mm512_mul_ps(
            _mm512_mul_ps(self.step, _mm512_set1_ps(split.cross)),
            _mm512_set1_ps(most),
        );
        let bound = _mm512_add_ps(bound, most);
        let rounded = _mm512_mul_ps(_mm512_abs_ps(score), _mm512_set1_ps(f32::EPSILON));
        let bound =
            _mm512_mul_ps(_mm512_add_ps(bound, rounded), _mm512_set1_ps(1.0 + f32::EPSILON * 32.0));
        _mm512_add_ps(bound, _mm512_set1_ps(1e-24))
    }

    /// The bound of `Split::likely`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn likely(&self, split: &Split) -> __m512 {
        let spread = _mm512_mul_ps(self.step, _mm512_set1_ps(SPREAD));
        let deviation = _mm512_mul_ps(spread, _mm512_set1_ps(split.norm));
        _mm512_mul_ps(_mm512_set1_ps(DEVIATIONS), deviation)
    }
}

/// Four rows a line.
fn lines(bounds: &[RowBounds; 16]) -> &[[f32; 16]; 4] {
    const { assert!(size_of::<RowBounds>() == 16) };
    // SAFETY: `RowBounds` is `repr(C)` of four f32, without padding, and asks for their alignment.
    unsafe { &*std::ptr::from_ref(bounds).cast() }
}

/// `screen::above`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn above(score: __m512, bound: __m512) -> __m512 {
    let sum = _mm512_add_ps(score, bound);
    let margin = _mm512_mul_ps(_mm512_abs_ps(sum), _mm512_set1_ps(2.0 * f32::EPSILON));
    // Infinities and NaN.
    let strange = _mm512_fpclass_ps_mask::<0b1001_1001>(score);
    _mm512_mask_mov_ps(_mm512_add_ps(sum, margin), strange, _mm512_set1_ps(f32::NAN))
}
