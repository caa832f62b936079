//! `tern_detok_*`: tokens as they come → whole characters.

use super::{
    boundary::Call,
    handle::Handle,
    model::tern_model,
    status::{TERN_OK, tern_status, tern_token},
    vocab::decode_options,
};
use crate::{error::Result, model::Model, text::Detok};
use std::ffi::c_char;

/// A decoder with the model whose tokens it takes.
pub struct Decoder {
    model: Model,
    detok: Detok,
}

/// Turns tokens into text as they come.
pub type tern_detok = Handle<Decoder>;

/// Makes a decoder at the start of a text; holds a reference to the model. `flags`: TERN_DETOK_*.
/// Free it with tern_detok_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_detok_new(
    model: *const tern_model,
    flags: u32,
    out_detok: *mut *mut tern_detok,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_detok, "out_detok")?;
        let detok = Detok::new(decode_options(flags)?);
        out.write(Handle::give(Decoder { model: Model::clone(&model), detok }));
        Ok(TERN_OK)
    })
}

/// Adds a token and gives the characters that are complete with it: never a part of one, perhaps none. Not
/// NUL-terminated; lives until the next call on the decoder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_detok_push(
    detok: *mut tern_detok,
    token: tern_token,
    out_utf8: *mut *const c_char,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    push(&call, detok, out_utf8, out_len, |decoder| {
        decoder.detok.push(decoder.model.tokenizer(), token)
    })
}

/// Ends the text and gives the rest: U+FFFD for a torn end. The decoder is then at the start of another text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_detok_finish(
    detok: *mut tern_detok,
    out_utf8: *mut *const c_char,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    push(&call, detok, out_utf8, out_len, |decoder| Ok(decoder.detok.finish()))
}

fn push(
    call: &Call,
    detok: *mut tern_detok,
    out_utf8: *mut *const c_char,
    out_len: *mut usize,
    text: impl FnOnce(&mut Decoder) -> Result<&str>,
) -> tern_status {
    call.run(|call| {
        let mut decoder = call.take(detok, "detok")?;
        let (out_utf8, out_len) = (call.out(out_utf8, "out_utf8")?, call.out(out_len, "out_len")?);
        // An empty text gets an address that can be read as a C string.
        let text = match text(&mut decoder)? {
            "" => (c"".as_ptr(), 0),
            text => (text.as_ptr().cast(), text.len()),
        };
        out_utf8.write(text.0);
        out_len.write(text.1);
        Ok(TERN_OK)
    })
}

/// Releases a decoder; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_detok_free(detok: *mut tern_detok) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.free(detok));
}
