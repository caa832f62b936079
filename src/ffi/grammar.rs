//! `tern_grammar_*`: what text may be, compiled once, shared by any number of threads and sessions.

use super::{
    args::unknown,
    boundary::Call,
    error::tern_error,
    handle::Shared,
    model::tern_model,
    status::{TERN_OK, tern_status},
};
use crate::sampler::{Grammar, GrammarKind};
use std::ffi::c_char;

/// A compiled grammar: immutable, counted, for any number of threads.
pub type tern_grammar = Shared<Grammar>;

/// Any JSON value; src is ignored and may be NULL.
pub const TERN_GRAMMAR_JSON: i32 = 0;
/// A JSON Schema.
pub const TERN_GRAMMAR_JSON_SCHEMA: i32 = 1;
/// A regular expression for the whole text.
pub const TERN_GRAMMAR_REGEX: i32 = 2;
/// llama.cpp's notation.
pub const TERN_GRAMMAR_GBNF: i32 = 3;
/// A JSON array of strings, one of which is the text.
pub const TERN_GRAMMAR_CHOICE: i32 = 4;
/// llguidance's dialect of Lark.
pub const TERN_GRAMMAR_LARK: i32 = 5;

/// Compiles a grammar over the model's vocabulary. `kind`: TERN_GRAMMAR_*. src is not kept. GRAMMAR for a source that
/// breaks its language, can never be satisfied or asks for too much: the error names line and column.
/// Free it with tern_grammar_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_grammar_compile(
    model: *const tern_model,
    kind: i32,
    src: *const c_char,
    len: usize,
    out_grammar: *mut *mut tern_grammar,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_grammar, "out_grammar")?;
        let kind = match kind {
            TERN_GRAMMAR_JSON => GrammarKind::Json,
            TERN_GRAMMAR_JSON_SCHEMA => GrammarKind::JsonSchema,
            TERN_GRAMMAR_REGEX => GrammarKind::Regex,
            TERN_GRAMMAR_GBNF => GrammarKind::Gbnf,
            TERN_GRAMMAR_CHOICE => GrammarKind::Choice,
            TERN_GRAMMAR_LARK => GrammarKind::Lark,
            other => return Err(unknown("kind", other)),
        };
        let source = match kind {
            GrammarKind::Json => b"",
            _ => call.raw_text(src, len, "src")?,
        };
        out.write(Shared::give(Grammar::compile(model.grammar_env()?, kind, source)?));
        Ok(TERN_OK)
    })
}

/// The same grammar, one reference more; NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_grammar_retain(grammar: *const tern_grammar) -> *mut tern_grammar {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.retain(grammar)
}

/// Releases one reference; NULL is fine. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_grammar_free(grammar: *mut tern_grammar) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.release(grammar));
}
