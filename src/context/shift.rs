//! Dropping the middle of a sequence while keeping the cache of what follows.
//!
//! Keys are stored rotated to their positions; what moves down is rotated back by the
//! distance and rounded again. This is the one operation outside the determinism contract.

use super::{
    Context,
    cache::{Page, Sequence, store},
};
use crate::{
    error::{Error, Result},
    kernels::{BLOCK, KvBlock},
    ops::rope,
};
use std::sync::Arc;

impl Context {
    /// Keeps the first `n_keep` tokens, drops the next `n_discard`, and moves the rest down.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the sequence has fewer than `n_keep + n_discard` tokens; [`Error::OutOfMemory`].
    pub fn shift(&mut self, sequence: usize, n_keep: usize, n_discard: usize) -> Result<()> {
        let len = self.tokens(sequence)?.len();
        let Some(from) = n_keep.checked_add(n_discard).filter(|from| *from <= len) else {
            let text = format!("keep {n_keep}, discard {n_discard}: the sequence has {len} tokens");
            return Err(Error::InvalidArgument(text.into()));
        };
        if n_discard == 0 {
            return Ok(());
        }
        let old = &self.sequences[sequence];
        let width = self.model.config().n_embd;
        let mut moved = Sequence {
            tokens: old.tokens[..n_keep].iter().chain(&old.tokens[from..]).copied().collect(),
            pages: old.pages[..(n_keep / BLOCK).min(old.pages.len())].to_vec(),
            computed: old.computed.min(n_keep),
            states: Vec::new(),
        };
        if self.options.embeddings {
            moved.states = old.states[..n_keep * width]
                .iter()
                .chain(&old.states[from * width..])
                .copied()
                .collect();
        }
        // After a trim nothing is there to move: the rest is computed again at its new place.
        if old.computed == len {
            self.move_cache(old, &mut moved, n_keep, from)?;
        }
        self.pending = None;
        self.epoch += 1;
        self.states.clear();
        self.head.forget();
        self.evaluated = false;
        self.restored = None;
        self.sequences[sequence] = moved;
        Ok(())
    }

    fn move_cache(
        &self,
        old: &Sequence,
        moved: &mut Sequence,
        n_keep: usize,
        from: usize,
    ) -> Result<()> {
        let (geometry, config) = (self.geometry, self.model.config());
        let dim = geometry.head_dim;
        let mut back = vec![0.0; config.rope_dim];
        rope::angles((from - n_keep) as u32, &self.frequencies, &mut back);
        back[config.rope_dim / 2..].iter_mut().for_each(|sin| *sin = -*sin);
        let len = moved.tokens.len();
        let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
        for p in moved.pages.len()..len.div_ceil(BLOCK) {
            let mut page = Page::new(geometry)?;
            for position in p * BLOCK..len.min((p + 1) * BLOCK) {
                let source = if position < n_keep { position } else { position + from - n_keep };
                for layer in 0..geometry.layers {
                    for head in 0..geometry.kv_heads {
                        let block = old.pages[source / BLOCK].head(geometry, layer, head);
                        read(block, source % BLOCK, &mut key, &mut value);
                        if position >= n_keep {
                            rope::rotate(&mut key, dim, config.rope_pairs, &back);
                        }
                        let at = layer * geometry.layer_bytes() + head * geometry.head_bytes();
                        let region = &mut page.bytes_mut()[at..at + geometry.head_bytes()];
                        store(geometry, region, position % BLOCK, 1, |_| (&key, &value));
                    }
                }
            }
            moved.pages.push(Arc::new(page));
        }
        moved.computed = len;
        Ok(())
    }
}

/// The key and the value at one position of a block.
fn read(block: KvBlock<'_>, position: usize, key: &mut [f32], value: &mut [f32]) {
    let dim = key.len();
    match block {
        KvBlock::F16 { keys, values } => {
            for (d, key) in key.iter_mut().enumerate() {
                *key = keys[d * BLOCK + position].to_f32();
            }
            for (value, stored) in value.iter_mut().zip(&values[position * dim..]) {
                *value = stored.to_f32();
            }
        }
        KvBlock::I8 { keys, values, key_steps, value_steps } => {
            for (d, key) in key.iter_mut().enumerate() {
                *key = f32::from(keys[d * BLOCK + position]) * key_steps[position];
            }
            for (value, stored) in value.iter_mut().zip(&values[position * dim..]) {
                *value = f32::from(*stored) * value_steps[position];
            }
        }
    }
}
