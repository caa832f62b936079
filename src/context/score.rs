//! What a sequence makes of text: log-probabilities, choices, embeddings. The sequence stays as it was.

use super::{Context, EvalOptions, Item, Pooling, Status, Want, eval::Poll};
use crate::{
    Cancel,
    error::{Error, Result},
    ops::{self, Software},
    sampler::logprobs::log_softmax_at,
};

/// Choices evaluated in one batch: each costs a copy of one page.
const CHOICES_AT_ONCE: usize = 8;

/// How likely each of some texts is, and the likeliest.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The likeliest, the first of equals.
    pub index: usize,
    /// Probabilities, normalised over the choices.
    pub probabilities: Vec<f32>,
}

impl Context {
    /// Runs `f` with copies of one sequence at the end of the list; they and the rows of `f` are gone afterwards.
    fn aside<R>(
        &mut self,
        sequence: usize,
        copies: usize,
        f: impl FnOnce(&mut Self, usize) -> Result<R>,
    ) -> Result<R> {
        self.check_sequence(sequence)?;
        self.pending = None;
        let first = self.sequences.len();
        let copy = self.sequences[sequence].clone();
        self.sequences.resize(first + copies, copy);
        let rows = std::mem::take(&mut self.states);
        let (evaluated, epoch) = (self.evaluated, self.epoch);
        let result = f(self, first);
        self.sequences.truncate(first);
        self.pending = None;
        self.head.forget();
        self.states = rows;
        self.evaluated = evaluated;
        self.epoch = epoch;
        result
    }

    /// Computes the last row of a loaded sequence, which was saved without it.
    pub(super) fn refresh(&mut self, sequence: usize) -> Result<()> {
        let last = self.sequences[sequence]
            .tokens
            .last()
            .copied()
            .ok_or(Error::InvalidState("nothing was loaded"))?;
        let mut state = Vec::new();
        self.aside(sequence, 1, |context, copy| {
            let len = context.sequences[copy].tokens.len();
            let width = context.model.config().n_embd;
            context.sequences[copy].truncate(len - 1, width);
            context.eval(&[last], EvalOptions { sequence: copy, ..EvalOptions::default() })?;
            state = std::mem::take(&mut context.states);
            Ok(())
        })?;
        self.states = state;
        self.evaluated = true;
        self.restored = None;
        Ok(())
    }

    /// Row `i` of the last eval, unless `cancel` is raised on the way through the vocabulary.
    fn logits_unless(&mut self, i: usize, cancel: Option<&Cancel>) -> Result<&[f32]> {
        match self.logits_within(i, &mut Poll::new(None, cancel))? {
            None => self.logits(i),
            Some(_) => Err(Error::Cancelled),
        }
    }

    /// Log-probabilities of `tokens` as the continuation of a sequence: one each, but none for the first token of
    /// an empty sequence.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`], and those of [`Context::eval`].
    pub fn score(
        &mut self,
        sequence: usize,
        tokens: &[i32],
        cancel: Option<&Cancel>,
    ) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return self.check_sequence(sequence).map(|()| Vec::new());
        }
        self.aside(sequence, 1, |context, copy| {
            let (input, scored) = context.scoring_input(copy, tokens);
            let options =
                EvalOptions { sequence: copy, want: Want::All, cancel, ..EvalOptions::default() };
            if context.eval(&input, options)?.status != Status::Done {
                return Err(Error::Cancelled);
            }
            let mut out = Vec::with_capacity(scored.len());
            for (row, token) in scored.iter().enumerate() {
                out.push(log_softmax_at(context.logits_unless(row, cancel)?, *token)?);
            }
            Ok(out)
        })
    }

    /// Takes the last token of a copy back, so that its row can be had; answers what to evaluate and what to score.
    fn scoring_input<'t>(&mut self, copy: usize, tokens: &'t [i32]) -> (Vec<i32>, &'t [i32]) {
        let width = self.model.config().n_embd;
        let sequence = &mut self.sequences[copy];
        match sequence.tokens.last().copied() {
            Some(last) => {
                let len = sequence.tokens.len();
                sequence.truncate(len - 1, width);
                let input = std::iter::once(last)
                    .chain(tokens[..tokens.len() - 1].iter().copied())
                    .collect();
                (input, tokens)
            }
            None => (tokens[..tokens.len() - 1].to_vec(), &tokens[1..]),
        }
    }

    /// Which of some texts continues a sequence. Each is tokenized by itself, without special tokens; its weight is
    /// the product of its tokens' probabilities.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] for an empty sequence, [`Error::InvalidArgument`] for no choices or an empty one,
    /// [`Error::Cancelled`], and those of [`Context::eval`].
    pub fn choose(
        &mut self,
        sequence: usize,
        choices: &[&str],
        cancel: Option<&Cancel>,
    ) -> Result<Choice> {
        if self.tokens(sequence)?.is_empty() {
            return Err(Error::InvalidState("an empty sequence has no continuation: eval first"));
        }
        if choices.is_empty() {
            return Err(Error::InvalidArgument("no choices".into()));
        }
        let model = self.model.clone();
        let tokenizer = model.tokenizer();
        let mut tokens = Vec::with_capacity(choices.len());
        for (i, choice) in choices.iter().enumerate() {
            let ids = tokenizer.encode(choice, false, false, cancel)?;
            if ids.is_empty() {
                return Err(Error::InvalidArgument(format!("choice {i} is empty").into()));
            }
            tokens.push(ids);
        }
        let mut weights: Vec<f64> = Vec::with_capacity(choices.len());
        self.aside(sequence, 1, |context, copy| {
            let (last, _) = context.scoring_input(copy, &[0]);
            let options = EvalOptions { sequence: copy, cancel, ..EvalOptions::default() };
            if context.eval(&last, options)?.status != Status::Done {
                return Err(Error::Cancelled);
            }
            let logits = context.logits_unless(0, cancel)?;
            for ids in &tokens {
                weights.push(f64::from(log_softmax_at(logits, ids[0])?));
            }
            Ok(())
        })?;
        let longer: Vec<usize> = (0..tokens.len()).filter(|i| tokens[*i].len() > 1).collect();
        for group in longer.chunks(CHOICES_AT_ONCE) {
            self.aside(sequence, group.len(), |context, first| {
                let mut items = Vec::new();
                for (copy, i) in group.iter().enumerate() {
                    let ids = &tokens[*i];
                    let item =
                        |token: &i32| Item { token: *token, sequence: first + copy, want: true };
                    items.extend(ids[..ids.len() - 1].iter().map(item));
                }
                if context
                    .eval_items(&items, EvalOptions { cancel, ..EvalOptions::default() })?
                    .status
                    != Status::Done
                {
                    return Err(Error::Cancelled);
                }
                let mut row = 0;
                for i in group {
                    for token in &tokens[*i][1..] {
                        let logits = context.logits_unless(row, cancel)?;
                        weights[*i] += f64::from(log_softmax_at(logits, *token)?);
                        row += 1;
                    }
                }
                Ok(())
            })?;
        }
        Ok(normalise(&weights))
    }

    /// The embedding of a sequence: its states pooled, with norm 1, `[n_embd]`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] without [`super::ContextOptions::embeddings`], or for an empty sequence.
    pub fn embedding(&self, sequence: usize) -> Result<Vec<f32>> {
        self.check_sequence(sequence)?;
        if !self.options.embeddings {
            return Err(Error::InvalidState("the context keeps no states: make it for embeddings"));
        }
        let width = self.model.config().n_embd;
        let states = &self.sequences[sequence].states;
        if states.is_empty() {
            return Err(Error::InvalidState("an empty sequence has no embedding: eval first"));
        }
        let mut pooled = states[states.len() - width..].to_vec();
        if self.options.pooling == Pooling::Mean {
            pooled.fill(0.0);
            for state in states.chunks_exact(width) {
                pooled.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
            }
        }
        // The number of tokens of a mean vanishes with the norm.
        let inverse = 1.0 / ops::dot::<Software>(&pooled, &pooled).sqrt();
        if !inverse.is_finite() {
            return Err(Error::bad_model("embedding", "the pooled state has no norm"));
        }
        for value in &mut pooled {
            *value *= inverse;
        }
        Ok(pooled)
    }
}

/// Log-weights to probabilities that sum to 1.
fn normalise(weights: &[f64]) -> Choice {
    let mut index = 0;
    for (i, weight) in weights.iter().enumerate() {
        if *weight > weights[index] {
            index = i;
        }
    }
    let exp = |weight: &f64| {
        if *weight - weights[index] < -600.0 {
            0.0
        } else {
            ops::math::exp64(*weight - weights[index])
        }
    };
    let total: f64 = weights.iter().map(exp).sum();
    Choice {
        index,
        probabilities: weights.iter().map(|weight| (exp(weight) / total) as f32).collect(),
    }
}
