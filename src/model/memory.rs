//! What weights take, before and after they are loaded.

use super::{Config, Forms, LoadOptions, Model, convert::form_of, planes};
use crate::{error::Result, file::Gguf, packed::PackedMatrix};

/// Bytes that will be mapped, and bytes of memory of their own, from the directory of a file.
pub(crate) fn planned_weights(
    gguf: &Gguf,
    config: &Config,
    forms: Forms,
    load: &LoadOptions<'_>,
) -> (u64, u64) {
    if load.vocab_only {
        return (0, 0);
    }
    let (mut mapped, mut heap) = (0u64, 0u64);
    let maps = gguf.source().is_mapped();
    let mut place =
        |bytes: u64, can_map: bool| if can_map && maps { mapped += bytes } else { heap += bytes };
    for tensor in &gguf.tensors {
        let (rows, k) = (tensor.shape.rows() as usize, tensor.shape.columns() as usize);
        if tensor.dtype.is_ternary() {
            let form = forms.of(&tensor.name);
            let panels = rows.div_ceil(form.rows());
            place((panels * form.panel_bytes(k)) as u64, form_of(tensor.dtype) == Some(form));
            place((panels * form.rows() * 4) as u64, false);
        } else if tensor.name == planes::NAME {
            if planes::planned(gguf, rows, k, load.packing.screen).is_some() {
                place((rows * k) as u64, true);
            }
        } else if rows == config.n_vocab {
            place(tensor.bytes, true);
        } else if !tensor.name.ends_with(".scale") {
            // Scales are counted with their matrix.
            place(4 * tensor.shape.elements(), false);
        }
    }
    let (rows, k) = (config.n_vocab, config.n_embd);
    if let Some(brought) = planes::planned(gguf, rows, k, load.packing.screen) {
        // Planes that the file brings are counted with its tensors.
        let planes = if brought { 0 } else { rows * k };
        heap += (planes + planes::BOUNDS * rows) as u64;
    }
    (mapped, heap)
}

/// Whether a load will screen its head.
pub(crate) fn planned_screen(gguf: &Gguf, config: &Config, load: &LoadOptions<'_>) -> bool {
    planes::planned(gguf, config.n_vocab, config.n_embd, load.packing.screen).is_some()
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
        if let Some(planes) = &weights.planes {
            let (bytes, is_mapped) = planes.bytes();
            place(bytes, is_mapped);
            place(planes.bounds_bytes(), false);
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
