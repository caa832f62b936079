//! `tern_chat_*`: turns of a conversation → the text a model continues.

use super::{
    args::flags,
    boundary::Call,
    error::{Failure, tern_error},
    model::tern_model,
    sized::layout,
    status::tern_status,
};
use crate::{
    error::Error,
    text::{Message, Template},
};
use std::{borrow::Cow, ffi::c_char};

/// One turn of a conversation. Arrays of it come with the size of one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_message {
    /// "system", "user", "assistant", or what else the template knows
    pub role: *const c_char,
    pub role_len: usize,
    pub content: *const c_char,
    pub content_len: usize,
}
layout!(Item tern_message { role, role_len, content, content_len });

/// End where the assistant's answer begins.
pub const TERN_CHAT_ADD_GENERATION_PROMPT: u32 = 1;

/// How turns become text. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_chat_options {
    pub size: usize,
    /// TERN_CHAT_*
    pub flags: u32,
    /// Jinja instead of the model's; NULL = the model's
    pub chat_template: *const c_char,
    pub chat_template_len: usize,
}
layout!(Sized tern_chat_options { size, flags, chat_template, chat_template_len });

/// Zeroes `options` and sets its size to `size`, which is sizeof *options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_chat_options_init(options: *mut tern_chat_options, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(options, size));
}

/// The turns that C gave.
pub(super) fn messages<'a>(
    call: &'a Call,
    messages: *const tern_message,
    item_size: usize,
    n: usize,
) -> Result<Vec<Message<'a>>, Failure> {
    let messages = call.items(messages, item_size, n, "messages")?;
    let read = |message: &tern_message| {
        Ok(Message {
            role: call.text(message.role, message.role_len, "role")?,
            content: call.text(message.content, message.content_len, "content")?,
        })
    };
    let at = |(i, message)| {
        read(message).map_err(|failure: Failure| match failure {
            Failure::Rust(Error::InvalidArgument(what)) => {
                Failure::invalid(format!("message {i}: {what}"))
            }
            other => other,
        })
    };
    messages.iter().enumerate().map(at).collect()
}

/// Messages to text, for tern_tokenize with ADD_SPECIAL and PARSE_SPECIAL. `item_size` is sizeof(tern_message);
/// `options` NULL = all defaults. NOT_FOUND if neither the model nor the options have a template. The error carries
/// the template's line, or what its raise_exception said (INVALID_ARGUMENT).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_chat_apply_template(
    model: *const tern_model,
    messages: *const tern_message,
    item_size: usize,
    n: usize,
    options: *const tern_chat_options,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let messages = self::messages(call, messages, item_size, n)?;
        let options = call.options(options)?;
        let set = flags(options.flags, TERN_CHAT_ADD_GENERATION_PROMPT)?;
        let given =
            call.text_opt(options.chat_template, options.chat_template_len, "chat_template")?;
        let template = match given {
            Some(source) => Cow::Owned(Template::new(source)?),
            None => Cow::Borrowed(model.chat_template()?.ok_or(Error::NotFound(
                "the model has no chat template: give one in the options".into(),
            ))?),
        };
        let prompt = set & TERN_CHAT_ADD_GENERATION_PROMPT != 0;
        let text = model.tokenizer().chat_text(&template, &messages, prompt)?;
        call.give_text(text.as_bytes(), buf, cap, out_len)
    })
}
