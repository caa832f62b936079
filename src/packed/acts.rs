//! Activations of some tokens, quantised and laid out for a table.

use crate::{
    error::{Result, try_zeroed},
    kernels::{Acts, ActsLayout, Kernels, PAD},
    ops::norm::RowScale,
};

/// A buffer for the quantised activations of up to `capacity` tokens.
#[derive(Debug, Default)]
pub struct ActsBuffer {
    codes: Vec<i8>,
    rows: Vec<RowScale>,
}

impl ActsBuffer {
    /// Room for `capacity` tokens of `k` values.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`].
    pub fn new(capacity: usize, k: usize) -> Result<Self> {
        Ok(Self {
            codes: try_zeroed(capacity * k.next_multiple_of(PAD), "quantised activations")?,
            rows: try_zeroed(capacity, "activation scales")?,
        })
    }

    /// The parts that [`acts`] reads and [`interleave`] writes: codes, and the scale of each row.
    pub fn parts(&mut self) -> (&mut [i8], &mut [RowScale]) {
        (&mut self.codes, &mut self.rows)
    }

    /// The first `tokens` rows of `k` values, as a kernel takes them.
    #[must_use]
    pub fn acts(&self, tokens: usize, k: usize, layout: ActsLayout) -> Acts<'_> {
        let stride = k.next_multiple_of(PAD);
        Acts { codes: &self.codes[..tokens * stride], rows: &self.rows[..tokens], stride, layout }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.rows.len() * size_of::<RowScale>()
    }
}

/// Lays the padded codes of one token (`stride` of them) at their places among `tokens` tokens.
pub fn interleave(
    row: &[i8],
    token: usize,
    tokens: usize,
    layout: ActsLayout,
    stride: usize,
    out: &mut [i8],
) {
    let width = layout.width(tokens);
    let first = token / width * width;
    let width = width.min(tokens - first);
    interleave_block(
        row,
        token - first,
        width,
        layout.unit,
        &mut out[first * stride..][..width * stride],
    );
}

/// The same within one block of `width` tokens, whose codes are `out`.
pub fn interleave_block(row: &[i8], token: usize, width: usize, unit: usize, out: &mut [i8]) {
    if width == 1 {
        out.copy_from_slice(row);
        return;
    }
    match unit {
        4 => scatter::<4>(row, token, width, out),
        8 => scatter::<8>(row, token, width, out),
        _ => unreachable!("a layout's unit is 4 or 8"),
    }
}

/// Every `width`-th unit from `token` on: of a known size, so that a copy is one move.
fn scatter<const UNIT: usize>(row: &[i8], token: usize, width: usize, out: &mut [i8]) {
    let (units, _) = out.as_chunks_mut::<UNIT>();
    for (out, unit) in units[token..].iter_mut().step_by(width).zip(row.as_chunks::<UNIT>().0) {
        *out = *unit;
    }
}

/// Quantises one row of `k` values into its padded codes, and the scale beside them.
pub fn quantize_row(kernels: &Kernels, x: &[f32], padded: &mut [i8]) -> RowScale {
    let (codes, pad) = padded.split_at_mut(x.len());
    pad.fill(0);
    kernels.quantize(x, codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_the_layout_says() {
        let (stride, tokens) = (16, 8);
        for layout in [
            ActsLayout { block: 1, unit: 4 },
            ActsLayout { block: 6, unit: 4 },
            ActsLayout { block: 3, unit: 8 },
        ] {
            let mut out = vec![0i8; tokens * stride];
            for token in 0..tokens {
                let row: Vec<i8> = (0..stride).map(|i| (token * 16 + i) as i8).collect();
                interleave(&row, token, tokens, layout, stride, &mut out);
            }
            for token in 0..tokens {
                let (width, unit) = (layout.width(tokens), layout.unit);
                let first = token / width * width;
                let width = width.min(tokens - first);
                for i in 0..stride {
                    let at = first * stride
                        + (i / unit) * width * unit
                        + (token - first) * unit
                        + i % unit;
                    assert_eq!(
                        out[at],
                        (token * 16 + i) as i8,
                        "{layout:?}, token {token}, value {i}"
                    );
                }
            }
        }
    }
}
