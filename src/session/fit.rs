//! A conversation that must fit its context: what goes when there is no room.

use super::{Generation, OnFull, Said, Session, Turn};
use crate::{
    Cancel,
    context::Context,
    error::{Error, Result},
};

/// Tokens that the policies keep free for an answer when the host names no number, at most.
const ANSWER_ROOM: usize = 256;

impl Session {
    /// The prompt of a transcript, made to fit as the policy says. A failure changes nothing; `turns` may lose its oldest.
    pub(super) fn fit(
        &self,
        turns: &mut Vec<Turn>,
        max_tokens: usize,
        cancel: Option<&Cancel>,
    ) -> Result<Said> {
        let n_ctx = super::look(&self.context)?.options().n_ctx;
        let (text, tokens) = self.prompt(turns, true, cancel)?;
        let full = |wanted: usize| Error::ContextFull {
            wanted: wanted as u64,
            limit: n_ctx as u64,
            unit: "tokens",
        };
        let room = if max_tokens == 0 { ANSWER_ROOM } else { max_tokens }.min(n_ctx / 4).max(1);
        match self.on_full {
            OnFull::Error if tokens.len() > n_ctx => Err(full(tokens.len())),
            OnFull::Error => Ok(Said { text, tokens }),
            _ if tokens.len() + room <= n_ctx => Ok(Said { text, tokens }),
            OnFull::DropTurns => {
                let (mut text, mut tokens) = (text, tokens);
                while tokens.len() + room > n_ctx {
                    if !drop_oldest(turns) {
                        // Without a turn to drop the answer may still fit, only shorter.
                        return if tokens.len() <= n_ctx {
                            Ok(Said { text, tokens })
                        } else {
                            Err(full(tokens.len()))
                        };
                    }
                    (text, tokens) = self.prompt(turns, true, cancel)?;
                }
                Ok(Said { text, tokens })
            }
            OnFull::Shift => {
                let keep = self.kept(cancel)?;
                let most = n_ctx - room;
                if keep >= most {
                    return Err(full(tokens.len()));
                }
                let from = tokens.len() - (most - keep);
                let tokens = tokens[..keep].iter().chain(&tokens[from..]).copied().collect();
                // The tokens are no longer those of a text.
                Ok(Said { text: String::new(), tokens })
            }
        }
    }

    /// Tokens that a shift keeps: as many as asked for, or the instructions.
    fn kept(&self, cancel: Option<&Cancel>) -> Result<usize> {
        if self.n_keep > 0 {
            return Ok(self.n_keep);
        }
        match self.turns.first() {
            Some(turn) if turn.role == "system" => {
                Ok(self.prompt(&self.turns[..1], false, cancel)?.1.len())
            }
            _ => Ok(usize::from(self.model.tokenizer().adds_bos())),
        }
    }

    /// Drops the oldest turns in the middle of an answer.
    pub(super) fn drop_turns(
        &mut self,
        generation: &mut Generation,
        context: &Context,
    ) -> Result<bool> {
        let n_ctx = context.options().n_ctx;
        let mut turns = self.turns.clone();
        loop {
            if !drop_oldest(&mut turns) {
                return Ok(false);
            }
            let (text, tokens) = self.prompt(&turns, true, None)?;
            // A quarter of the context is worth computing the rest again.
            if tokens.len() + generation.produced.len() + n_ctx / 4 <= n_ctx {
                generation.prompt_text = text;
                generation.tokens = tokens;
                generation.tokens.extend_from_slice(&generation.produced);
                self.turns = turns;
                return Ok(true);
            }
        }
    }

    /// Drops half of what follows the kept tokens, and moves the rest down.
    pub(super) fn shift(&self, generation: &mut Generation, context: &mut Context) -> Result<bool> {
        let keep = self.kept(None)?;
        let len = context.tokens(0)?.len();
        let discard = len.saturating_sub(keep) / 2;
        if discard == 0 {
            return Ok(false);
        }
        context.shift(0, keep, discard)?;
        // Tokens that the cache does not hold yet follow what is left of those it does.
        let newest = generation.tokens.split_off(len.min(generation.tokens.len()));
        generation.tokens = context.tokens(0)?.iter().copied().chain(newest).collect();
        generation.prompt_text.clear();
        Ok(true)
    }
}

/// Drops the oldest message behind the instructions, up to the next question. `false` if only one is left.
fn drop_oldest(turns: &mut Vec<Turn>) -> bool {
    let first = usize::from(turns.first().is_some_and(|turn| turn.role == "system"));
    let next = turns.iter().skip(first + 1).position(|turn| turn.role == "user");
    match next {
        Some(next) => {
            turns.drain(first..first + 1 + next);
            true
        }
        None => false,
    }
}
