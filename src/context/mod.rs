//! What moves: sequences of tokens, their keys and values, and the scratch of a pass.
//!
//! [`Context::eval`] appends tokens to sequences and keeps the final states of
//! the rows that were asked for; the head turns a state into logits on demand.
//! The bits of a row depend on the model file, the tokens before it and the kind of cache
//! alone: not on threads, batches, forks, trims or what was saved and loaded.

mod attention;
mod bounds;
mod cache;
mod eval;
mod forward;
mod gate;
mod head;
mod lookup;
mod norm;
mod plan;
mod reading;
mod score;
mod scratch;
mod screening;
mod sequences;
mod shift;
mod state;
mod step;
mod survivors;

pub use cache::KvType;
pub use eval::{EvalOptions, Evaluated, Item, Status, Want};
pub use plan::MemoryPlan;
pub use score::Choice;
pub use sequences::Trim;

use crate::{
    error::{Error, Result},
    model::{Config, Model},
    threads::ThreadPool,
};
use cache::{Geometry, Sequence};
use eval::Pass;
use scratch::Scratch;
use std::fmt;

/// Where a sequence's embedding comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The state of the last token.
    #[default]
    Last,
    /// The mean over all tokens.
    Mean,
}

/// How a context is made. Zeros and `None` are the defaults.
#[derive(Clone, Debug, Default)]
pub struct ContextOptions {
    /// Tokens of each sequence; 0 takes what the model was trained with.
    pub n_ctx: usize,
    /// Sequences; 0 is 1.
    pub n_seq_max: usize,
    /// Tokens of one pass over the weights; bounds the scratch; 0 is [`BATCH`].
    pub n_batch: usize,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// How states become an embedding.
    pub pooling: Pooling,
    /// Keep the states that [`Context::embedding`] needs.
    pub embeddings: bool,
    /// Screen the head by four bits a weight instead of six, where it is screened at all: greedy and top-k choices come
    /// sooner. They are those of the full head as long as what the other four bits hold is spread evenly: likely, not sure.
    pub fast_head: bool,
    /// The most bytes of cache pages held; 0 is no cap.
    pub kv_bytes_max: u64,
    /// The threads; `None` takes the model's pool.
    pub pool: Option<ThreadPool>,
}

/// Tokens of a pass unless the options say otherwise: the weights are read once for so many.
pub const BATCH: usize = 128;
/// Bounds of the options.
const SEQUENCES_MAX: usize = 1 << 16;
const BATCH_MAX: usize = 4096;

/// A row of a pass: one token at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub token: i32,
    pub sequence: usize,
    pub position: u32,
    /// Keep its final state.
    pub want: bool,
    /// Appended by this call, rather than computed again after a trim.
    pub new: bool,
}

/// What a context did since it was made or reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perf {
    /// Microseconds in passes of more than one token.
    pub prefill_us: u64,
    /// Microseconds in passes of one token, and in the head.
    pub decode_us: u64,
    /// Microseconds in samplers.
    pub sample_us: u64,
    /// Microseconds from the first eval to the first sampled token.
    pub first_token_us: u64,
    /// Tokens of passes of more than one.
    pub n_prefill: u64,
    /// Tokens that needed no pass because a prefix was in the cache.
    pub n_prefill_reused: u64,
    /// Tokens of passes of one.
    pub n_decode: u64,
    /// Tokens drafted.
    pub n_drafted: u64,
    /// Drafted tokens that were right.
    pub n_draft_accepted: u64,
    /// The most bytes of cache, scratch and kept rows at one time.
    pub peak_heap_bytes: u64,
}

/// Sequences over one model. One thread at a time.
pub struct Context {
    model: Model,
    options: ContextOptions,
    pool: ThreadPool,
    geometry: Geometry,
    frequencies: Vec<f32>,
    sequences: Vec<Sequence>,
    scratch: Option<Scratch>,
    pending: Option<Pass>,
    /// Normalised final states of the rows asked for in the last eval, `[rows][n_embd]`.
    states: Vec<f32>,
    evaluated: bool,
    /// A sequence that was loaded since the last eval: its last row can be computed again.
    restored: Option<usize>,
    head: head::Head,
    perf: Perf,
    /// Counts what makes kept rows invalid.
    epoch: u64,
    first_eval: Option<std::time::Instant>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Context({:?}, {} sequences of {})",
            self.model,
            self.sequences.len(),
            self.options.n_ctx
        )
    }
}

impl Context {
    /// A context without tokens. Pages of the cache are allocated as they are used.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] for a model loaded for its vocabulary; [`Error::InvalidArgument`] for options out of
    /// range; [`Error::OutOfMemory`]; [`Error::Io`] if the model's pool does not start.
    pub fn new(model: &Model, options: ContextOptions) -> Result<Self> {
        let weights = model.weights()?;
        let config = model.config();
        let options = resolve(options, config)?;
        let pool = match &options.pool {
            Some(pool) => pool.clone(),
            None => model.default_pool()?.clone(),
        };
        let geometry = Geometry {
            layers: config.n_layer,
            kv_heads: config.n_head_kv,
            head_dim: config.head_dim,
            kind: options.kv_type,
        };
        let frequencies = crate::ops::rope::frequencies(
            config.rope_theta,
            config.rope_dim,
            weights.rope_factors.as_deref(),
        );
        Ok(Self {
            model: model.clone(),
            sequences: vec![Sequence::default(); options.n_seq_max],
            options,
            pool,
            geometry,
            frequencies,
            scratch: None,
            pending: None,
            states: Vec::new(),
            evaluated: false,
            restored: None,
            head: head::Head::default(),
            perf: Perf::default(),
            epoch: 0,
            first_eval: None,
        })
    }

    /// The model it stands on.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The options with the defaults filled in.
    #[must_use]
    pub fn options(&self) -> &ContextOptions {
        &self.options
    }

    /// What was done so far.
    #[must_use]
    pub fn perf(&self) -> Perf {
        self.perf
    }

    /// Sets the counters to zero.
    pub fn reset_perf(&mut self) {
        self.perf = Perf::default();
        self.first_eval = None;
    }

    /// Grows with every call that appends, cuts or replaces: rows are good within one epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A context of its own with the same options and sequences; pages are shared until one side writes to them.
    pub(crate) fn twin(&self) -> Self {
        let mut options = self.options.clone();
        options.pool = Some(self.pool.clone());
        Self {
            model: self.model.clone(),
            options,
            pool: self.pool.clone(),
            geometry: self.geometry,
            frequencies: self.frequencies.clone(),
            sequences: self.sequences.clone(),
            scratch: None,
            pending: None,
            states: Vec::new(),
            evaluated: false,
            restored: None,
            head: head::Head::default(),
            perf: Perf::default(),
            epoch: 0,
            first_eval: None,
        }
    }

    pub(crate) fn perf_mut(&mut self) -> &mut Perf {
        &mut self.perf
    }

    /// Bytes of cache pages held, shared ones once.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        (self.distinct_pages() * self.geometry.page_bytes()) as u64
    }

    /// Bytes of scratch and kept rows.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        let scratch = self.scratch.as_ref().map_or(0, Scratch::bytes);
        (scratch + self.states.capacity() * 4 + self.head.bytes()) as u64
    }

    fn note_peak(&mut self) {
        let now = self.cache_bytes() + self.scratch_bytes();
        self.perf.peak_heap_bytes = self.perf.peak_heap_bytes.max(now);
    }
}

/// Fills in the defaults and checks the ranges.
pub(crate) fn resolve(mut options: ContextOptions, config: &Config) -> Result<ContextOptions> {
    let default = |value: &mut usize, default: usize| {
        if *value == 0 {
            *value = default;
        }
    };
    default(&mut options.n_ctx, config.n_ctx_train);
    default(&mut options.n_seq_max, 1);
    default(&mut options.n_batch, BATCH);
    options.n_batch = options.n_batch.min(options.n_ctx.max(options.n_seq_max)).min(BATCH_MAX);
    if options.n_seq_max > SEQUENCES_MAX {
        let text = format!("n_seq_max {}: at most {SEQUENCES_MAX} sequences", options.n_seq_max);
        return Err(Error::InvalidArgument(text.into()));
    }
    if options.n_ctx > 1 << 24 {
        return Err(Error::InvalidArgument(
            format!("n_ctx {}: at most {}", options.n_ctx, 1 << 24).into(),
        ));
    }
    Ok(options)
}
