//! `tern_eval*` and what can be asked of an eval: logits, log-probabilities, embeddings, scores.

use super::{
    args::{flags, sequence},
    boundary::Call,
    cancel::tern_cancel,
    context::tern_context,
    error::Failure,
    sized::layout,
    status::{TERN_ERR_CANCELLED, TERN_OK, TERN_PENDING, tern_seq, tern_status, tern_token},
};
use crate::{
    Cancel,
    context::{EvalOptions, Evaluated, Item, Status, Want},
    sampler::logprobs::logprobs_top,
};
use std::{ffi::c_char, time::Duration};

/// Keep a row for every token.
pub const TERN_EVAL_LOGITS_ALL: u32 = 1;
/// Keep no row.
pub const TERN_EVAL_LOGITS_NONE: u32 = 2;

/// How tokens are appended. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_eval_options {
    pub size: usize,
    pub seq: tern_seq,
    /// TERN_EVAL_*; 0: a row for the last token
    pub flags: u32,
    /// 0 = none; else the call may return TERN_PENDING
    pub budget_us: u64,
    pub cancel: *const tern_cancel,
}
layout!(Sized tern_eval_options { size, seq, flags, budget_us, cancel });

/// Zeroes `options` and sets its size to `size`, which is sizeof *options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_eval_options_init(options: *mut tern_eval_options, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(options, size));
}

/// What C asks of an eval.
struct Asked {
    sequence: usize,
    want: Want,
    budget: Option<Duration>,
    cancel: Option<Cancel>,
}

impl Asked {
    fn read(call: &Call, options: *const tern_eval_options) -> Result<Self, Failure> {
        let options = call.options(options)?;
        let set = flags(options.flags, TERN_EVAL_LOGITS_ALL | TERN_EVAL_LOGITS_NONE)?;
        let cancel = call.hold_opt(options.cancel, "cancel")?;
        Ok(Asked {
            sequence: sequence(options.seq)?,
            want: match set {
                0 => Want::Last,
                TERN_EVAL_LOGITS_ALL => Want::All,
                TERN_EVAL_LOGITS_NONE => Want::None,
                _ => return Err(Failure::invalid("flags ask for all rows and for none")),
            },
            budget: (options.budget_us > 0).then(|| Duration::from_micros(options.budget_us)),
            cancel: cancel.map(|cancel| Cancel::clone(&cancel)),
        })
    }

    /// For calls that are not cut into pieces.
    fn read_whole(call: &Call, options: *const tern_eval_options) -> Result<Self, Failure> {
        let asked = Asked::read(call, options)?;
        if asked.budget.is_some() || asked.want != Want::Last {
            return Err(Failure::invalid("budget_us and flags must be 0 here"));
        }
        Ok(asked)
    }

    fn options(&self) -> EvalOptions<'_> {
        EvalOptions {
            sequence: self.sequence,
            want: self.want,
            budget: self.budget,
            cancel: self.cancel.as_ref(),
        }
    }

    /// `out_done` may be missing only where a call that did not fail did all.
    fn check_done(&self, out_done: *mut usize) -> Result<(), Failure> {
        if out_done.is_null() && (self.budget.is_some() || self.cancel.is_some()) {
            return Err(Failure::invalid(
                "out_done is NULL, but there is a budget or a cancel token",
            ));
        }
        Ok(())
    }
}

fn finish(call: &Call, done: Evaluated, out_done: *mut usize) -> tern_status {
    if let Some(out) = call.out_opt(out_done) {
        out.write(done.done);
    }
    match done.status {
        Status::Done => TERN_OK,
        Status::Pending => TERN_PENDING,
        Status::Cancelled => TERN_ERR_CANCELLED,
    }
}

/// Appends tokens to a sequence. On error nothing is appended. On CANCELLED / PENDING *out_done tokens have been:
/// never a part of one. After PENDING call again with the remaining tokens. CONTEXT_FULL. `options` NULL = all
/// defaults; out_done may be NULL when there is neither cancel nor budget.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_eval(
    context: *mut tern_context,
    tokens: *const tern_token,
    n: usize,
    options: *const tern_eval_options,
    out_done: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let tokens = call.array(tokens, n, "tokens")?;
        let asked = Asked::read(call, options)?;
        asked.check_done(out_done)?;
        let done = cell.write()?.eval(tokens, asked.options())?;
        Ok(finish(call, done, out_done))
    })
}

/// A token of a batch. Arrays of it come with the size of one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_batch_item {
    pub token: tern_token,
    pub seq: tern_seq,
    /// not 0: keep a row
    pub want_logits: u32,
}
layout!(Item tern_batch_item { token, seq, want_logits });

/// Appends to many sequences in one pass over the weights; items in order, *out_done of them appended. `item_size`
/// is sizeof(tern_batch_item). seq and flags of the options must be 0. Else as tern_eval.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_eval_batch(
    context: *mut tern_context,
    items: *const tern_batch_item,
    item_size: usize,
    n: usize,
    options: *const tern_eval_options,
    out_done: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let read = |item: &tern_batch_item| {
            let sequence = sequence(item.seq)?;
            Ok(Item { token: item.token, sequence, want: item.want_logits != 0 })
        };
        let items = call.items(items, item_size, n, "items")?;
        let items = items.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        let asked = Asked::read(call, options)?;
        if asked.sequence != 0 || asked.want != Want::Last {
            return Err(Failure::invalid("seq and flags of the options must be 0: the items say"));
        }
        asked.check_done(out_done)?;
        let done = cell.write()?.eval_items(&items, asked.options())?;
        Ok(finish(call, done, out_done))
    })
}

/// Row i of the last eval, counting the requested rows from 0; n_vocab values. The head runs in this call. Borrowed
/// until the next tern_logits or eval, or any other call that takes the context as `T *`. INVALID_STATE before an
/// eval, NOT_FOUND past the last row.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_logits(
    context: *mut tern_context,
    i: usize,
    out_values: *mut *const f32,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let (values, n) = (call.out(out_values, "out_values")?, call.out(out_n, "out_n")?);
        let mut context = cell.write()?;
        let logits = context.logits(i)?;
        values.write(logits.as_ptr());
        n.write(logits.len());
        Ok(TERN_OK)
    })
}

/// The k most probable tokens of row i with their natural log-probabilities, best first. k slots each, *out_n used:
/// fewer where fewer have a probability above 0. Errors as tern_logits; BAD_MODEL when no logit is a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_logprobs_top(
    context: *mut tern_context,
    i: usize,
    k: usize,
    out_tokens: *mut tern_token,
    out_logprobs: *mut f32,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        if k > 0 {
            call.out(out_tokens, "out_tokens")?;
            call.out(out_logprobs, "out_logprobs")?;
        }
        let out_n = call.out(out_n, "out_n")?;
        let mut context = cell.write()?;
        let logits = context.logits(i)?;
        let top = logprobs_top(logits, k.min(logits.len()))?;
        let (tokens, logprobs): (Vec<_>, Vec<_>) = top.into_iter().unzip();
        let mut n = 0;
        if k > 0 {
            call.give_array(&tokens, out_tokens, k, &raw mut n, "out_n")?;
            call.give_array(&logprobs, out_logprobs, k, &raw mut n, "out_n")?;
        }
        out_n.write(n);
        Ok(TERN_OK)
    })
}

/// A sequence pooled to one vector of n_embd values with L2 norm 1. Borrowed until the next call that takes the
/// context as `T *`. INVALID_STATE without TERN_CTX_EMBEDDINGS, or for an empty sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_embedding(
    context: *mut tern_context,
    s: tern_seq,
    out_values: *mut *const f32,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut cell = call.take(context, "context")?;
        let (values, n) = (call.out(out_values, "out_values")?, call.out(out_n, "out_n")?);
        let embedding = cell.read()?.embedding(sequence(s)?)?;
        cell.embedding = embedding;
        values.write(cell.embedding.as_ptr());
        n.write(cell.embedding.len());
        Ok(TERN_OK)
    })
}

/// Natural log-probabilities of given tokens as the continuation of options->seq, which stays as it was: n values,
/// or n - 1 if it is empty. cap in values; size query: out_logprobs NULL, cap 0. budget_us and flags must be 0.
/// CANCELLED writes nothing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_score(
    context: *mut tern_context,
    tokens: *const tern_token,
    n: usize,
    options: *const tern_eval_options,
    out_logprobs: *mut f32,
    cap: usize,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let tokens = call.array(tokens, n, "tokens")?;
        let asked = Asked::read_whole(call, options)?;
        let out = call.out(out_n, "out_n")?;
        let mut context = cell.write()?;
        let empty = context.tokens(asked.sequence)?.is_empty();
        let len = n.saturating_sub(usize::from(empty));
        if len > cap {
            out.write(len);
            return if cap == 0 && out_logprobs.is_null() {
                Ok(TERN_OK)
            } else {
                Err(Failure::BufferTooSmall)
            };
        }
        let scores = context.score(asked.sequence, tokens, asked.cancel.as_ref())?;
        call.give_array(&scores, out_logprobs, cap, out_n, "out_n")
    })
}

/// Which of n texts continues options->seq, which stays as it was; one shared prefill. *out_index: the likeliest,
/// the first of equals. out_probs: n values that sum to 1, or NULL. lens NULL: all NUL-terminated. Each text is
/// tokenized by itself, without special tokens; its weight is the product of its tokens' probabilities. Empty
/// sequence: INVALID_STATE; empty text, or none: INVALID_ARGUMENT. budget_us and flags must be 0.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_choose(
    context: *mut tern_context,
    choices: *const *const c_char,
    lens: *const usize,
    n: usize,
    options: *const tern_eval_options,
    out_index: *mut usize,
    out_probs: *mut f32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let choices = call.texts(choices, lens, n, "choices")?;
        let asked = Asked::read_whole(call, options)?;
        let out = call.out(out_index, "out_index")?;
        let mut context = cell.write()?;
        let choice = context.choose(asked.sequence, &choices, asked.cancel.as_ref())?;
        if !out_probs.is_null() {
            let mut written = 0;
            call.give_array(&choice.probabilities, out_probs, n, &raw mut written, "out_probs")?;
        }
        out.write(choice.index);
        Ok(TERN_OK)
    })
}
