//! `tern_session_*`: a chat on top of all the rest.

use super::{
    args::{flags, unknown},
    boundary::Call,
    chat::{messages, tern_message},
    context::{Cell, options, tern_context, tern_context_params},
    error::{Failure, tern_error},
    handle::{Handle, Lent},
    model::tern_model,
    sized::layout,
    status::{TERN_OK, tern_status},
};
use crate::{
    Cancel,
    session::{OnFull, Session, SessionOptions, Turn},
};
use std::{
    ffi::{c_char, c_void},
    sync::Arc,
};

/// A session, and the handle of its context once C has asked for it.
pub struct Chat {
    pub(super) session: Session,
    context: Option<Lent<Cell>>,
}

impl Chat {
    fn give(session: Session) -> *mut tern_session {
        Handle::give(Chat { session, context: None })
    }
}

/// Chat on top of all the others; one thread at a time.
pub type tern_session = Handle<Chat>;

/// The call fails, or the answer ends with TERN_FINISH_CONTEXT_FULL.
pub const TERN_ON_FULL_ERROR: i32 = 0;
/// The oldest turns go, the instructions stay.
pub const TERN_ON_FULL_DROP_TURNS: i32 = 1;
/// The first n_keep tokens stay, half of the rest goes; outside the determinism contract.
pub const TERN_ON_FULL_SHIFT: i32 = 2;

/// How a session is made. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_session_params {
    pub size: usize,
    /// system message; copied; NULL = none
    pub instructions: *const c_char,
    pub instructions_len: usize,
    /// Jinja; copied; NULL = the model's
    pub chat_template: *const c_char,
    pub chat_template_len: usize,
    /// TERN_ON_FULL_*
    pub on_full: i32,
    /// SHIFT: first tokens kept; 0 = the instructions
    pub n_keep: u32,
    /// none yet: 0
    pub flags: u32,
    /// NULL = all defaults
    pub context: *const tern_context_params,
}
layout!(Sized tern_session_params {
    size, instructions, instructions_len, chat_template, chat_template_len, on_full, n_keep, flags, context
});

/// Zeroes `params` and sets its size to `size`, which is sizeof *params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_params_init(params: *mut tern_session_params, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(params, size));
}

/// The options that C gave.
fn session_options(
    call: &Call,
    params: *const tern_session_params,
) -> Result<SessionOptions, Failure> {
    let params = call.options(params)?;
    flags(params.flags, 0)?;
    let instructions =
        call.text_opt(params.instructions, params.instructions_len, "instructions")?;
    let template =
        call.text_opt(params.chat_template, params.chat_template_len, "chat_template")?;
    Ok(SessionOptions {
        instructions: instructions.map(str::to_owned),
        template: template.map(str::to_owned),
        on_full: match params.on_full {
            TERN_ON_FULL_ERROR => OnFull::Error,
            TERN_ON_FULL_DROP_TURNS => OnFull::DropTurns,
            TERN_ON_FULL_SHIFT => OnFull::Shift,
            other => return Err(unknown("on_full", other)),
        },
        n_keep: params.n_keep as usize,
        context: options(call, params.context)?,
    })
}

/// Makes a session that has said nothing; holds a reference to the model. `params` NULL = all defaults. NOT_FOUND if
/// neither the model nor the params have a chat template. Free it with tern_session_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_session_new(
    model: *const tern_model,
    params: *const tern_session_params,
    out_session: *mut *mut tern_session,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_session, "out_session")?;
        out.write(Chat::give(Session::new(&model, session_options(call, params)?)?));
        Ok(TERN_OK)
    })
}

/// Releases a session; NULL is fine. One in use is released by the call that uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_free(session: *mut tern_session) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.free(session));
}

/// Evaluates what the transcript holds, ahead of the next question. `cancel` may be NULL. CANCELLED keeps what was
/// evaluated. CONTEXT_FULL; INVALID_STATE while an answer is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_prewarm(
    session: *mut tern_session,
    cancel: *const super::cancel::tern_cancel,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut chat = call.take(session, "session")?;
        let cancel = call.hold_opt(cancel, "cancel")?.map(|cancel| Cancel::clone(&cancel));
        chat.session.prewarm(cancel.as_ref())?;
        Ok(TERN_OK)
    })
}

/// Replaces the transcript; what it shares with the old one, token by token, is not evaluated again. Copied. A first
/// message of role system takes the place of the instructions; without one they stay. `item_size` is
/// sizeof(tern_message). INVALID_STATE while an answer is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_set_messages(
    session: *mut tern_session,
    messages: *const tern_message,
    item_size: usize,
    n: usize,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let mut chat = call.take(session, "session")?;
        let messages = self::messages(call, messages, item_size, n)?;
        let turns = messages
            .iter()
            .map(|message| Turn { role: message.role.into(), content: message.content.into() });
        chat.session.set_turns(turns.collect())?;
        Ok(TERN_OK)
    })
}

/// The transcript as JSON: [{"role","content"}], the instructions first. Size query: buf NULL, cap 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_transcript_to_json(
    session: *const tern_session,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let chat = call.look(session, "session")?;
        call.give_text(chat.session.transcript_json().as_bytes(), buf, cap, out_len)
    })
}

/// Replaces the transcript by one in JSON, as tern_session_set_messages. INVALID_ARGUMENT names line and column.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_transcript_from_json(
    session: *mut tern_session,
    json: *const c_char,
    len: usize,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let mut chat = call.take(session, "session")?;
        let json = call.text(json, len, "json")?;
        chat.session.set_transcript_json(json)?;
        Ok(TERN_OK)
    })
}

/// A session that goes on from here by itself, with a context of its own, so that two forks are never BUSY to each
/// other; full pages are shared. INVALID_STATE while an answer is under way.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_session_fork(
    session: *const tern_session,
    out_session: *mut *mut tern_session,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let chat = call.look(session, "session")?;
        let out = call.out(out_session, "out_session")?;
        out.write(Chat::give(chat.session.fork()?));
        Ok(TERN_OK)
    })
}

/// The whole session as bytes: transcript, template, keys and values. Size query: buf NULL, cap 0. INVALID_STATE
/// while an answer is under way, and after TERN_TRIM_KV until the next eval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_save(
    session: *const tern_session,
    buf: *mut c_void,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let chat = call.look(session, "session")?;
        call.give_array(&chat.session.save()?, buf.cast(), cap, out_len, "out_len")
    })
}

/// A session from saved bytes; data is not kept. Instructions, template and policy are the saved ones: instructions
/// and chat_template are NULL in `params`. STATE_MISMATCH for bytes of another model or version, or damaged ones.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_session_restore(
    model: *const tern_model,
    data: *const c_void,
    len: usize,
    params: *const tern_session_params,
    out_session: *mut *mut tern_session,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let bytes = call.array(data.cast(), len, "data")?;
        let out = call.out(out_session, "out_session")?;
        let options = session_options(call, params)?;
        out.write(Chat::give(Session::restore(&model, bytes, options)?));
        Ok(TERN_OK)
    })
}

/// The context below, whose sequence 0 is the session's. Borrowed until the session is freed: tern_context_free does
/// nothing to it. While a call on the session runs, calls on it are BUSY, and the other way round.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_session_context(
    session: *mut tern_session,
    out_context: *mut *mut tern_context,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut chat = call.take(session, "session")?;
        let out = call.out(out_context, "out_context")?;
        let Chat { session, context } = &mut *chat;
        let lent =
            context.get_or_insert_with(|| Lent::new(Cell::new(Arc::clone(session.context()))));
        out.write(lent.get());
        Ok(TERN_OK)
    })
}
