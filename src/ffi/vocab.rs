//! Text ↔ tokens: `tern_tokenize`, `tern_detokenize`, `tern_token_*`.

use super::{
    args::flags,
    boundary::Call,
    error::Failure,
    model::tern_model,
    status::{TERN_OK, tern_status, tern_token},
};
use crate::text::DecodeOptions;
use std::ffi::c_char;

/// Add the BOS and EOS that the model wants.
pub const TERN_TOK_ADD_SPECIAL: u32 = 1;
/// Read names of control tokens as those tokens: never for text of users.
pub const TERN_TOK_PARSE_SPECIAL: u32 = 2;
/// Leave out a BOS at the start and an EOS at the end.
pub const TERN_DETOK_REMOVE_SPECIAL: u32 = 1;
/// Write control tokens by their names; else they have no text.
pub const TERN_DETOK_RENDER_SPECIAL: u32 = 2;

/// What the flags of detokenize, piece and detok ask for.
pub(super) fn decode_options(value: u32) -> Result<DecodeOptions, Failure> {
    let set = flags(value, TERN_DETOK_REMOVE_SPECIAL | TERN_DETOK_RENDER_SPECIAL)?;
    Ok(DecodeOptions {
        remove_special: set & TERN_DETOK_REMOVE_SPECIAL != 0,
        render_special: set & TERN_DETOK_RENDER_SPECIAL != 0,
    })
}

/// The tokens of a text. `flags`: TERN_TOK_*. Size query: buf NULL, cap 0.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_tokenize(
    model: *const tern_model,
    text: *const c_char,
    len: usize,
    flags: u32,
    buf: *mut tern_token,
    cap: usize,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let text = call.text(text, len, "text")?;
        let set = self::flags(flags, TERN_TOK_ADD_SPECIAL | TERN_TOK_PARSE_SPECIAL)?;
        let tokens = model.tokenizer().encode(
            text,
            set & TERN_TOK_ADD_SPECIAL != 0,
            set & TERN_TOK_PARSE_SPECIAL != 0,
            None,
        )?;
        call.give_array(&tokens, buf, cap, out_n, "out_n")
    })
}

/// The bytes of tokens: UTF-8, unless the tokens end within a character or stand for other bytes.
/// `flags`: TERN_DETOK_*.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_detokenize(
    model: *const tern_model,
    tokens: *const tern_token,
    n: usize,
    flags: u32,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let tokens = call.array(tokens, n, "tokens")?;
        let bytes = model.tokenizer().decode(tokens, decode_options(flags)?)?;
        call.give_text(&bytes, buf, cap, out_len)
    })
}

/// The bytes of one token, perhaps a part of a character; none for a control token, unless `flags` has
/// TERN_DETOK_RENDER_SPECIAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_token_to_piece(
    model: *const tern_model,
    token: tern_token,
    flags: u32,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let render = decode_options(flags)?.render_special;
        call.give_text(model.tokenizer().piece(token, render)?, buf, cap, out_len)
    })
}

/// Whether a generation ends with the token: a turn's end or the text's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_token_is_eog(
    model: *const tern_model,
    token: tern_token,
    out_is_eog: *mut i32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_is_eog, "out_is_eog")?;
        out.write(model.tokenizer().is_eog(token)?.into());
        Ok(TERN_OK)
    })
}

/// Whether the token marks structure and stands for no text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_token_is_control(
    model: *const tern_model,
    token: tern_token,
    out_is_control: *mut i32,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_is_control, "out_is_control")?;
        out.write(model.tokenizer().is_control(token)?.into());
        Ok(TERN_OK)
    })
}
