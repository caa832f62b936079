//! `tern_sampler_*`: a row of logits → a token.

use super::{
    boundary::{Call, callback},
    context::tern_context,
    grammar::tern_grammar,
    handle::Handle,
    log::UserData,
    model::Release,
    sized::layout,
    status::{TERN_OK, tern_release_fn, tern_status, tern_token},
};
use crate::{
    error::{Error, Result},
    sampler::{Dry, Sampler},
};
use std::{ffi::c_void, sync::Arc};

/// A chain of steps with its random state.
pub type tern_sampler = Handle<Sampler>;

/// What is added to a token's logit. Arrays of it come with the size of one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_logit_bias {
    pub token: tern_token,
    /// minus infinity forbids the token
    pub bias: f32,
}
layout!(Item tern_logit_bias { token, bias });

/// Edits a whole row in place: tokens that earlier steps dropped are minus infinity and stay dropped.
pub type tern_logits_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, logits: *mut f32, n: usize)>;

/// Makes an empty chain, which takes the best token. Steps run in the order in which they are added; bias and
/// grammars before all. Same seed, same text, on every system. Free it with tern_sampler_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_sampler_new(
    seed: u64,
    out_sampler: *mut *mut tern_sampler,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let out = call.out(out_sampler, "out_sampler")?;
        out.write(Handle::give(Sampler::new(seed)));
        Ok(TERN_OK)
    })
}

/// A chain that goes on exactly as the other would: with its random state and history.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_sampler_clone(
    sampler: *const tern_sampler,
    out_sampler: *mut *mut tern_sampler,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let sampler = call.look(sampler, "sampler")?;
        let out = call.out(out_sampler, "out_sampler")?;
        out.write(Handle::give(Sampler::clone(&sampler)));
        Ok(TERN_OK)
    })
}

/// Releases a sampler; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_free(sampler: *mut tern_sampler) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.free(sampler));
}

/// Adds a step. On error the chain is as it was.
fn add(
    call: &Call,
    sampler: *mut tern_sampler,
    step: impl FnOnce(&mut Sampler) -> Result<&mut Sampler>,
) -> tern_status {
    call.run(|call| {
        step(&mut *call.take(sampler, "sampler")?)?;
        Ok(TERN_OK)
    })
}

/// Adds to the logits of single tokens, before every step; biases of one token add up. Copied. `item_size` is
/// sizeof(tern_logit_bias). A token beyond the vocabulary is found when a row is sampled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_logit_bias(
    sampler: *mut tern_sampler,
    biases: *const tern_logit_bias,
    item_size: usize,
    n: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut sampler = call.take(sampler, "sampler")?;
        let biases = call.items(biases, item_size, n, "biases")?;
        let biases: Vec<_> = biases.iter().map(|bias| (bias.token, bias.bias)).collect();
        sampler.add_logit_bias(&biases)?;
        Ok(TERN_OK)
    })
}

/// Makes tokens of the last last_n (0: off, -1: all) less likely: a positive logit is divided by repeat, a negative
/// one multiplied; then freq is taken off for each occurrence and present once. 1, 0, 0 is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_penalties(
    sampler: *mut tern_sampler,
    last_n: i32,
    repeat: f32,
    freq: f32,
    present: f32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_penalties(last_n, repeat, freq, present))
}

/// Makes tokens that continue a repetition less likely, by multiplier * base ^ (length - allowed_length).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_dry(
    sampler: *mut tern_sampler,
    multiplier: f32,
    base: f32,
    allowed_length: i32,
    last_n: i32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| {
        sampler.add_dry(Dry { multiplier, base, allowed_length, last_n, breakers: Vec::new() })
    })
}

/// Keeps the k best; 0 and below is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_top_k(sampler: *mut tern_sampler, k: i32) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_top_k(k))
}

/// Keeps the best whose probabilities together reach p, at least min_keep; 1 and above is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_top_p(
    sampler: *mut tern_sampler,
    p: f32,
    min_keep: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_top_p(p, min_keep))
}

/// Keeps what is at least p times as probable as the best, at least min_keep; 0 is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_min_p(
    sampler: *mut tern_sampler,
    p: f32,
    min_keep: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_min_p(p, min_keep))
}

/// Keeps those nearest the expected surprise until they pass p, at least min_keep; 1 and above is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_typical(
    sampler: *mut tern_sampler,
    p: f32,
    min_keep: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_typical(p, min_keep))
}

/// Drops logits more than n standard deviations below the best; 0 and below is off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_top_n_sigma(
    sampler: *mut tern_sampler,
    n: f32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_top_n_sigma(n))
}

/// With a probability, drops all tokens of at least threshold but the least of them; leaves at least min_keep.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_xtc(
    sampler: *mut tern_sampler,
    probability: f32,
    threshold: f32,
    min_keep: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_xtc(probability, threshold, min_keep))
}

/// Divides logits by t; at 0 and below the best is taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_temp(sampler: *mut tern_sampler, t: f32) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_temp(t))
}

/// Temperature from t - range to t + range, by entropy to the power exponent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_temp_dynamic(
    sampler: *mut tern_sampler,
    t: f32,
    range: f32,
    exponent: f32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_temp_dynamic(t, range, exponent))
}

/// Mirostat 2: drops what would surprise by more than a bound that follows tau bits at the rate eta.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_mirostat_v2(
    sampler: *mut tern_sampler,
    tau: f32,
    eta: f32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    add(&call, sampler, |sampler| sampler.add_mirostat_v2(tau, eta))
}

/// Lets only tokens through that a grammar allows, before every step, wherever the call stands among the others.
/// Retained. It begins at the next token. INVALID_ARGUMENT for one of another vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_grammar(
    sampler: *mut tern_sampler,
    grammar: *const tern_grammar,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut sampler = call.take(sampler, "sampler")?;
        sampler.add_grammar(&*call.hold(grammar, "grammar")?)?;
        Ok(TERN_OK)
    })
}

/// Lets the host edit the logits: apply runs on the sampling thread, in its place in the chain. Clones share
/// user_data; release, if not NULL, is called once, after the last of them is gone, also when this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_add_custom(
    sampler: *mut tern_sampler,
    apply: tern_logits_fn,
    release: tern_release_fn,
    user_data: *mut c_void,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    // Made first, so that it is called whatever comes.
    let owner = Release(release, UserData(user_data));
    call.run(|call| {
        let mut sampler = call.take(sampler, "sampler")?;
        let apply = apply.ok_or_else(|| super::error::Failure::invalid("apply is NULL"))?;
        let step = move |logits: &mut [f32]| {
            // SAFETY: the host's function with the host's pointer, and a row that lives through the call.
            callback(|| unsafe { apply(owner.user_data(), logits.as_mut_ptr(), logits.len()) });
        };
        sampler.add_custom(Arc::new(step))?;
        Ok(TERN_OK)
    })
}

/// Picks from row i of the last eval and accepts the token. INVALID_STATE before an eval, NOT_FOUND past the last
/// row, GRAMMAR when nothing is allowed, BAD_MODEL when no logit is a number. On error the sampler is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_sample(
    sampler: *mut tern_sampler,
    context: *mut tern_context,
    i: usize,
    out_token: *mut tern_token,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut sampler = call.take(sampler, "sampler")?;
        let cell = call.take(context, "context")?;
        let out = call.out(out_token, "out_token")?;
        let token = cell.write()?.sample(i, &mut sampler, None, None)?;
        // Without budget and cancel token there is always one.
        out.write(token.ok_or(Error::Cancelled)?);
        Ok(TERN_OK)
    })
}

/// The same on the host's row of n logits, which stays as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_sample_logits(
    sampler: *mut tern_sampler,
    logits: *const f32,
    n: usize,
    out_token: *mut tern_token,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut sampler = call.take(sampler, "sampler")?;
        let logits = call.array(logits, n, "logits")?;
        let out = call.out(out_token, "out_token")?;
        out.write(sampler.sample(logits)?);
        Ok(TERN_OK)
    })
}

/// Tells the chain of a token that was chosen elsewhere. GRAMMAR for one that a grammar forbids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_accept(
    sampler: *mut tern_sampler,
    token: tern_token,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        call.take(sampler, "sampler")?.accept(token)?;
        Ok(TERN_OK)
    })
}

/// History, grammars and random state as they were when the sampler was made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_sampler_reset(sampler: *mut tern_sampler) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        call.take(sampler, "sampler")?.reset();
        Ok(TERN_OK)
    })
}
