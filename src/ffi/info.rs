//! What is known of a model: numbers, metadata, chat template.

use super::{
    boundary::Call,
    model::tern_model,
    sized::layout,
    status::{TERN_OK, tern_status, tern_token},
};
use crate::error::Error;
use std::ffi::c_char;

/// A model in numbers. Set its size with tern_model_info_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_model_info {
    pub size: usize,
    pub n_vocab: u32,
    pub n_ctx_train: u32,
    pub n_embd: u32,
    pub n_layer: u32,
    pub n_head: u32,
    pub n_head_kv: u32,
    pub n_params: u64,
    /// bytes of the tensors in the file
    pub weight_bytes: u64,
    pub file_bytes: u64,
    /// -1: none
    pub bos: tern_token,
    pub eos: tern_token,
    /// end of a turn
    pub eot: tern_token,
}
layout!(Sized tern_model_info {
    size, n_vocab, n_ctx_train, n_embd, n_layer, n_head, n_head_kv, n_params, weight_bytes, file_bytes, bos, eos, eot
});

/// Zeroes `info` and sets its size to `size`, which is sizeof *info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_info_init(info: *mut tern_model_info, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(info, size));
}

/// Fills *out_info as far as its size goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_get_info(
    model: *const tern_model,
    out_info: *mut tern_model_info,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let out = call.out_struct(out_info, "out_info")?;
        let (config, tokenizer) = (model.config(), model.tokenizer());
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.write(&tern_model_info {
            size: 0,
            n_vocab: small(config.n_vocab),
            n_ctx_train: small(config.n_ctx_train),
            n_embd: small(config.n_embd),
            n_layer: small(config.n_layer),
            n_head: small(config.n_head),
            n_head_kv: small(config.n_head_kv),
            n_params: model.n_params(),
            weight_bytes: model.weight_bytes(),
            file_bytes: model.file_bytes(),
            bos: tokenizer.bos().unwrap_or(-1),
            eos: tokenizer.eos().unwrap_or(-1),
            eot: tokenizer.eot().unwrap_or(-1),
        });
        Ok(TERN_OK)
    })
}

/// How many keys the file's metadata has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_meta_count(
    model: *const tern_model,
    out_n: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        call.out(out_n, "out_n")?.write(model.metadata().len());
        Ok(TERN_OK)
    })
}

/// Key and value at an index, in file order; NOT_FOUND from the count on. The key is not NUL-terminated and lives
/// as long as the model; out_key and out_key_len may be NULL. The value comes as text: strings as they are, arrays
/// as their length and kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_meta_at(
    model: *const tern_model,
    i: usize,
    out_key: *mut *const c_char,
    out_key_len: *mut usize,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let metadata = model.metadata();
        let (key, value) = metadata.at(i).ok_or_else(|| {
            Error::NotFound(format!("key {i}: the file has {}", metadata.len()).into())
        })?;
        let given = call.give_text(value.to_string().as_bytes(), buf, cap, out_len)?;
        if let Some(out_key) = call.out_opt(out_key) {
            out_key.write(key.as_ptr().cast());
        }
        if let Some(out_len) = call.out_opt(out_key_len) {
            out_len.write(key.len());
        }
        Ok(given)
    })
}

/// The value of a key, as text as tern_model_meta_at gives it. NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_meta_get(
    model: *const tern_model,
    key: *const c_char,
    key_len: usize,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let key = call.text(key, key_len, "key")?;
        let value = model
            .metadata()
            .get(key)
            .ok_or_else(|| Error::NotFound(format!("no key {key:?}").into()))?;
        call.give_text(value.to_string().as_bytes(), buf, cap, out_len)
    })
}

/// The model's chat template in Jinja, as tern uses it: corrected where a converter is known to have written a wrong
/// one. NOT_FOUND if the file has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_chat_template(
    model: *const tern_model,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let model = call.hold(model, "model")?;
        let template = model
            .chat_template()?
            .ok_or(Error::NotFound("the model has no chat template".into()))?;
        call.give_text(template.source().as_bytes(), buf, cap, out_len)
    })
}
