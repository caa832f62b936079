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
    /// One a row, padded with zeros to whole panels.
    scales: Vec<f32>,
}

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
        scales.resize(panels * form.rows(), 0.0);
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
        self.scales.len() / self.form.rows()
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

    /// The scale of each row.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.rows]
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
    #[must_use]
    pub fn panel_scales(&self, panels: std::ops::Range<usize>) -> &[f32] {
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
