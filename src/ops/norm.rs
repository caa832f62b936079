//! Root-mean-square norm, and rows of activations to int8.

use super::{Fma, dot};

/// `y = (x / rms(x)) * gain`, section 2.
#[inline(always)]
pub(crate) fn rms_norm<F: Fma>(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = 1.0 / (dot::<F>(x, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
        *out = (x * inverse) * gain;
    }
}

/// What a quantised row carries beside its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScale {
    /// What one step of a code is worth: `max|x| / 127`.
    pub step: f32,
    /// The sum of the codes.
    pub sum: i32,
}

/// One row to int8 under one scale, section 3.
#[inline(always)]
pub(crate) fn quantize(x: &[f32], codes: &mut [i8]) -> RowScale {
    let mut maxima = [1e-5f32; 16];
    let whole = x.len() - x.len() % 16;
    for x in x[..whole].chunks_exact(16) {
        for (max, x) in maxima.iter_mut().zip(x) {
            let x = x.abs();
            *max = if x > *max { x } else { *max };
        }
    }
    for x in &x[whole..] {
        let x = x.abs();
        maxima[0] = if x > maxima[0] { x } else { maxima[0] };
    }
    let max = maxima.iter().fold(1e-5f32, |max, x| if *x > max { *x } else { max });
    let scale = 127.0 / max;
    let mut sum = 0i32;
    for (code, x) in codes.iter_mut().zip(x) {
        // Adding and taking away 1.5 * 2^23 rounds half to even, as every CPU adds.
        const ROUND: f32 = 12_582_912.0;
        let scaled = (x * scale).clamp(-127.0, 127.0);
        let rounded = (scaled + ROUND) - ROUND;
        // NaN saturates to 0.
        *code = rounded as i8;
        sum += i32::from(*code);
    }
    RowScale { step: max / 127.0, sum }
}

/// `y = f32(dot) * (w * step)`, section 4, for each of some rows: `dots` is `[rows][weights]`, `out` `[rows][stride]`.
#[inline(always)]
pub(crate) fn rescale(
    dots: &[i32],
    weights: &[f32],
    rows: &[RowScale],
    stride: usize,
    out: &mut [f32],
) {
    let (weight_pieces, weight_rest) = weights.as_chunks::<16>();
    for ((out, dots), row) in out.chunks_mut(stride).zip(dots.chunks_exact(weights.len())).zip(rows)
    {
        // Pieces of a known size, of which the compiler makes wide steps.
        let (pieces, rest) = out[..weights.len()].as_chunks_mut::<16>();
        let (dot_pieces, dot_rest) = dots.as_chunks::<16>();
        for ((out, dots), weights) in pieces.iter_mut().zip(dot_pieces).zip(weight_pieces) {
            for ((out, dot), weight) in out.iter_mut().zip(dots).zip(weights) {
                *out = *dot as f32 * (weight * row.step);
            }
        }
        for ((out, dot), weight) in rest.iter_mut().zip(dot_rest).zip(weight_rest) {
            *out = *dot as f32 * (weight * row.step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even_and_keeps_the_sum() {
        let x = [127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.4999, 0.0];
        let mut codes = [0; 9];
        let row = quantize(&x, &mut codes);
        assert_eq!(codes, [127, -127, 0, 2, 2, 0, -2, 3, 0]);
        assert_eq!((row.step, row.sum), (1.0, 5));
    }

    #[test]
    fn tiny_rows_use_the_floor_and_strange_values_give_zero() {
        let mut codes = [9; 3];
        assert_eq!(quantize(&[1e-9, 0.0, -1e-9], &mut codes).step, 1e-5 / 127.0);
        assert_eq!(codes, [0; 3]);
        let row = quantize(&[f32::NAN, 2.0, -1.0], &mut codes);
        assert_eq!((codes, row.step), ([0, 127, -64], 2.0 / 127.0));
        assert!(quantize(&[f32::INFINITY, 1.0, 1.0], &mut codes).step.is_infinite());
        assert_eq!(codes, [0; 3]);
    }
}
