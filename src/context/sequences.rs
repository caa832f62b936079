//! Sequences: lengths, cuts, forks, and what is given back under memory pressure.

use super::{Context, cache::Sequence};
use crate::error::{Error, Result};
use std::{collections::HashSet, sync::Arc};

/// What a trim gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Buffers and kept rows.
    Scratch,
    /// The pages too: sequences keep their tokens, the next eval computes them again.
    Cache,
}

impl Context {
    pub(super) fn check_sequence(&self, sequence: usize) -> Result<()> {
        if sequence < self.sequences.len() {
            return Ok(());
        }
        let text =
            format!("sequence {sequence}: the context has {} (n_seq_max)", self.sequences.len());
        Err(Error::InvalidArgument(text.into()))
    }

    pub(super) fn distinct_pages(&self) -> usize {
        if let [only] = &self.sequences[..] {
            return only.pages.len();
        }
        let pages = self.sequences.iter().flat_map(|sequence| &sequence.pages);
        pages.map(Arc::as_ptr).collect::<HashSet<_>>().len()
    }

    /// The tokens of a sequence.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a sequence out of range; so do all functions here.
    pub fn tokens(&self, sequence: usize) -> Result<&[i32]> {
        self.check_sequence(sequence)?;
        Ok(&self.sequences[sequence].tokens)
    }

    /// Forgets the tokens from `len` on. A longer `len` than there are tokens changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`].
    pub fn truncate(&mut self, sequence: usize, len: usize) -> Result<()> {
        self.check_sequence(sequence)?;
        self.pending = None;
        self.epoch += 1;
        let width = self.model.config().n_embd;
        self.sequences[sequence].truncate(len, width);
        Ok(())
    }

    /// Forgets a sequence.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`].
    pub fn clear(&mut self, sequence: usize) -> Result<()> {
        self.check_sequence(sequence)?;
        self.pending = None;
        self.epoch += 1;
        self.sequences[sequence] = Sequence::default();
        Ok(())
    }

    /// Makes the empty sequence `to` equal to `from`. Pages are shared until one side writes to them.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] if `to` is not empty; [`Error::InvalidArgument`].
    pub fn fork(&mut self, from: usize, to: usize) -> Result<()> {
        self.check_sequence(from)?;
        self.check_sequence(to)?;
        if !self.sequences[to].tokens.is_empty() {
            return Err(Error::InvalidState(
                "the sequence to fork into is not empty: clear it first",
            ));
        }
        self.pending = None;
        self.epoch += 1;
        if from != to {
            self.sequences[to] = self.sequences[from].clone();
        }
        Ok(())
    }

    /// How many leading tokens of a sequence equal `tokens`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`].
    pub fn common_prefix(&self, sequence: usize, tokens: &[i32]) -> Result<usize> {
        Ok(self.tokens(sequence)?.iter().zip(tokens).take_while(|(a, b)| a == b).count())
    }

    /// Gives memory back; answers how many bytes.
    pub fn trim(&mut self, level: Trim) -> u64 {
        let before = self.cache_bytes() + self.scratch_bytes();
        self.pending = None;
        self.epoch += 1;
        self.scratch = None;
        self.states = Vec::new();
        self.evaluated = false;
        self.restored = None;
        self.head.release();
        for sequence in &mut self.sequences {
            match level {
                Trim::Scratch => sequence.pages.truncate(super::Geometry::pages(sequence.computed)),
                Trim::Cache => {
                    sequence.pages = Vec::new();
                    sequence.computed = 0;
                }
            }
        }
        before - (self.cache_bytes() + self.scratch_bytes())
    }
}
