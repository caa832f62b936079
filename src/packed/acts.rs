//! Activations of some tokens, quantised and laid out for a table.

use crate::{
    error::{Result, try_zeroed},
    kernels::{Acts, ActsLayout, Kernels, PAD},
    ops::norm::RowScale,
    tensor::Lines,
};

/// A buffer for the quantised activations of up to `capacity` tokens.
#[derive(Debug, Default)]
pub struct ActsBuffer {
    codes: Lines<i8>,
    rows: Vec<RowScale>,
    /// The codes of a few tokens before they lie side by side, `[token][stride]`.
    apart: Lines<i8>,
}

impl ActsBuffer {
    /// Room for `capacity` tokens of `k` values, `apart` of which may be quantised before they lie side by side.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`].
    pub fn new(capacity: usize, apart: usize, k: usize) -> Result<Self> {
        Ok(Self {
            codes: Lines::zeroed(capacity * k.next_multiple_of(PAD), "quantised activations")?,
            rows: try_zeroed(capacity, "activation scales")?,
            apart: Lines::zeroed(apart * k.next_multiple_of(PAD), "quantised activations")?,
        })
    }

    /// The parts that [`acts`](Self::acts) reads and [`interleave_block`] writes, codes and the scale of each row, and room for
    /// codes apart.
    pub fn parts(&mut self) -> (&mut [i8], &mut [RowScale], &mut [i8]) {
        (&mut self.codes, &mut self.rows, &mut self.apart)
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
        self.codes.len() + self.apart.len() + self.rows.len() * size_of::<RowScale>()
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
    let (width, unit) = (layout.width(tokens), layout.unit);
    let first = token / width * width;
    let width = width.min(tokens - first);
    let places = out[first * stride..][..width * stride].chunks_exact_mut(unit);
    for (place, values) in places.skip(token - first).step_by(width).zip(row.chunks_exact(unit)) {
        place.copy_from_slice(values);
    }
}

/// The same for all `width` tokens of one block at once, `[token][stride]`.
pub fn interleave_block(rows: &[i8], width: usize, unit: usize, out: &mut [i8]) {
    match unit {
        4 => by_units::<4>(rows, width, out),
        8 => by_units::<8>(rows, width, out),
        _ => unreachable!("a layout's unit is 4 or 8"),
    }
}

/// Unit by unit, each of every token: what is written lies together. Widths and units are known sizes here, so that
/// a copy is one move.
fn by_units<const UNIT: usize>(rows: &[i8], width: usize, out: &mut [i8]) {
    match width {
        1 => out.copy_from_slice(rows),
        2 => side_by_side::<UNIT, 2>(rows, out),
        3 => side_by_side::<UNIT, 3>(rows, out),
        4 => side_by_side::<UNIT, 4>(rows, out),
        5 => side_by_side::<UNIT, 5>(rows, out),
        6 => side_by_side::<UNIT, 6>(rows, out),
        7 => side_by_side::<UNIT, 7>(rows, out),
        8 => side_by_side::<UNIT, 8>(rows, out),
        _ => unreachable!("a block has up to eight tokens"),
    }
}

fn side_by_side<const UNIT: usize, const WIDTH: usize>(rows: &[i8], out: &mut [i8]) {
    let units = out.as_chunks_mut::<UNIT>().0.as_chunks_mut::<WIDTH>().0;
    let row: [&[[i8; UNIT]]; WIDTH] = std::array::from_fn(|t| {
        let row = rows[rows.len() / WIDTH * t..].as_chunks().0;
        &row[..units.len()]
    });
    for (i, out) in units.iter_mut().enumerate() {
        // Each to its place: an array of them would be built somewhere else first.
        for (out, row) in out.iter_mut().zip(row) {
            *out = row[i];
        }
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
            let rows: Vec<i8> = (0..tokens * stride).map(|i| i as i8).collect();
            let mut out = vec![0i8; tokens * stride];
            for (token, row) in rows.chunks(stride).enumerate() {
                interleave(row, token, tokens, layout, stride, &mut out);
            }
            let mut whole = vec![0i8; tokens * stride];
            let block = layout.width(tokens) * stride;
            for (rows, out) in rows.chunks(block).zip(whole.chunks_mut(block)) {
                interleave_block(rows, rows.len() / stride, layout.unit, out);
            }
            assert_eq!(whole, out, "{layout:?}");
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
