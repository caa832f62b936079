//! The head: a final state against every row of the vocabulary, when it is asked for.

use super::{
    Context,
    bounds::HeadOf,
    eval::{Poll, Status},
    screening::Screening,
};
use crate::{
    Cancel,
    error::{Error, Result, try_zeroed},
    sampler::Sampler,
    threads::Cut,
};
use std::time::{Duration, Instant};

/// Rows of one part of the work.
pub(super) const PART_ROWS: usize = 256;

/// The last row of logits, perhaps half done.
#[derive(Debug, Default)]
pub(super) struct Head {
    logits: Vec<f32>,
    /// Which state it is of, and how many rows of the vocabulary are done.
    progress: Option<(usize, usize)>,
    screening: Screening,
}

impl Head {
    /// The states changed: what is held belongs to none.
    pub(super) fn forget(&mut self) {
        self.progress = None;
        self.screening.forget();
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.logits.capacity() * 4 + self.screening.bytes()
    }

    /// Gives the buffer back.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}

/// How a screening ended.
enum Screened {
    /// What the sampler needs is there.
    Done,
    /// The budget is spent, or the cancel token raised.
    Stopped,
    /// Every logit is needed.
    Whole,
}

impl Context {
    /// Rows of the last eval whose logits can be had.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.states.len() / self.model.config().n_embd
    }

    /// The normalised final state of row `i` of the last eval, `[n_embd]`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] before an eval, [`Error::NotFound`] past the last row.
    pub fn state(&self, i: usize) -> Result<&[f32]> {
        if !self.evaluated {
            return Err(Error::InvalidState("no tokens were evaluated: eval first"));
        }
        let width = self.model.config().n_embd;
        if i >= self.rows() {
            return Err(Error::NotFound(
                format!("row {i}: the last eval kept {} rows", self.rows()).into(),
            ));
        }
        Ok(&self.states[i * width..][..width])
    }

    /// The logits of row `i` of the last eval, `[n_vocab]`: the rows that were asked for, counted from 0.
    ///
    /// # Errors
    ///
    /// As [`Context::state`], and [`Error::OutOfMemory`].
    pub fn logits(&mut self, i: usize) -> Result<&[f32]> {
        self.logits_within(i, &mut Poll::new(None, None))?;
        Ok(&self.head.logits)
    }

    /// Draws the next token from row `i`; the sampler takes it. `None` if the budget was spent or the cancel token
    /// raised before the row was whole: the sampler then is as it was.
    ///
    /// # Errors
    ///
    /// As [`Context::logits`] and [`Sampler::sample`].
    pub fn sample(
        &mut self,
        i: usize,
        sampler: &mut Sampler,
        budget: Option<Duration>,
        cancel: Option<&Cancel>,
    ) -> Result<Option<i32>> {
        let mut poll = Poll::new(budget, cancel);
        let vocab = self.model.config().n_vocab;
        let screened = match self.screen(i, sampler, &mut poll)? {
            Screened::Stopped => return Ok(None),
            Screened::Done => {
                let start = Instant::now();
                let token = sampler.sample_screened(&self.head.screening.top, vocab)?;
                self.perf.sample_us += start.elapsed().as_micros() as u64;
                token
            }
            Screened::Whole => None,
        };
        let token = match screened {
            Some(token) => token,
            None => {
                if self.logits_within(i, &mut poll)?.is_some() {
                    return Ok(None);
                }
                let start = Instant::now();
                let token = sampler.sample(&self.head.logits)?;
                self.perf.sample_us += start.elapsed().as_micros() as u64;
                token
            }
        };
        if self.perf.first_token_us == 0
            && let Some(first) = self.first_eval
        {
            self.perf.first_token_us = first.elapsed().as_micros() as u64;
        }
        Ok(Some(token))
    }

    /// The logits that this sampler needs of row `i`, where few will do.
    fn screen(&mut self, i: usize, sampler: &mut Sampler, poll: &mut Poll<'_>) -> Result<Screened> {
        let model = self.model.clone();
        let weights = model.weights()?;
        let whole = self.head.progress == Some((i, model.config().n_vocab));
        let (Some(planes), false) = (&weights.planes, whole) else { return Ok(Screened::Whole) };
        let Some(screen) = sampler.screen()? else { return Ok(Screened::Whole) };
        if let Some(sequence) = self.restored {
            self.refresh(sequence)?;
        }
        self.state(i)?;
        let matrix = weights.output.as_ref().unwrap_or(&weights.embedding);
        let (width, fast) = (matrix.k(), self.options.fast_head);
        let head = HeadOf { planes, matrix, kernels: model.kernels() };
        let start = Instant::now();
        let (states, screening) = (&self.states, &mut self.head.screening);
        let screened = self.pool.enter(|team| {
            if screening.bound(i, states, head, fast, team, poll)?.is_some() {
                return Ok(Screened::Stopped);
            }
            let state = (i, &states[i * width..][..width]);
            let done = screening.choose(state, head, &screen, team)?;
            Ok(if done { Screened::Done } else { Screened::Whole })
        });
        self.perf.decode_us += start.elapsed().as_micros() as u64;
        screened
    }

    /// The same within a budget: `Some` if it stopped between 4096 rows and wants to be called again.
    pub(super) fn logits_within(
        &mut self,
        i: usize,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Status>> {
        if let Some(sequence) = self.restored {
            self.refresh(sequence)?;
        }
        self.state(i)?;
        let model = self.model.clone();
        let weights = model.weights()?;
        let matrix = weights.output.as_ref().unwrap_or(&weights.embedding);
        let (vocab, width, kernels) = (matrix.rows(), matrix.k(), model.kernels());
        if self.head.logits.len() != vocab {
            self.head.logits = try_zeroed(vocab, "logits")?;
        }
        let mut done = match self.head.progress {
            Some((row, done)) if row == i => done,
            _ => 0,
        };
        if done == vocab {
            return Ok(None);
        }
        let start = Instant::now();
        let (pool, state) = (&self.pool, &self.states[i * width..][..width]);
        let logits = &mut self.head.logits;
        let stopped = pool.enter(|team| {
            let mut slots = vec![(); team.threads()];
            while done < vocab {
                if let Some(status) = poll.stop() {
                    return Some(status);
                }
                let end = vocab.min(done.saturating_add(poll.rows()));
                team.run_parts(
                    (end - done).div_ceil(PART_ROWS),
                    Cut::new(&mut logits[done..end], PART_ROWS),
                    Cut::none(),
                    &mut slots,
                    |part, out, (), ()| {
                        let first = done + part * PART_ROWS;
                        let rows = matrix.row_range(first..first + out.len());
                        kernels.row_dots(rows, matrix.kind(), state, width, out);
                    },
                );
                done = end;
            }
            None
        });
        self.head.progress = Some((i, done));
        self.perf.decode_us += start.elapsed().as_micros() as u64;
        Ok(stopped)
    }
}
