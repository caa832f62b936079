//! Building a chain: one checked `add_` per step.

use crate::error::{Error, Result};
use crate::sampler::Sampler;
use crate::sampler::edits::{Custom, Dry, LogitsFn, Penalties};
use crate::sampler::grammar::{Grammar, GrammarState};
use crate::sampler::steps::{Mirostat, Step};
use std::{ops::RangeInclusive, sync::Arc};

/// Steps, biases and grammars a sampler may hold: far above any use, so that a
/// host that adds in a loop is told rather than slowed down.
const STEPS_MAX: usize = 256;
const BIASES_MAX: usize = 1 << 20;
const GRAMMARS_MAX: usize = 8;

/// Refuses NaN and what lies outside `range`.
fn check(name: &str, value: f32, range: RangeInclusive<f32>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (from, to) = (range.start(), range.end());
    let wanted = match (*from == f32::MIN, *to == f32::MAX) {
        (true, true) => "a finite number".to_string(),
        (false, true) => format!("a finite number of at least {from}"),
        _ => format!("a number from {from} to {to}"),
    };
    Err(Error::InvalidArgument(format!("{name} is {value}, {wanted} is wanted").into()))
}

/// Refuses a negative length, with -1 for "all" where `all`.
fn check_length(name: &str, value: i32, all: bool) -> Result<()> {
    if value >= 0 || (all && value == -1) {
        return Ok(());
    }
    let wanted = if all { "0 or more, or -1 for the whole history," } else { "0 or more" };
    Err(Error::InvalidArgument(format!("{name} is {value}, {wanted} is wanted").into()))
}

/// Each `add_` appends a step, in the order of the calls. On error the chain
/// is as it was.
impl Sampler {
    fn push(&mut self, step: Step) -> Result<&mut Self> {
        if self.steps.len() >= STEPS_MAX {
            return Err(Error::InvalidArgument(
                format!("a chain holds at most {STEPS_MAX} steps").into(),
            ));
        }
        self.steps.push(step);
        Ok(self)
    }

    /// Adds to the logits of single tokens, before every step; minus infinity forbids.
    ///
    /// Biases of the same token add up. They work on the whole vocabulary,
    /// wherever the call stands among the others.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative token or a bias that is NaN. A token
    /// beyond the vocabulary is found when a row is sampled.
    pub fn add_logit_bias(&mut self, biases: &[(i32, f32)]) -> Result<&mut Self> {
        for &(token, bias) in biases {
            if token < 0 || bias.is_nan() {
                return Err(Error::InvalidArgument(
                    format!("logit bias {bias} for token {token}").into(),
                ));
            }
        }
        if self.bias.len() + biases.len() > BIASES_MAX {
            return Err(Error::InvalidArgument(
                format!("a sampler holds at most {BIASES_MAX} biases").into(),
            ));
        }
        self.bias.extend_from_slice(biases);
        Ok(self)
    }

    /// Makes tokens of the last `last_n` (0: off, -1: the whole history) less likely.
    ///
    /// A positive logit is divided by `repeat`, a negative one multiplied; then
    /// `freq` is taken off for each occurrence and `present` once. 1, 0, 0 is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] unless `repeat` is positive and all are finite.
    pub fn add_penalties(
        &mut self,
        last_n: i32,
        repeat: f32,
        freq: f32,
        present: f32,
    ) -> Result<&mut Self> {
        check_length("last_n", last_n, true)?;
        check("repeat", repeat, f32::MIN_POSITIVE..=f32::MAX)?;
        check("freq", freq, f32::MIN..=f32::MAX)?;
        check("present", present, f32::MIN..=f32::MAX)?;
        self.push(Step::Penalties(Penalties { last_n, repeat, freq, present }))
    }

    /// Makes tokens that continue a repetition less likely, the more the longer it is: see [`Dry`].
    ///
    /// The penalty is `multiplier * base ^ (length - allowed_length)`, for
    /// lengths from `allowed_length` on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative or non-finite parameter, an empty breaker or one of over 64 tokens.
    pub fn add_dry(&mut self, dry: Dry) -> Result<&mut Self> {
        check("multiplier", dry.multiplier, 0.0..=f32::MAX)?;
        check("base", dry.base, 0.0..=f32::MAX)?;
        check_length("allowed_length", dry.allowed_length, false)?;
        check_length("last_n", dry.last_n, true)?;
        if dry.breakers.iter().any(|b| b.is_empty() || b.len() > 64) || dry.breakers.len() > 4096 {
            return Err(Error::InvalidArgument(
                "a breaker has 1 to 64 tokens, and there are at most 4096".into(),
            ));
        }
        self.push(Step::Dry(dry))
    }

    /// Keeps the `k` best; 0 and below is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the chain is full.
    pub fn add_top_k(&mut self, k: i32) -> Result<&mut Self> {
        self.push(Step::TopK { k })
    }

    /// Keeps the best whose probabilities together reach `p`, at least `min_keep`; 1 and above is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative or non-finite `p`.
    pub fn add_top_p(&mut self, p: f32, min_keep: usize) -> Result<&mut Self> {
        check("p", p, 0.0..=f32::MAX)?;
        self.push(Step::TopP { p, min_keep })
    }

    /// Keeps what is at least `p` times as probable as the best, at least `min_keep`; 0 is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative or non-finite `p`.
    pub fn add_min_p(&mut self, p: f32, min_keep: usize) -> Result<&mut Self> {
        check("p", p, 0.0..=f32::MAX)?;
        self.push(Step::MinP { p, min_keep })
    }

    /// Keeps those nearest the expected surprise until they pass `p`, at least `min_keep`; 1 and above is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative or non-finite `p`.
    pub fn add_typical(&mut self, p: f32, min_keep: usize) -> Result<&mut Self> {
        check("p", p, 0.0..=f32::MAX)?;
        self.push(Step::Typical { p, min_keep })
    }

    /// Forbids logits more than `n` standard deviations below the best; 0 and below is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a non-finite `n`.
    pub fn add_top_n_sigma(&mut self, n: f32) -> Result<&mut Self> {
        check("n", n, f32::MIN..=f32::MAX)?;
        self.push(Step::TopNSigma { n })
    }

    /// With `probability`, drops all candidates of at least `threshold` but the least of them.
    ///
    /// Leaves at least `min_keep`; a threshold above one half is off.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] unless both lie in 0 to 1.
    pub fn add_xtc(
        &mut self,
        probability: f32,
        threshold: f32,
        min_keep: usize,
    ) -> Result<&mut Self> {
        check("probability", probability, 0.0..=1.0)?;
        check("threshold", threshold, 0.0..=1.0)?;
        self.push(Step::Xtc { probability, threshold, min_keep })
    }

    /// Divides logits by `t`; at 0 and below the best is taken.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a non-finite `t`.
    pub fn add_temp(&mut self, t: f32) -> Result<&mut Self> {
        check("t", t, f32::MIN..=f32::MAX)?;
        self.push(Step::Temp { t })
    }

    /// Temperature from `t - range` (not below 0) to `t + range`, by entropy: the
    /// share of its maximum, to the power `exponent`. A `range` of 0 is [`Self::add_temp`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative `range` or `exponent`, or a non-finite number.
    pub fn add_temp_dynamic(&mut self, t: f32, range: f32, exponent: f32) -> Result<&mut Self> {
        check("t", t, f32::MIN..=f32::MAX)?;
        check("range", range, 0.0..=f32::MAX)?;
        check("exponent", exponent, 0.0..=f32::MAX)?;
        self.push(Step::TempDynamic { t, range, exponent })
    }

    /// Mirostat 2: drops what would surprise by more than a bound, and moves the
    /// bound by `eta` after each choice so that the surprise stays near `tau` bits.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a negative or non-finite parameter.
    pub fn add_mirostat_v2(&mut self, tau: f32, eta: f32) -> Result<&mut Self> {
        check("tau", tau, 0.0..=f32::MAX)?;
        check("eta", eta, 0.0..=f32::MAX)?;
        self.push(Step::MirostatV2(Mirostat::new(tau, eta)))
    }

    /// Lets only tokens through that `grammar` allows, before every step.
    ///
    /// The mask works on the whole vocabulary, wherever the call stands among
    /// the others. With several grammars a token must suit all of them. The
    /// grammar begins at the next token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] beyond eight grammars, or for one of another vocabulary.
    pub fn add_grammar(&mut self, grammar: &Grammar) -> Result<&mut Self> {
        if self.grammars.len() >= GRAMMARS_MAX {
            return Err(Error::InvalidArgument(
                format!("a sampler holds at most {GRAMMARS_MAX} grammars").into(),
            ));
        }
        if let Some(other) = self.grammars.first()
            && other.vocab_len() != grammar.vocab_len()
        {
            return Err(Error::InvalidArgument(
                "the grammars of a sampler must be of one model".into(),
            ));
        }
        self.grammars.push(GrammarState::new(grammar));
        Ok(self)
    }

    /// Lets the host edit the logits, in its place in the chain.
    ///
    /// `apply` gets a whole row; tokens that earlier steps dropped are minus
    /// infinity there and stay dropped. It runs on the sampling thread. Clones
    /// of the sampler share it, and it is dropped with the last of them.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the chain is full.
    pub fn add_custom(&mut self, apply: Arc<LogitsFn>) -> Result<&mut Self> {
        self.push(Step::Custom(Custom(apply)))
    }
}
