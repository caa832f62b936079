//! What a model and a context will take, from the header of the file alone.

use super::{
    Context, ContextOptions,
    cache::Geometry,
    resolve,
    scratch::{Panels, Scratch},
    screening::Screening,
};
use crate::{
    error::Result,
    file::{Gguf, OpenOptions, Source},
    model::{Config, Forms, LoadOptions, planned_screen, planned_weights, select_kernels},
    text::Tokenizer,
    threads::performance_cores,
};
use std::{path::Path, sync::Arc};

/// Bytes, by where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Parts of the file that stay mapped: the system may drop and reread them.
    pub weights_mapped: u64,
    /// Packed weights, vectors and the vocabulary, in memory of their own.
    pub weights_heap: u64,
    /// Cache pages with every sequence full, or the cap.
    pub kv: u64,
    /// Buffers of a context: passes, one kept row, logits.
    pub scratch: u64,
}

impl MemoryPlan {
    /// Plans for a file, by reading its header.
    ///
    /// # Errors
    ///
    /// Those of a load that the header can show.
    pub fn for_file(
        path: impl AsRef<Path>,
        load: &LoadOptions<'_>,
        context: ContextOptions,
    ) -> Result<Self> {
        let open = OpenOptions { mmap: !load.no_mmap, ..OpenOptions::default() };
        let gguf = Gguf::parse(Arc::new(Source::open(path, open)?))?;
        let config = Config::from_gguf(&gguf)?;
        let kernels = select_kernels(load.kernels.as_deref())?;
        let forms = Forms::choose(&gguf, &config, kernels, load.packing)?;
        let (weights_mapped, weights_heap) = planned_weights(&gguf, &config, forms, load);
        let vocabulary = Tokenizer::heap_bytes(&gguf.metadata)?;
        let threads = context
            .pool
            .as_ref()
            .map_or_else(performance_cores, crate::threads::ThreadPool::threads);
        let options = resolve(context, &config)?;
        let geometry = Geometry {
            layers: config.n_layer,
            kv_heads: config.n_head_kv,
            head_dim: config.head_dim,
            kind: options.kv_type,
        };
        let full =
            (Geometry::pages(options.n_ctx) * options.n_seq_max * geometry.page_bytes()) as u64;
        let kv = if options.kv_bytes_max > 0 { full.min(options.kv_bytes_max) } else { full };
        let panels = Panels::of(forms);
        let passes = Scratch::planned_bytes(&config, panels, options.n_batch, threads, kernels);
        let passes = passes as u64;
        let bounds = if planned_screen(&gguf, &config, load) {
            Screening::planned_bytes(config.n_vocab, config.n_embd) as u64
        } else {
            0
        };
        let scratch = passes + bounds + 4 * (config.n_embd + config.n_vocab) as u64;
        Ok(Self { weights_mapped, weights_heap: weights_heap + vocabulary, kv, scratch })
    }
}

impl Context {
    /// What this context and its model take now, counted, in the terms of a plan.
    ///
    /// # Errors
    ///
    /// Those of the model's parts.
    pub fn memory(&self) -> Result<MemoryPlan> {
        let (weights_mapped, weights_heap) = self.model.weight_memory()?;
        let vocabulary = Tokenizer::heap_bytes(self.model.metadata())?;
        Ok(MemoryPlan {
            weights_mapped,
            weights_heap: weights_heap + vocabulary,
            kv: self.cache_bytes(),
            scratch: self.scratch_bytes(),
        })
    }
}
