//! What weights take, before and after they are loaded.

use super::{Config, LoadOptions, Model, convert::form_of, weights::Loader};
use crate::{
    error::Result,
    file::Gguf,
    kernels::{Form, Kernels},
    packed::PackedMatrix,
};

/// The form that a load will give all matrices.
pub(crate) fn planned_form(gguf: &Gguf, kernels: &Kernels) -> Form {
    Loader::form(gguf, kernels)
}

/// Bytes that will be mapped, and bytes of memory of their own, from the directory of a file.
pub(crate) fn planned_weights(
    gguf: &Gguf,
    config: &Config,
    kernels: &Kernels,
    load: &LoadOptions<'_>,
) -> (u64, u64) {
    if load.vocab_only {
        return (0, 0);
    }
    let form = planned_form(gguf, kernels);
    let (mut mapped, mut heap) = (0u64, 0u64);
    let maps = gguf.source().is_mapped();
    let mut place =
        |bytes: u64, can_map: bool| if can_map && maps { mapped += bytes } else { heap += bytes };
    for tensor in &gguf.tensors {
        let (rows, k) = (tensor.shape.rows() as usize, tensor.shape.columns() as usize);
        if tensor.dtype.is_ternary() {
            let panels = rows.div_ceil(form.rows());
            place((panels * form.panel_bytes(k)) as u64, form_of(tensor.dtype) == Some(form));
            place((panels * form.rows() * 4) as u64, false);
        } else if rows == config.n_vocab {
            place(tensor.bytes, true);
        } else {
            place(4 * tensor.shape.elements(), false);
        }
    }
    (mapped, heap)
}

impl Model {
    /// Bytes of the weights that are mapped, and bytes that are not.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidState`] for a model loaded for its vocabulary.
    pub fn weight_memory(&self) -> Result<(u64, u64)> {
        let weights = self.weights()?;
        let (mut mapped, mut heap) = (0, 0);
        let mut place = |bytes: usize, is_mapped: bool| {
            if is_mapped { mapped += bytes as u64 } else { heap += bytes as u64 }
        };
        for rows in [Some(&weights.embedding), weights.output.as_ref()].into_iter().flatten() {
            place(rows.len_bytes(), rows.is_mapped());
        }
        place(
            4 * (weights.output_norm.len() + weights.rope_factors.as_ref().map_or(0, Vec::len)),
            false,
        );
        let mut matrix = |matrix: &PackedMatrix| {
            place(matrix.bytes(), matrix.is_mapped());
            place(4 * matrix.panels() * matrix.form().rows(), false);
        };
        for layer in &weights.layers {
            [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down]
                .into_iter()
                .for_each(&mut matrix);
        }
        for layer in &weights.layers {
            let subs = [&layer.attn_sub_norm, &layer.ffn_sub_norm].into_iter().flatten();
            let norms = [&layer.attn_norm, &layer.ffn_norm].into_iter().chain(subs);
            heap += norms.map(|norm| 4 * norm.len() as u64).sum::<u64>();
        }
        Ok((mapped, heap))
    }
}
