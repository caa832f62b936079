//! `tern_seq_*`: lines of tokens in a context.

use super::{
    args::sequence,
    boundary::Call,
    context::tern_context,
    error::tern_error,
    status::{TERN_OK, tern_seq, tern_status, tern_token},
};
use std::ffi::{c_char, c_void};

/// How many tokens a sequence has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_length(
    context: *const tern_context,
    s: tern_seq,
    out_n: *mut u32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.look(context, "context")?;
        let out = call.out(out_n, "out_n")?;
        let n = cell.read()?.tokens(sequence(s)?)?.len();
        out.write(u32::try_from(n).unwrap_or(u32::MAX));
        Ok(TERN_OK)
    })
}

/// Forgets the tokens from new_length on. A new_length above the length changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_truncate(
    context: *mut tern_context,
    s: tern_seq,
    new_length: u32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        cell.write()?.truncate(sequence(s)?, new_length as usize)?;
        Ok(TERN_OK)
    })
}

/// Makes the empty sequence dst equal to src: O(1), pages are shared and copied on write. dst not empty:
/// INVALID_STATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_fork(
    context: *mut tern_context,
    src: tern_seq,
    dst: tern_seq,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        cell.write()?.fork(sequence(src)?, sequence(dst)?)?;
        Ok(TERN_OK)
    })
}

/// Keeps the first n_keep tokens, drops the next n_discard and moves the rest down. Outside the determinism
/// contract: keys are rotated again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_shift(
    context: *mut tern_context,
    s: tern_seq,
    n_keep: u32,
    n_discard: u32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        cell.write()?.shift(sequence(s)?, n_keep as usize, n_discard as usize)?;
        Ok(TERN_OK)
    })
}

/// Forgets all tokens of a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_clear(context: *mut tern_context, s: tern_seq) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        cell.write()?.clear(sequence(s)?)?;
        Ok(TERN_OK)
    })
}

/// How many leading tokens of a sequence equal the given ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_common_prefix(
    context: *const tern_context,
    s: tern_seq,
    tokens: *const tern_token,
    n: usize,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.look(context, "context")?;
        let tokens = call.array(tokens, n, "tokens")?;
        let out = call.out(out_n, "out_n")?;
        out.write(cell.read()?.common_prefix(sequence(s)?, tokens)?);
        Ok(TERN_OK)
    })
}

/// A sequence as bytes: its tokens, keys and values, and what they belong to. Size query: buf NULL, cap 0.
/// INVALID_STATE after TERN_TRIM_KV, until the next eval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_state_save(
    context: *const tern_context,
    s: tern_seq,
    buf: *mut c_void,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.look(context, "context")?;
        let out = call.out(out_len, "out_len")?;
        let context = cell.read()?;
        let sequence = sequence(s)?;
        let len = context.saved_len(sequence)?;
        if len > cap {
            out.write(len);
            return if buf.is_null() && cap == 0 {
                Ok(TERN_OK)
            } else {
                Err(super::error::Failure::BufferTooSmall)
            };
        }
        call.give_array(&context.save_sequence(sequence)?, buf.cast(), cap, out_len, "out_len")
    })
}

/// Replaces a sequence by a saved one. STATE_MISMATCH for bytes of another model, kind or version, or damaged ones,
/// leaves it as it was. data is not kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_state_load(
    context: *mut tern_context,
    s: tern_seq,
    data: *const c_void,
    len: usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        let bytes = call.array(data.cast(), len, "data")?;
        cell.write()?.load_sequence(sequence(s)?, bytes)?;
        Ok(TERN_OK)
    })
}

/// Writes a sequence to a prompt file: one prefill for any number of processes and characters. Written beside the
/// path and renamed. IO; INVALID_STATE as tern_seq_state_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_prefix_save(
    context: *const tern_context,
    s: tern_seq,
    path_utf8: *const c_char,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let cell = call.look(context, "context")?;
        let path = call.path(path_utf8, "path_utf8")?;
        cell.read()?.save_prefix(sequence(s)?, path)?;
        Ok(TERN_OK)
    })
}

/// Maps a prompt file into an empty sequence (else INVALID_STATE): copy on write, no prefill. The file must not
/// change while a page of it is in use. IO, STATE_MISMATCH.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_seq_prefix_map(
    context: *mut tern_context,
    s: tern_seq,
    path_utf8: *const c_char,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let cell = call.take(context, "context")?;
        let path = call.path(path_utf8, "path_utf8")?;
        cell.write()?.map_prefix(sequence(s)?, path)?;
        Ok(TERN_OK)
    })
}
