//! Grammars: what the text may be, as a mask over the vocabulary.
//!
//! A [`Grammar`] is compiled once and shared by any number of samplers and
//! threads; a [`GrammarState`] is one walk through it. llguidance does the
//! parsing; this room gives it the vocabulary ([`GrammarEnv`]), translates
//! GBNF, bounds what a source may ask for, and keeps its panics inside.
//!
//! **Bounds.** A source has at most [`SOURCE_MAX`] bytes, and its definitions may
//! lead from one to the next only so far (`bounds`). Compiling runs on a thread
//! of its own with a large stack; a step takes less than 32 kB of the caller's.
//! Lexer states, parser items and the work of one step are capped (`env`).

mod bounds;
mod choice;
mod ends;
mod env;
mod gbnf;
mod message;
mod schema;
mod state;

pub use env::{Encode, GrammarEnv, VocabBytes};
pub use state::GrammarState;

use crate::error::{Error, Result};
use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;
use message::{Lines, bare, failure, position};
use serde_json::Value;
use std::{fmt, sync::Arc, thread};

/// Longest source, in bytes.
pub const SOURCE_MAX: usize = 1 << 20;

/// Stack of the threads that compile: address space, of which little is ever touched.
const STACK_BYTES: usize = 16 << 20;

/// The languages a grammar may be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrammarKind {
    /// Any JSON value; the source is ignored.
    Json,
    /// A JSON Schema. A keyword that cannot be honoured is an error.
    JsonSchema,
    /// A regular expression for the whole text, in the syntax of Rust's `regex`.
    Regex,
    /// llama.cpp's notation, with its meaning: sets, repetitions, recursion.
    Gbnf,
    /// A JSON array of strings, one of which is the text.
    Choice,
    /// llguidance's dialect of Lark.
    Lark,
}

/// A compiled grammar over one vocabulary; clones share it.
#[derive(Clone)]
pub struct Grammar(Arc<Shared>);

struct Shared {
    env: Arc<GrammarEnv>,
    /// At the start of the grammar; never stepped, only copied.
    start: Matcher,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("vocab_len", &self.vocab_len()).finish()
    }
}

impl Grammar {
    /// Compiles `source`, UTF-8, over the vocabulary of `env`.
    ///
    /// # Errors
    ///
    /// [`Error::Grammar`], with line and column where one is to blame, for a
    /// source that breaks its language, asks for what cannot be honoured, can
    /// never be satisfied, or exceeds a bound. [`Error::OutOfMemory`] if the
    /// system has no thread to compile on.
    pub fn compile(env: &Arc<GrammarEnv>, kind: GrammarKind, source: &[u8]) -> Result<Self> {
        let source = if kind == GrammarKind::Json { b"" } else { source };
        if source.len() > SOURCE_MAX {
            return Err(Error::Grammar(format!(
                "source of {} bytes, at most {SOURCE_MAX} are taken",
                source.len()
            )));
        }
        let source = std::str::from_utf8(source).map_err(|e| {
            let (line, column) = position(source, e.valid_up_to());
            Error::Grammar(format!("line {line}, column {column}: not UTF-8"))
        })?;
        let start = on_own_stack(|| {
            let (grammar, lines) = translate(kind, source)?;
            let fail = |e| failure(&e, &lines);
            let parser = env.factory().create_parser(grammar).map_err(fail)?;
            ends::check(parser.parser.grammar())?;
            let mut start = Matcher::new(Ok(parser));
            // The first mask finds grammars that no text can begin to satisfy,
            // and fills the lexer's tables for all copies.
            start.compute_mask_or_eos().map_err(fail)?;
            Ok(start)
        })?;
        Ok(Grammar(Arc::new(Shared { env: Arc::clone(env), start })))
    }

    /// Tokens of the vocabulary it was compiled for; rows of logits must have as many.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.0.env.vocab_len()
    }

    pub(super) fn env(&self) -> &GrammarEnv {
        &self.0.env
    }

    /// A matcher at the start, with tables of its own.
    fn start(&self) -> Matcher {
        self.0.start.deep_clone()
    }
}

/// Source → llguidance's form, and the line of the source behind each of its lines.
fn translate(kind: GrammarKind, source: &str) -> Result<(TopLevelGrammar, Lines<'_>)> {
    let json = |source: &str| {
        serde_json::from_str::<Value>(source).map_err(|e| {
            Error::Grammar(format!(
                "line {}, column {}: {}",
                e.line(),
                e.column(),
                bare(&e.to_string())
            ))
        })
    };
    Ok(match kind {
        GrammarKind::Json => {
            (TopLevelGrammar::from_json_schema(schema::one_line(Value::Bool(true))), Lines::None)
        }
        GrammarKind::JsonSchema => {
            let schema = json(source)?;
            bounds::schema::check(&schema)?;
            (
                TopLevelGrammar::from_json_schema(schema::one_line(schema::ready(schema))),
                Lines::Keys(source),
            )
        }
        GrammarKind::Regex => (TopLevelGrammar::from_regex(source), Lines::None),
        GrammarKind::Choice => {
            (TopLevelGrammar::from_lark(choice::to_lark(&json(source)?)?), Lines::None)
        }
        GrammarKind::Lark => {
            bounds::lark::check(source)?;
            (TopLevelGrammar::from_lark(source.to_string()), Lines::Same)
        }
        GrammarKind::Gbnf => {
            let (lark, lines) = gbnf::to_lark(source)?;
            bounds::lark::check(&lark)?;
            (TopLevelGrammar::from_lark(lark), Lines::Mapped(lines))
        }
    })
}

/// Runs `work` on a thread with a stack of [`STACK_BYTES`], and waits for it.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("tern-grammar".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(|_| Error::OutOfMemory {
            what: "a thread for a grammar",
            bytes: STACK_BYTES as u64,
        })?;
        thread.join().unwrap_or_else(|_| {
            Err(Error::Grammar("the grammar brought its compiler to a panic".into()))
        })
    })
}
