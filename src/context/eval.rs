//! Appending tokens: slices of rows through the layers, cancel and budget between them.

use super::{Context, Row, cache::Geometry, forward::Forward, reading::Reading, scratch::Scratch};
use crate::{
    Cancel,
    error::{Error, Result},
    threads::Team,
};
use std::time::{Duration, Instant};

/// Rows of the vocabulary between two looks at the clock and the cancel token.
const POLL_ROWS: usize = 4096;
/// The most tokens of a pass under a time budget: a pass then ends soon.
const BUDGET_ROWS: usize = 8;

/// Which rows keep their final state, for logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// The last token's.
    #[default]
    Last,
    /// Every token's.
    All,
    /// None.
    None,
}

/// Sequences that grow, and the length each will have.
type Ends = Vec<(usize, usize)>;

/// How tokens are appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvalOptions<'a> {
    /// To which sequence. For [`Context::eval_items`] the items say.
    pub sequence: usize,
    /// Which rows keep their state. For [`Context::eval_items`] the items say.
    pub want: Want,
    /// Come back when this time is spent, with [`Status::Pending`].
    pub budget: Option<Duration>,
    /// Come back when this is raised, with [`Status::Cancelled`].
    pub cancel: Option<&'a Cancel>,
}

/// A token of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub token: i32,
    /// The sequence it is appended to.
    pub sequence: usize,
    /// Whether its state is kept.
    pub want: bool,
}

/// How an eval ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every token was appended.
    Done,
    /// The budget is spent; call again with the tokens that remain.
    Pending,
    /// The cancel token was raised.
    Cancelled,
}

/// What an eval did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Tokens appended: whole ones, in order.
    pub done: usize,
    /// Why it came back.
    pub status: Status,
}

/// A pass that stopped between two layers.
#[derive(Debug)]
pub(super) struct Pass {
    rows: Vec<Row>,
    layer: usize,
}

/// Asks between units of work whether to stop; always lets one unit pass.
pub(super) struct Poll<'a> {
    deadline: Option<Instant>,
    cancel: Option<&'a Cancel>,
    units: usize,
}

impl<'a> Poll<'a> {
    pub(super) fn new(budget: Option<Duration>, cancel: Option<&'a Cancel>) -> Self {
        Self { deadline: budget.map(|budget| Instant::now() + budget), cancel, units: 0 }
    }

    /// Rows of the vocabulary between two questions; all of them if the answer is known.
    pub(super) fn rows(&self) -> usize {
        if self.deadline.is_none() && self.cancel.is_none() { usize::MAX } else { POLL_ROWS }
    }

    /// `None` to go on with one unit more.
    pub(super) fn stop(&mut self) -> Option<Status> {
        if self.cancel.is_some_and(Cancel::is_set) {
            return Some(Status::Cancelled);
        }
        if self.units > 0 && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Some(Status::Pending);
        }
        self.units += 1;
        None
    }
}

impl Context {
    /// Appends tokens to one sequence.
    ///
    /// On an error nothing is appended. After [`Status::Pending`] a call with the remaining tokens goes on where
    /// this one stopped; any other call that changes the context forgets the half-done token, correctly.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a token outside the vocabulary or a sequence out of range,
    /// [`Error::ContextFull`], [`Error::OutOfMemory`].
    pub fn eval(&mut self, tokens: &[i32], options: EvalOptions<'_>) -> Result<Evaluated> {
        let last = tokens.len().wrapping_sub(1);
        let item = |(i, token): (usize, &i32)| Item {
            token: *token,
            sequence: options.sequence,
            want: match options.want {
                Want::Last => i == last,
                Want::All => true,
                Want::None => false,
            },
        };
        self.check_sequence(options.sequence)?;
        let items: Vec<Item> = tokens.iter().enumerate().map(item).collect();
        self.eval_items(&items, options)
    }

    /// Appends tokens to many sequences in one go over the weights, in order.
    ///
    /// # Errors
    ///
    /// As [`Context::eval`].
    pub fn eval_items(&mut self, items: &[Item], options: EvalOptions<'_>) -> Result<Evaluated> {
        self.first_eval.get_or_insert_with(Instant::now);
        let (rows, ends) = self.plan(items)?;
        self.reserve(&ends)?;
        if self.scratch.is_none() {
            let layers = &self.model.weights()?.layers;
            let (capacity, threads) = (self.options.n_batch, self.pool.threads());
            let kernels = self.model.kernels();
            let scratch = Scratch::new(self.model.config(), layers, capacity, threads, kernels)?;
            self.scratch = Some(scratch);
        }
        let width = self.model.config().n_embd;
        let wanted = rows.iter().filter(|row| row.want).count();
        self.head.forget();
        self.states.clear();
        let out_of_memory =
            |bytes: usize| Error::OutOfMemory { what: "final states", bytes: bytes as u64 };
        self.states.try_reserve(wanted * width).map_err(|_| out_of_memory(wanted * width * 4))?;
        if self.options.embeddings {
            for (sequence, end) in &ends {
                let states = &mut self.sequences[*sequence].states;
                let more = (end * width).saturating_sub(states.len());
                states.try_reserve(more).map_err(|_| out_of_memory(more * 4))?;
            }
        }
        self.evaluated = true;
        self.epoch += 1;
        self.restored = None;
        let mut poll = Poll::new(options.budget, options.cancel);
        let pool = self.pool.clone();
        let mut done = 0;
        let status = pool.enter(|team| {
            let most = if options.budget.is_some() {
                BUDGET_ROWS.min(self.options.n_batch)
            } else {
                self.options.n_batch
            };
            let mut rest = &rows[..];
            while !rest.is_empty() {
                let (slice, later) = self.next_slice(rest, most);
                if let Some(status) = self.pass(team, slice, &mut poll) {
                    return status;
                }
                done += slice.iter().filter(|row| row.new).count();
                rest = later;
            }
            Status::Done
        });
        self.note_peak();
        Ok(Evaluated { done, status })
    }

    /// The rows of a call, those to be computed again first, and the new length of each sequence that grows.
    fn plan(&self, items: &[Item]) -> Result<(Vec<Row>, Ends)> {
        let vocab = self.model.config().n_vocab;
        let mut ends: Vec<(usize, usize)> = Vec::new();
        let mut rows = Vec::new();
        let mut appended = Vec::new();
        rows.try_reserve(items.len())
            .map_err(|_| Error::OutOfMemory { what: "rows", bytes: items.len() as u64 * 24 })?;
        for (i, item) in items.iter().enumerate() {
            if usize::try_from(item.token).map_or(true, |token| token >= vocab) {
                let text = format!("token {} at index {i}: the vocabulary has {vocab}", item.token);
                return Err(Error::InvalidArgument(text.into()));
            }
            self.check_sequence(item.sequence)?;
            let at = match ends.iter().position(|(sequence, _)| *sequence == item.sequence) {
                Some(at) => at,
                None => {
                    let sequence = &self.sequences[item.sequence];
                    let again = sequence.computed..sequence.tokens.len();
                    rows.extend(again.map(|position| Row {
                        token: sequence.tokens[position],
                        sequence: item.sequence,
                        position: position as u32,
                        want: false,
                        new: false,
                    }));
                    ends.push((item.sequence, sequence.tokens.len()));
                    ends.len() - 1
                }
            };
            let position = ends[at].1 as u32;
            ends[at].1 += 1;
            appended.push(Row {
                token: item.token,
                sequence: item.sequence,
                position,
                want: item.want,
                new: true,
            });
        }
        let limit = self.options.n_ctx;
        if let Some((_, wanted)) = ends.iter().find(|(_, end)| *end > limit) {
            return Err(Error::ContextFull {
                wanted: *wanted as u64,
                limit: limit as u64,
                unit: "tokens",
            });
        }
        rows.extend(appended);
        Ok((rows, ends))
    }

    /// Pages for every sequence up to its new length, within the cap; on failure what was held before.
    fn reserve(&mut self, ends: &[(usize, usize)]) -> Result<()> {
        let cap = self.options.kv_bytes_max;
        if cap > 0 {
            let fresh = |(sequence, end): &(usize, usize)| {
                let sequence = &self.sequences[*sequence];
                let shared = sequence
                    .pages
                    .get(sequence.computed / crate::kernels::BLOCK)
                    .is_some_and(|page| !page.is_owned() || std::sync::Arc::strong_count(page) > 1);
                Geometry::pages(*end).saturating_sub(sequence.pages.len()) + usize::from(shared)
            };
            let wanted = (self.distinct_pages() + ends.iter().map(fresh).sum::<usize>()) as u64;
            let wanted = wanted * self.geometry.page_bytes() as u64;
            if wanted > cap {
                return Err(Error::ContextFull { wanted, limit: cap, unit: "cache bytes" });
            }
        }
        for (i, (sequence, end)) in ends.iter().enumerate() {
            if let Err(error) = self.sequences[*sequence].reserve(self.geometry, *end) {
                for (sequence, _) in &ends[..i] {
                    let sequence = &mut self.sequences[*sequence];
                    sequence.pages.truncate(Geometry::pages(sequence.computed));
                }
                return Err(error);
            }
            let tokens = &mut self.sequences[*sequence].tokens;
            let more = end - tokens.len();
            tokens
                .try_reserve(more)
                .map_err(|_| Error::OutOfMemory { what: "tokens", bytes: more as u64 * 4 })?;
        }
        Ok(())
    }

    /// The rows of the next pass: those of a half-done one if they come again, else as many as fit.
    fn next_slice<'r>(&mut self, rest: &'r [Row], most: usize) -> (&'r [Row], &'r [Row]) {
        let resumed = self
            .pending
            .as_ref()
            .filter(|pass| same_work(&pass.rows, rest))
            .map(|pass| pass.rows.len());
        if resumed.is_none() {
            self.pending = None;
        }
        rest.split_at(resumed.unwrap_or(most).min(rest.len()))
    }

    /// One pass over the weights. `Some` if it stopped in the middle.
    fn pass(&mut self, team: &Team<'_>, rows: &[Row], poll: &mut Poll<'_>) -> Option<Status> {
        let start = Instant::now();
        let width = self.model.config().n_embd;
        let model = self.model.clone();
        let weights = model.weights().expect("checked when the context was made");
        let (first, resumed) = match self.pending.take() {
            Some(pass) => (pass.layer, true),
            None => (0, false),
        };
        let alone = Reading::alone(rows, model.config().n_head_kv, team);
        let keep = self.options.embeddings;
        let wanted = |row: &Row| row.want || keep;
        let mut forward = Forward {
            alone: alone.as_ref(),
            config: model.config(),
            weights,
            kernels: model.kernels(),
            geometry: self.geometry,
            rows,
            frequencies: &self.frequencies,
            sequences: &mut self.sequences,
            scratch: self.scratch.as_mut().expect("made before the pass"),
        };
        if !resumed {
            forward.embed();
        }
        let mut stopped = None;
        for layer in first..weights.layers.len() {
            if let Some(status) = poll.stop() {
                stopped = Some((status, layer));
                break;
            }
            if layer + 1 < weights.layers.len() || rows.iter().all(wanted) {
                forward.layer(team, layer, layer > 0);
            } else {
                forward.last_layer(team, layer, wanted);
            }
        }
        if stopped.is_none() {
            let (mut state, mut finished) = (vec![0.0; width], 0);
            for row in rows {
                if wanted(row) {
                    forward.finish(finished, &mut state);
                    finished += 1;
                }
                let sequence = &mut forward.sequences[row.sequence];
                if row.new {
                    sequence.tokens.push(row.token);
                    if keep {
                        sequence.states.extend_from_slice(&state);
                    }
                }
                sequence.computed = row.position as usize + 1;
                if row.want {
                    self.states.extend_from_slice(&state);
                }
            }
        }
        let spent = start.elapsed().as_micros() as u64;
        let count = if stopped.is_none() { rows.len() as u64 } else { 0 };
        if rows.len() == 1 {
            self.perf.decode_us += spent;
            self.perf.n_decode += count;
        } else {
            self.perf.prefill_us += spent;
            self.perf.n_prefill += count;
        }
        let (status, layer) = stopped?;
        self.pending = Some(Pass { rows: rows.to_vec(), layer });
        Some(status)
    }
}

/// Whether `rest` begins with the very rows of a half-done pass; which states are kept may differ.
fn same_work(pass: &[Row], rest: &[Row]) -> bool {
    let key = |row: &Row| (row.token, row.sequence, row.position, row.new);
    rest.len() >= pass.len() && pass.iter().zip(rest).all(|(a, b)| key(a) == key(b))
}
