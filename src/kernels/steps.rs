//! The float steps between the products: their shapes are checked here, once a call.

use super::{Kernels, Pairs, PanelRows, Put, RowScale};

impl Kernels {
    /// `out = x / rms(x) * gain`.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn rms_norm(&self, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        assert!(x.len() == gain.len() && x.len() == out.len(), "lengths of a norm");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.rms_norm)(x, gain, eps, out) }
    }

    /// One row of activations to int8.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn quantize(&self, x: &[f32], codes: &mut [i8]) -> RowScale {
        assert_eq!(x.len(), codes.len(), "lengths of a row");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.quantize)(x, codes) }
    }

    /// `out[t][r] = dots[t][r] * (weights[r] * step of t)`: `dots` is `[rows][weights]`, `out` `[rows][stride]`, the last of
    /// which may end with its last value.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn rescale(
        &self,
        dots: &[i32],
        weights: &[f32],
        rows: &[RowScale],
        stride: usize,
        out: &mut [f32],
    ) {
        let n = weights.len();
        if n == 0 {
            return;
        }
        assert!(stride >= n && dots.len() == rows.len() * n, "lengths of a rescale");
        let least = rows.len().checked_sub(1).map_or(0, |last| last * stride + n);
        assert!(out.len() >= least && out.len() <= rows.len() * stride, "room of a rescale");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.rescale)(dots, weights, rows, stride, out) }
    }

    /// `out = relu(gate)^2 * up`.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn relu2_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len(), "lengths of a gate");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.relu2_mul)(gate, up, out) }
    }

    /// `out = silu(gate) * up`.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len(), "lengths of a gate");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.silu_mul)(gate, up, out) }
    }

    /// Rows of some tokens out of panels: rows `first` to `first + width` of as many tokens from `token` on as `out` has.
    ///
    /// # Panics
    ///
    /// If `width` is zero, or the panels have no such rows.
    pub fn gather(
        &self,
        of: PanelRows<'_>,
        (token, first): (usize, usize),
        put: Put,
        width: usize,
        out: &mut [f32],
    ) {
        let (count, panels) = (out.len() / width, (first + width).div_ceil(of.panel));
        assert!(token + count <= of.tokens, "tokens of a gather");
        assert!(panels * of.tokens * of.panel <= of.values.len(), "panels of a gather");
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.gather)(of, (token, first), put, width, out) }
    }

    /// Rotates each head of a row; `angles` is `[2][rotated / 2]`, cosines first.
    ///
    /// # Panics
    ///
    /// If the row is not whole heads, or more values rotate than a head has.
    pub fn rotate(&self, row: &mut [f32], head_dim: usize, pairs: Pairs, angles: &[f32]) {
        assert!(
            row.len().is_multiple_of(head_dim) && angles.len() <= head_dim,
            "shape of a rotation"
        );
        // SAFETY: as in `Kernels::dots`.
        unsafe { (self.rotate)(row, head_dim, pairs, angles) }
    }
}
