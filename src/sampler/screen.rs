//! Which logits a chain needs: the hint that lets a head compute few of them exactly.

use crate::error::{Error, Result};
use crate::sampler::edits::Scores;
use crate::sampler::{Sampler, Scratch, steps::Step};

/// More logits than this and a full row is as cheap.
const SCREEN_MAX: usize = 1024;

/// The logits that decide the next choice: [`Sampler::screen`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Screen<'a> {
    /// How many of the best allowed tokens are needed, by raw logit; among
    /// equals the lower id is the better, NaN counts as minus infinity.
    pub k: usize,
    /// Ids whose logits are needed besides, wherever they rank: those the chain
    /// edits. In order, each once; allowed or not.
    pub exact: &'a [i32],
    /// A bit per token, token `i` in bit `i % 32` of word `i / 32`: what the
    /// grammars allow. `None`: every token.
    pub allowed: Option<&'a [u32]>,
}

impl Sampler {
    /// Whether the next choice depends on few logits only, and on which.
    ///
    /// `Some` for a chain that takes the best token, and for one whose first
    /// truncating step is top-k (or a temperature of 0 or below), after bias,
    /// grammar, penalties and DRY. A bias or penalty changes few tokens: as
    /// many more of the best are asked for, and the changed ones by id. `None`
    /// for everything else: custom steps there, or over a thousand logits.
    ///
    /// The logits asked for go to [`Self::sample_screened`].
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`] if a grammar has failed.
    pub fn screen(&mut self) -> Result<Option<Screen<'_>>> {
        let (cut, reach) = self.cut();
        let Some(k) = reach else { return Ok(None) };
        let Scratch { exact, allowed, .. } = &mut self.scratch;
        exact.clear();
        exact.extend(self.bias.iter().map(|(token, _)| *token));
        for step in self.steps[..cut].iter().filter(|step| !step.is_off()) {
            match step {
                Step::Penalties(penalties) => {
                    exact.extend(penalties.counts(&self.history).iter().map(|e| e.0))
                }
                Step::Dry(dry) => exact.extend(dry.penalties(&self.history).iter().map(|e| e.0)),
                Step::Custom(_) => return Ok(None),
                _ => {}
            }
        }
        exact.sort_unstable();
        exact.dedup();
        // The edited tokens may all fall behind: then k others follow them.
        let k = k.saturating_add(exact.len());
        if k > SCREEN_MAX {
            return Ok(None);
        }
        allowed.clear();
        for grammar in &mut self.grammars {
            let mask = grammar.mask()?;
            if allowed.is_empty() {
                allowed.extend_from_slice(mask);
            } else {
                allowed.iter_mut().zip(mask).for_each(|(word, mask)| *word &= mask);
            }
        }
        let allowed = (!self.grammars.is_empty()).then_some(&allowed[..]);
        Ok(Some(Screen { k, exact, allowed }))
    }

    /// As [`Self::sample`], from the logits that [`Self::screen`] asked for.
    ///
    /// `top` holds (id, logit) of at least those, in any order, each id once or
    /// more with the same logit; `vocab_len` is the length of the whole row.
    /// `None`: nothing was chosen, and [`Self::sample`] on the whole row has to
    /// say why, or knows better.
    ///
    /// # Errors
    ///
    /// As [`Self::sample`]; [`Error::InvalidArgument`] for an id outside the vocabulary.
    pub fn sample_screened(&mut self, top: &[(i32, f32)], vocab_len: usize) -> Result<Option<i32>> {
        if let Some((id, _)) =
            top.iter().find(|(id, _)| usize::try_from(*id).map_or(true, |id| id >= vocab_len))
        {
            return Err(Error::InvalidArgument(format!("token {id} among {vocab_len}").into()));
        }
        self.check_vocab(vocab_len)?;
        let (cut, Some(k)) = self.cut() else { return Ok(None) };
        let mut list = std::mem::take(&mut self.scratch.list);
        let prepared = list.fill_given(top, vocab_len).and_then(|()| {
            self.edit_list(&mut list)?;
            let edits = self.steps[..cut].iter().filter(|step| step.is_edit() && !step.is_off());
            edits.into_iter().try_for_each(|step| step.edit(Scores::List(&mut list), &self.history))
        });
        list.drop_dead();
        list.keep_best(k);
        let empty = list.as_slice().is_empty();
        self.scratch.list = list;
        prepared?;
        if empty {
            return Ok(None);
        }
        self.whole(|sampler| sampler.finish(cut)).map(Some)
    }
}
