//! `tern_session_start`, `_next`, `_stop`, `_respond`: one answer.

use super::{
    boundary::{Call, callback},
    cancel::tern_cancel,
    error::{Failure, tern_error},
    grammar::tern_grammar,
    sampler::tern_sampler,
    session::tern_session,
    sized::layout,
    status::{TERN_DONE, TERN_OK, TERN_PENDING, tern_status, tern_token},
};
use crate::{
    Cancel,
    sampler::{Grammar, Sampler},
    session::{Chunk, Draft, Finish, GenerateOptions, Progressed},
};
use std::{
    ffi::{c_char, c_void},
    time::Duration,
};

/// There is more to come.
pub const TERN_FINISH_NONE: i32 = 0;
/// The model ended its turn.
pub const TERN_FINISH_EOG: i32 = 1;
/// A stop string came.
pub const TERN_FINISH_STOP: i32 = 2;
/// max_tokens; a grammar may be incomplete: nothing is added to close it.
pub const TERN_FINISH_LENGTH: i32 = 3;
/// The context is full.
pub const TERN_FINISH_CONTEXT_FULL: i32 = 4;
/// A cancel token, a callback or tern_session_stop.
pub const TERN_FINISH_CANCELLED: i32 = 5;

/// One token at a time.
pub const TERN_DRAFT_NONE: i32 = 0;
/// Guess what followed the same words before, and verify: the same text, sooner.
pub const TERN_DRAFT_PROMPT_LOOKUP: i32 = 1;

/// How an answer is generated. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_generate_options {
    pub size: usize,
    /// 0 = to the end of the context
    pub max_tokens: u32,
    /// TERN_DRAFT_*: the same text, sooner
    pub draft: i32,
    /// tokens a draft; 0 = tern's choice
    pub n_draft_max: u32,
    /// copied; never emitted, not even in part
    pub stop: *const *const c_char,
    /// NULL = all NUL-terminated
    pub stop_lens: *const usize,
    pub n_stop: usize,
    /// cloned; NULL = the model's recommended chain
    pub sampler: *const tern_sampler,
    /// retained
    pub grammar: *const tern_grammar,
    /// retained
    pub cancel: *const tern_cancel,
}
layout!(Sized tern_generate_options {
    size, max_tokens, draft, n_draft_max, stop, stop_lens, n_stop, sampler, grammar, cancel
});

/// Zeroes `options` and sets its size to `size`, which is sizeof *options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_generate_options_init(
    options: *mut tern_generate_options,
    size: usize,
) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(options, size));
}

/// A piece of an answer. Set its size with tern_chunk_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_chunk {
    pub size: usize,
    /// whole code points, not NUL-terminated; lives until the next call on the session
    pub utf8: *const c_char,
    /// may be 0: text is held back
    pub len: usize,
    /// the newest, -1: none
    pub token: tern_token,
    /// of that token, in the chain's distribution
    pub logprob: f32,
    /// TERN_FINISH_*; NONE until DONE
    pub finish_reason: i32,
}
layout!(Sized tern_chunk { size, utf8, len, token, logprob, finish_reason });

/// Zeroes `chunk` and sets its size to `size`, which is sizeof *chunk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_chunk_init(chunk: *mut tern_chunk, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(chunk, size));
}

fn to_c(chunk: &Chunk<'_>) -> tern_chunk {
    tern_chunk {
        size: size_of::<tern_chunk>(),
        utf8: if chunk.text.is_empty() { "\0" } else { chunk.text }.as_ptr().cast(),
        len: chunk.text.len(),
        token: chunk.token.unwrap_or(-1),
        logprob: chunk.logprob,
        finish_reason: match chunk.finish {
            None => TERN_FINISH_NONE,
            Some(Finish::EndOfGeneration) => TERN_FINISH_EOG,
            Some(Finish::Stop) => TERN_FINISH_STOP,
            Some(Finish::Length) => TERN_FINISH_LENGTH,
            Some(Finish::ContextFull) => TERN_FINISH_CONTEXT_FULL,
            Some(Finish::Cancelled) => TERN_FINISH_CANCELLED,
        },
    }
}

/// The options that C gave.
fn generate_options(
    call: &Call,
    options: *const tern_generate_options,
) -> Result<GenerateOptions, Failure> {
    let options = call.options(options)?;
    let stop = call.texts(options.stop, options.stop_lens, options.n_stop, "stop")?;
    let sampler = if options.sampler.is_null() {
        None
    } else {
        Some(Sampler::clone(&*call.look(options.sampler, "sampler")?))
    };
    let grammar = call.hold_opt(options.grammar, "grammar")?;
    let cancel = call.hold_opt(options.cancel, "cancel")?;
    Ok(GenerateOptions {
        max_tokens: options.max_tokens as usize,
        draft: match options.draft {
            TERN_DRAFT_NONE => Draft::None,
            TERN_DRAFT_PROMPT_LOOKUP => Draft::PromptLookup,
            other => return Err(super::args::unknown("draft", other)),
        },
        n_draft_max: options.n_draft_max as usize,
        stop: stop.into_iter().map(str::to_owned).collect(),
        sampler,
        grammar: grammar.map(|grammar| Grammar::clone(&grammar)),
        cancel: cancel.map(|cancel| Cancel::clone(&cancel)),
    })
}

/// Begins an answer to user_text; NULL answers the transcript as it stands. Copies all it is given and evaluates
/// nothing. CONTEXT_FULL leaves the transcript as it was. While an answer is under way start, prewarm, set_messages,
/// transcript_from_json, fork and save: INVALID_STATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_start(
    session: *mut tern_session,
    user_text: *const c_char,
    len: usize,
    options: *const tern_generate_options,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let mut chat = call.take(session, "session")?;
        let user = call.text_opt(user_text, len, "user_text")?;
        chat.session.start(user, generate_options(call, options)?)?;
        Ok(TERN_OK)
    })
}

/// One step of the answer. OK: *out_chunk has the next piece, perhaps without text. PENDING: the budget of budget_us
/// is spent (0: there is none), no text; call again. DONE, once: what was held back, and the finish reason; after it
/// INVALID_STATE. CANCELLED, or any other error: the answer is over, what was said stays in the transcript.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_next(
    session: *mut tern_session,
    budget_us: u64,
    out_chunk: *mut tern_chunk,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut chat = call.take(session, "session")?;
        let out = call.out_struct(out_chunk, "out_chunk")?;
        let budget = (budget_us > 0).then(|| Duration::from_micros(budget_us));
        let (progressed, chunk) = chat.session.next(budget)?;
        out.write(&to_c(&chunk));
        Ok(match progressed {
            Progressed::More => TERN_OK,
            Progressed::Pending => TERN_PENDING,
            Progressed::Done => TERN_DONE,
        })
    })
}

/// Ends an answer early and keeps what was said; OK when none is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_stop(session: *mut tern_session) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        call.take(session, "session")?.session.stop();
        Ok(TERN_OK)
    })
}

/// Told each piece of an answer on the thread of tern_session_respond; 0 stops. The chunk ends with the call.
pub type tern_chunk_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, chunk: *const tern_chunk) -> i32>;

/// start and all steps in one call, on this thread. on_chunk NULL: to the end, without being told. CANCELLED if it
/// returns 0: what was said stays in the transcript.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_respond(
    session: *mut tern_session,
    user_text: *const c_char,
    len: usize,
    options: *const tern_generate_options,
    on_chunk: tern_chunk_fn,
    user_data: *mut c_void,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let mut chat = call.take(session, "session")?;
        let user = call.text_opt(user_text, len, "user_text")?;
        let options = generate_options(call, options)?;
        chat.session.respond(user, options, |chunk| {
            let Some(on_chunk) = on_chunk else { return true };
            let chunk = to_c(&chunk);
            // SAFETY: the host's function with the host's pointer, and a chunk that lives through the call.
            callback(|| unsafe { on_chunk(user_data, &raw const chunk) }) != 0
        })?;
        Ok(TERN_OK)
    })
}
