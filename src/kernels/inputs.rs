//! Rows to the inputs of the products in one go, where a table has a loop for it.

use super::{Kernels, PAD, RowScale};

/// Rows that are to be normed and quantised, and lie side by side in the end.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[tokens][width]`
    pub rows: &'a [f32],
    /// Values of a row.
    pub width: usize,
    /// What a norm multiplies by; none without a norm.
    pub gain: Option<&'a [f32]>,
    /// What a norm adds to the mean square.
    pub eps: f32,
}

pub(super) type Make = unsafe fn(of: Inputs<'_>, codes: &mut [i8], scales: &mut [RowScale]);

impl Kernels {
    /// Whether [`inputs`](Self::inputs) are made of rows this long.
    #[must_use]
    pub fn makes_inputs(&self, width: usize) -> bool {
        self.inputs.is_some() && width.is_multiple_of(16)
    }

    /// [`rms_norm`](Self::rms_norm) and [`quantize`](Self::quantize) of one block of tokens, laid out as a block of
    /// [acts](self#acts-how-activations-lie) with padding. Gives whether that was done: a table may have no such loop, or not
    /// for every width.
    ///
    /// # Panics
    ///
    /// If a size does not fit the others.
    pub fn inputs(&self, of: Inputs<'_>, codes: &mut [i8], scales: &mut [RowScale]) -> bool {
        let tokens = scales.len();
        assert!(tokens > 0 && tokens <= self.layout.block, "tokens of a block");
        assert_eq!(of.rows.len(), tokens * of.width, "rows of a block");
        assert!(of.gain.is_none_or(|gain| gain.len() == of.width), "gains of a norm");
        assert_eq!(codes.len(), tokens * of.width.next_multiple_of(PAD), "codes of a block");
        let Some(inputs) = self.inputs.filter(|_| self.makes_inputs(of.width)) else {
            return false;
        };
        // SAFETY: as in `Kernels::dots`.
        unsafe { inputs(of, codes, scales) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::acts::{interleave_block, quantize_row};

    #[test]
    fn in_one_go_as_in_steps() {
        let mut rng = fastrand::Rng::with_seed(11);
        for table in Kernels::available() {
            for (width, eps) in [(16, 1e-5), (80, 1e-6), (2560, 1e-5), (6912, 1e-5), (100, 1e-5)] {
                for tokens in 1..=table.layout.block {
                    let mut rows: Vec<f32> =
                        (0..tokens * width).map(|_| rng.f32() * 8.0 - 4.0).collect();
                    rows[width / 2] = 1e9;
                    if tokens > 1 {
                        rows[width + 3] = f32::NAN;
                    }
                    let gain: Vec<f32> = (0..width).map(|_| rng.f32() + 0.5).collect();
                    for gain in [None, Some(&gain[..])] {
                        let stride = width.next_multiple_of(PAD);
                        let (mut codes, mut scales) =
                            (vec![1; tokens * stride], vec![RowScale::default(); tokens]);
                        let of = Inputs { rows: &rows, width, gain, eps };
                        let done = table.inputs(of, &mut codes, &mut scales);
                        assert_eq!(done, table.inputs.is_some() && width != 100);
                        assert_eq!(done, table.makes_inputs(width));
                        if !done {
                            continue;
                        }
                        let (mut want, mut apart) = (vec![0; codes.len()], vec![0; codes.len()]);
                        for (t, row) in rows.chunks(width).enumerate() {
                            let mut normed = row.to_vec();
                            if let Some(gain) = gain {
                                Kernels::scalar().rms_norm(row, gain, eps, &mut normed);
                            }
                            let place = &mut apart[t * stride..][..stride];
                            let scale = quantize_row(Kernels::scalar(), &normed, place);
                            assert_eq!(scale, scales[t], "{table:?}, {width}, {tokens} tokens");
                        }
                        interleave_block(&apart, tokens, table.layout.unit, &mut want);
                        assert!(codes == want, "{table:?}, {width} values, {tokens} tokens");
                    }
                }
            }
        }
    }
}
