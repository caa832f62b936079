//! Logits → token: a seeded chain of steps ending in a choice.
//!
//! ```text
//! row of logits ─▶ bias ─▶ grammar ─▶ step 1 ─▶ … ─▶ step n ─▶ choice ─▶ accept
//!                  └ whole vocabulary ┘  └─ order of the adds ─┘
//! ```
//!
//! Bias and grammar work on the whole vocabulary before anything is dropped,
//! whatever the order of the calls that added them. The other steps run in the
//! order of their adds, with llama.h's meanings.
//!
//! **The choice.** The best token (the lowest id among equals) is taken if the
//! chain holds only steps that change scores: none at all, penalties, DRY,
//! custom ones. As soon as it holds one that speaks of probabilities or of how
//! many to keep, the choice is a seeded draw among what is left. A temperature
//! of 0 or below leaves only the best.
//!
//! **Same seed, same text**, on every system: the generator, `exp` and `ln`
//! are the room's own (`rng.rs`, `math.rs`), ties have an order and so have sums.
//! A choice with one candidate uses no random number.
//!
//! **Numbers.** NaN counts as minus infinity, plus infinity as the largest
//! number. A row without a number is [`Error::BadModel`].

mod candidates;
mod chain;
mod edits;
pub mod grammar;
mod history;
pub mod logprobs;
mod math;
mod rng;
mod screen;
mod steps;

pub use candidates::{Candidate, Candidates};
pub use edits::{Dry, LogitsFn};
pub use grammar::{Grammar, GrammarEnv, GrammarKind, GrammarState, VocabBytes};
pub use screen::Screen;

use crate::error::{Error, Result};
use edits::Scores;
use history::History;
use rng::Rng;
use steps::Step;

/// A chain of steps with its random state and the history they look at.
///
/// A clone continues exactly as the original would.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: u64,
    rng: Rng,
    steps: Vec<Step>,
    /// (token, bias), in the order of the adds.
    bias: Vec<(i32, f32)>,
    grammars: Vec<GrammarState>,
    history: History,
    logprob: f32,
    scratch: Scratch,
}

/// Buffers reused from call to call; a clone starts without.
#[derive(Debug, Default)]
struct Scratch {
    /// The row after bias, grammar and leading edits; `[n_vocab]`.
    row: Vec<f32>,
    list: Candidates,
    /// Ids whose logits the chain edits before it truncates.
    exact: Vec<i32>,
    /// What all grammars allow, a bit per token.
    allowed: Vec<u32>,
}

impl Clone for Scratch {
    fn clone(&self) -> Self {
        Scratch::default()
    }
}

/// A chosen token and its probability among the candidates.
struct Choice {
    token: i32,
    p: f64,
}

impl Sampler {
    /// An empty chain: takes the best token.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Sampler {
            seed,
            rng: Rng::new(seed),
            steps: Vec::new(),
            bias: Vec::new(),
            grammars: Vec::new(),
            history: History::default(),
            logprob: 0.0,
            scratch: Scratch::default(),
        }
    }

    /// What suits BitNet b1.58 2B4T: top-k 40, temperature 0.6, top-p 0.9.
    ///
    /// Temperature and top-p are those its authors publish; it begins with
    /// top-k so that the head can be screened.
    #[must_use]
    pub fn recommended(seed: u64) -> Self {
        let mut sampler = Sampler::new(seed);
        sampler.steps =
            vec![Step::TopK { k: 40 }, Step::Temp { t: 0.6 }, Step::TopP { p: 0.9, min_keep: 1 }];
        sampler
    }

    /// Chooses a token from a row of logits, `[n_vocab]`, and accepts it.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidArgument`]: the row is empty, or does not fit the biases or the grammar.
    /// - [`Error::BadModel`]: no logit of the row is a number above minus infinity.
    /// - [`Error::Grammar`]: bias, grammar and custom steps leave no token.
    ///
    /// After an error random state and history are as before.
    pub fn sample(&mut self, logits: &[f32]) -> Result<i32> {
        self.whole(|sampler| {
            sampler.check_row(logits)?;
            let rest = sampler.begin(logits)?;
            sampler.finish(rest)
        })
    }

    /// Runs `choose` and accepts its token; restores the random state on error.
    fn whole(&mut self, choose: impl FnOnce(&mut Self) -> Result<Choice>) -> Result<i32> {
        let rng = self.rng.clone();
        let result = choose(self).and_then(|choice| {
            self.accept(choice.token)?;
            self.logprob = math::ln(choice.p) as f32;
            for step in &mut self.steps {
                if let Step::MirostatV2(mirostat) = step {
                    mirostat.learn(-math::log2(choice.p));
                }
            }
            Ok(choice.token)
        });
        if result.is_err() {
            self.rng = rng;
        }
        result
    }

    fn check_row(&self, logits: &[f32]) -> Result<()> {
        if logits.is_empty() || i32::try_from(logits.len()).is_err() {
            return Err(Error::InvalidArgument(format!("a row of {} logits", logits.len()).into()));
        }
        self.check_vocab(logits.len())?;
        if logits.iter().all(|&logit| math::clean(logit) == f32::NEG_INFINITY) {
            return Err(Error::bad_model(
                "logits",
                format!("no logit of {} is a number", logits.len()),
            ));
        }
        Ok(())
    }

    /// Whether biases and grammars are of a vocabulary of `vocab_len` tokens.
    fn check_vocab(&self, vocab_len: usize) -> Result<()> {
        if let Some((token, _)) = self.bias.iter().find(|(token, _)| *token as usize >= vocab_len) {
            return Err(Error::InvalidArgument(
                format!("logit bias for token {token}, but there are {vocab_len} logits").into(),
            ));
        }
        if let Some(grammar) = self.grammars.iter().find(|grammar| grammar.vocab_len() != vocab_len)
        {
            return Err(Error::InvalidArgument(
                format!("a grammar over {} tokens, but {vocab_len} logits", grammar.vocab_len())
                    .into(),
            ));
        }
        Ok(())
    }

    /// The first step that is not an edit, which ends the whole-row part of the
    /// chain, and how many of the best tokens decide from there on.
    fn cut(&self) -> (usize, Option<usize>) {
        let cut = self.steps.iter().position(|step| !step.is_edit() && !step.is_off());
        match cut {
            Some(at) => (at, self.steps[at].reach()),
            // Only edits and steps that are off: greedy if no step asks for a draw.
            None if self.steps.iter().all(Step::is_edit) => (self.steps.len(), Some(1)),
            None => (self.steps.len(), None),
        }
    }

    /// Bias, grammar and leading edits on the whole row, then the list of
    /// candidates; returns where the chain goes on.
    fn begin(&mut self, logits: &[f32]) -> Result<usize> {
        let (cut, reach) = self.cut();
        let leading = &self.steps[..cut];
        let Scratch { row, list, .. } = &mut self.scratch;
        let edited = !self.bias.is_empty()
            || !self.grammars.is_empty()
            || leading.iter().any(|s| !s.is_off());
        if edited {
            row.clear();
            row.try_reserve(logits.len()).map_err(|_| Error::OutOfMemory {
                what: "a row of logits",
                bytes: 4 * logits.len() as u64,
            })?;
            row.extend(logits.iter().map(|&logit| math::clean(logit)));
            for &(token, bias) in &self.bias {
                let logit = &mut row[token as usize];
                *logit = math::clean(*logit + bias);
            }
            for grammar in &mut self.grammars {
                mask(row, grammar.mask()?);
            }
            for step in leading.iter().filter(|step| step.is_edit() && !step.is_off()) {
                step.edit(Scores::Row(row), &self.history)?;
            }
        }
        let row = if edited { row.as_slice() } else { logits };
        match reach {
            Some(k) => list.fill_best(row, k)?,
            None => list.fill_live(row)?,
        }
        Ok(cut)
    }

    /// Runs the steps from `from` on over the candidates, and chooses.
    fn finish(&mut self, from: usize) -> Result<Choice> {
        let list = &mut self.scratch.list;
        for step in &self.steps[from..] {
            step.apply(list, &self.history, &mut self.rng)?;
            list.drop_dead();
        }
        match list.as_slice() {
            [] => Err(Error::Grammar(
                "no token is left to choose after bias, grammar and custom steps".into(),
            )),
            [only] => Ok(Choice { token: only.id, p: 1.0 }),
            _ => {
                list.softmax();
                let chosen = list
                    .at(self.rng.unit())
                    .ok_or_else(|| Error::Panic("no candidate has a probability".into()))?;
                Ok(Choice { token: chosen.id, p: chosen.p })
            }
        }
    }

    /// Tells the steps of a token that was chosen elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative token; [`Error::Grammar`] for one that a
    /// grammar forbids. The sampler is then as it was.
    pub fn accept(&mut self, token: i32) -> Result<()> {
        if token < 0 {
            return Err(Error::InvalidArgument(format!("token {token}").into()));
        }
        for grammar in &mut self.grammars {
            grammar.check(token)?;
        }
        for grammar in &mut self.grammars {
            grammar.accept(token)?;
        }
        self.history.push(token);
        Ok(())
    }

    /// History, grammars and random state as they were when the sampler was made.
    pub fn reset(&mut self) {
        self.rng = Rng::new(self.seed);
        self.history.clear();
        self.logprob = 0.0;
        for grammar in &mut self.grammars {
            grammar.reset();
        }
        for step in &mut self.steps {
            if let Step::MirostatV2(mirostat) = step {
                *mirostat = steps::Mirostat::new(mirostat.tau, mirostat.eta);
            }
        }
    }

    /// Runs bias, grammar and steps over a list of candidates, without a choice.
    ///
    /// The candidates are those [`Self::sample`] would draw from, save that
    /// those at minus infinity stay. Probabilities are what the last step left.
    ///
    /// # Errors
    ///
    /// As [`Self::sample`]; the random state is as before, the candidates are not.
    pub fn apply(&mut self, candidates: &mut Candidates) -> Result<()> {
        self.check_vocab(candidates.vocab_len)?;
        let rng = self.rng.clone();
        let result = self.apply_parts(candidates);
        if result.is_err() {
            self.rng = rng;
        }
        result
    }

    fn apply_parts(&mut self, list: &mut Candidates) -> Result<()> {
        self.edit_list(list)?;
        self.steps.iter().try_for_each(|step| step.apply(list, &self.history, &mut self.rng))
    }

    /// Bias and grammar on a list of candidates.
    fn edit_list(&mut self, list: &mut Candidates) -> Result<()> {
        for &(token, bias) in &self.bias {
            for c in list.items.iter_mut().filter(|c| c.id == token) {
                c.logit = math::clean(c.logit + bias);
            }
        }
        for grammar in &mut self.grammars {
            let allowed = grammar.mask()?;
            for c in list.items.iter_mut().filter(|c| !is_allowed(allowed, c.id as usize)) {
                c.logit = f32::NEG_INFINITY;
            }
        }
        if !self.bias.is_empty() || !self.grammars.is_empty() {
            list.sorted = false;
        }
        Ok(())
    }

    /// Natural logarithm of the probability that the last sampled token had
    /// among the candidates it was drawn from; 0 before the first.
    #[must_use]
    pub fn logprob(&self) -> f32 {
        self.logprob
    }

    /// Tokens that the grammar leaves no choice about, from the next one on.
    ///
    /// They may be evaluated in one batch, without head or draw, and are then
    /// told to [`Self::accept`] one by one. Empty without a grammar, and where
    /// several grammars or a bias have a say.
    #[must_use]
    pub fn forced(&mut self) -> Vec<i32> {
        match &mut self.grammars[..] {
            [grammar] if self.bias.is_empty() => grammar.forced(),
            _ => Vec::new(),
        }
    }

    /// The grammars, in the order of their adds.
    #[must_use]
    pub fn grammars(&self) -> &[GrammarState] {
        &self.grammars
    }
}

/// Whether bit `token` of a mask is set; bits beyond its end are not.
fn is_allowed(mask: &[u32], token: usize) -> bool {
    mask.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
}

/// Sets the logits of forbidden tokens to minus infinity.
fn mask(row: &mut [f32], allowed: &[u32]) {
    for (i, chunk) in row.chunks_mut(32).enumerate() {
        let word = allowed.get(i).copied().unwrap_or(0);
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in chunk.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
