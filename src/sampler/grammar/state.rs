//! One walk through a grammar.

use crate::error::{Error, Result};
use crate::sampler::grammar::Grammar;
use crate::sampler::grammar::message::{Lines, failure};
use llguidance::Matcher;
use llguidance::api::StopReason;
use std::fmt;

/// Where a text stands in its grammar, and which tokens may follow.
///
/// A clone walks on by itself. After an error other than a refused token the
/// state answers every call with that error until [`Self::reset`].
pub struct GrammarState {
    grammar: Grammar,
    matcher: Matcher,
    /// What may follow, a bit per token; empty until asked for.
    mask: Vec<u32>,
}

impl Clone for GrammarState {
    fn clone(&self) -> Self {
        // Deep, so that no two walks share tables: one that exhausts its
        // limits leaves the others alone, and threads never wait.
        GrammarState {
            grammar: self.grammar.clone(),
            matcher: self.matcher.deep_clone(),
            mask: self.mask.clone(),
        }
    }
}

impl fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarState").field("grammar", &self.grammar).finish_non_exhaustive()
    }
}

impl GrammarState {
    /// At the start of `grammar`.
    #[must_use]
    pub fn new(grammar: &Grammar) -> Self {
        GrammarState { grammar: grammar.clone(), matcher: grammar.start(), mask: Vec::new() }
    }

    /// Tokens of the vocabulary.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.grammar.vocab_len()
    }

    /// Back to the start of the grammar.
    pub fn reset(&mut self) {
        self.matcher = self.grammar.start();
        self.mask.clear();
    }

    /// The tokens that may follow: token `i` in bit `i % 32` of word `i / 32`.
    ///
    /// Never empty. Once the text is complete only the tokens that end a
    /// generation are in it. Where the grammar forces a text and the model's
    /// tokenizer is known, it holds the one token of its tokenization.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`] if no token fits or a limit is reached.
    pub fn mask(&mut self) -> Result<&[u32]> {
        if self.mask.is_empty() {
            let mask = self.matcher.compute_mask_or_eos().map_err(fail)?;
            self.mask = mask.as_slice().to_vec();
        }
        Ok(&self.mask)
    }

    /// Refuses a token that the grammar does not allow next; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`].
    pub fn check(&mut self, token: i32) -> Result<()> {
        let outside = usize::try_from(token).map_or(true, |id| id >= self.vocab_len());
        let allowed = if outside {
            false
        } else if self.grammar.env().is_eog(token) && self.is_accepting()? {
            true
        } else {
            !self.is_finished()?
                && self.matcher.validate_tokens(&[token as u32]).map_err(fail)? == 1
        };
        if allowed {
            Ok(())
        } else {
            Err(Error::Grammar(format!("token {token} is not allowed here")))
        }
    }

    /// Takes a token that follows.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`] for one that is not allowed: nothing changes then.
    pub fn accept(&mut self, token: i32) -> Result<()> {
        self.check(token)?;
        // After the end, more ends change nothing.
        if self.is_finished()? {
            return Ok(());
        }
        self.mask.clear();
        self.matcher.consume_token(token as u32).map_err(fail)
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`] if the state has failed.
    pub fn is_accepting(&mut self) -> Result<bool> {
        Ok(self.is_finished()? || self.matcher.is_accepting().map_err(fail)?)
    }

    /// Whether nothing but the end can follow.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`] if the state has failed.
    pub fn is_finished(&self) -> Result<bool> {
        match (self.matcher.get_error(), self.matcher.stop_reason()) {
            (Some(error), _) => Err(failure(&error, &Lines::None)),
            (None, StopReason::NotStopped) => Ok(false),
            (None, _) => Ok(true),
        }
    }

    /// The tokens that must follow whatever is chosen: a run, possibly empty.
    ///
    /// Always empty if the model's tokenizer is not known. Nothing is accepted.
    #[must_use]
    pub fn forced(&mut self) -> Vec<i32> {
        if !matches!(self.is_finished(), Ok(false)) {
            return Vec::new();
        }
        self.matcher.compute_ff_tokens().into_iter().map(|id| id as i32).collect()
    }
}

fn fail(error: impl fmt::Display) -> Error {
    failure(&error, &Lines::None)
}
