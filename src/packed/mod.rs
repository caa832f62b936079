//! Ternary weights in the one form kernels read, and activations beside them.
//!
//! `decode` turns any file encoding into codes, `pack` lays codes into panels
//! (drawn in [`crate::kernels`]), `acts` holds quantised activations.

pub(crate) mod acts;
pub(crate) mod buffer;
pub(crate) mod decode;
mod pack;

pub use decode::TernaryType;

use crate::{
    error::{Error, Result},
    kernels::{Acts, Form, Kernels, MAX_K},
};
use buffer::Bytes;

/// A matrix of trits, `rows x k`, in panels.
#[derive(Debug)]
pub struct PackedMatrix {
    form: Form,
    rows: usize,
    k: usize,
    /// Whole panels.
    codes: Bytes,
    /// One a row, padded with zeros to whole panels; if all are one, those of [`TOGETHER`] rows at most.
    scales: Vec<f32>,
}

/// Rows that take one scale out of the nearest cache, where each of its own would come from memory.
const TOGETHER: usize = 1024;

impl PackedMatrix {
    /// A matrix over panels that exist already, as a packed file holds them.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] if the sizes do not fit.
    pub(crate) fn from_panels(
        form: Form,
        rows: usize,
        k: usize,
        codes: Bytes,
        mut scales: Vec<f32>,
    ) -> Result<Self> {
        let panels = rows.div_ceil(form.rows());
        if k > MAX_K
            || !form.fits(k)
            || codes.len() != panels * form.panel_bytes(k)
            || scales.len() != rows
        {
            return Err(Error::bad_model(
                "packed matrix",
                format!("{rows} x {k} does not fit its panels"),
            ));
        }
        match scales.first().copied() {
            // Dots of the padding are zero, whatever their scale.
            Some(first) if scales.iter().all(|scale| scale.to_bits() == first.to_bits()) => {
                let together = (TOGETHER / form.rows()).clamp(1, panels);
                scales.resize(together * form.rows(), first);
                scales.fill(first);
                scales.shrink_to_fit();
            }
            _ => scales.resize(panels * form.rows(), 0.0),
        }
        Ok(Self { form, rows, k, codes, scales })
    }

    /// Multiplies every row's scale.
    pub(crate) fn scale_by(&mut self, factor: f32) {
        for scale in &mut self.scales {
            *scale *= factor;
        }
    }

    /// The arena is full: its bytes are there.
    pub(crate) fn settle(&mut self, arena: &std::sync::Arc<buffer::Pages>) {
        self.codes.settle(arena);
    }

    /// Output rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of a row.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// How the panels lie.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Panels, the last one padded.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(self.form.rows())
    }

    /// Panels of which [`panel_scales`](Self::panel_scales) has the scales at once.
    #[must_use]
    pub fn panels_together(&self) -> usize {
        self.scales.len() / self.form.rows()
    }

    /// Bytes of the scales.
    #[must_use]
    pub fn scale_bytes(&self) -> usize {
        4 * self.scales.len()
    }

    /// Bytes of the panels.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.codes.as_slice().len()
    }

    /// Whether the panels are a part of a mapped file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.codes.is_mapped()
    }

    /// The scale of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn scale(&self, row: usize) -> f32 {
        assert!(row < self.rows, "a row of the matrix");
        self.scales[if self.scales_differ() { row } else { 0 }]
    }

    /// The scale of each row.
    pub fn scales(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.rows).map(|row| self.scale(row))
    }

    /// Whether each row has a place among the scales: also if there are no more rows than share one.
    fn scales_differ(&self) -> bool {
        self.scales.len() >= self.rows
    }

    /// The bytes of one panel.
    #[must_use]
    pub fn panel(&self, panel: usize) -> &[u8] {
        let bytes = self.form.panel_bytes(self.k);
        &self.codes.as_slice()[panel * bytes..][..bytes]
    }

    /// The bytes of several panels in a row.
    #[must_use]
    pub fn panel_range(&self, panels: std::ops::Range<usize>) -> &[u8] {
        let bytes = self.form.panel_bytes(self.k);
        &self.codes.as_slice()[panels.start * bytes..panels.end * bytes]
    }

    /// The scales of the rows of several panels, padding included.
    ///
    /// # Panics
    ///
    /// If they are more than [`panels_together`](Self::panels_together).
    #[must_use]
    pub fn panel_scales(&self, panels: std::ops::Range<usize>) -> &[f32] {
        if !self.scales_differ() {
            return &self.scales[..panels.len() * self.form.rows()];
        }
        &self.scales[panels.start * self.form.rows()..panels.end * self.form.rows()]
    }

    /// `out[t][r] = weight row r . acts t`, exact, for the rows of some panels: `[tokens][rows of one panel]`, or of one
    /// token `[panels][rows]`.
    ///
    /// # Panics
    ///
    /// If several tokens ask for several panels.
    pub fn dots(
        &self,
        kernels: &Kernels,
        panels: std::ops::Range<usize>,
        acts: Acts<'_>,
        out: &mut [i32],
    ) {
        let bytes = self.panel_range(panels);
        match acts.tokens() {
            1 => kernels.stream(bytes, self.form, self.k, acts, out),
            _ => kernels.dots(bytes, self.form, self.k, acts, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Code;
    use buffer::Pages;

    /// One scale for all rows is held for some of them; whoever asks for the scales of panels sees no difference.
    #[test]
    fn one_scale_stands_for_each_rows_own() {
        let (k, form) = (64, Form { code: Code::Bits2, tiles: 2 });
        for rows in [1, 33, TOGETHER, TOGETHER + 32, 3 * TOGETHER + 5] {
            let panels = rows.div_ceil(form.rows());
            let matrix = |scales: Vec<f32>| {
                let codes = Pages::zeroed(panels * form.panel_bytes(k)).expect("small");
                PackedMatrix::from_panels(form, rows, k, Bytes::Owned(codes), scales).expect("fits")
            };
            let mut one = matrix(vec![0.75; rows]);
            let mut own: Vec<f32> = vec![0.75; rows];
            own[rows - 1] = 0.5;
            let mut each = matrix(own.clone());
            let held = TOGETHER.min(panels * form.rows());
            assert_eq!(one.scale_bytes(), 4 * held, "{rows} rows");
            assert_eq!(each.scale_bytes(), 4 * if rows == 1 { held } else { panels * 32 });
            one.scale_by(2.0);
            each.scale_by(2.0);
            assert!(one.scales().eq((0..rows).map(|_| 1.5)), "{rows} rows");
            assert!(each.scales().eq(own.iter().map(|scale| 2.0 * scale)), "{rows} rows");
            let together = one.panels_together();
            for first in (0..panels).step_by(together) {
                let panels = first..(first + together).min(panels);
                // Padding may have any scale: its dots are zero.
                let real = (panels.len() * 32).min(rows - first * 32);
                let (one, each) = (one.panel_scales(panels.clone()), each.panel_scales(panels));
                assert_eq!(one.len(), each.len());
                let last = first * 32 + real == rows;
                assert_eq!(one[..real - usize::from(last)], each[..real - usize::from(last)]);
                assert_eq!(one[real - 1].to_bits(), 1.5f32.to_bits());
            }
        }
    }
}
