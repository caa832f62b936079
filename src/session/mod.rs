//! A conversation: instructions, turns, and answers that stream.
//!
//! A [`Session`] owns a transcript of messages and a [`Context`] whose sequence 0
//! holds what of it was evaluated. Every prompt is compared with those tokens and
//! only the rest goes through the model, so editing, adding and branching are cheap.

mod fit;
mod generate;
mod save;

pub use generate::{Chunk, Draft, Finish, GenerateOptions, Progressed};

use crate::{
    Cancel,
    context::{Context, ContextOptions, EvalOptions, Status},
    error::{Error, Result},
    model::Model,
    text::{Message, Template},
};
use generate::Generation;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

/// What happens when the context has no room for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// The call fails, or the answer ends with [`Finish::ContextFull`].
    #[default]
    Error,
    /// The oldest turns go; the instructions stay.
    DropTurns,
    /// The first tokens stay, half of the rest goes. Outside the determinism contract.
    Shift,
}

/// How a session is made.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// The system message.
    pub instructions: Option<String>,
    /// A Jinja template instead of the model's.
    pub template: Option<String>,
    /// What happens when the context is full.
    pub on_full: OnFull,
    /// For [`OnFull::Shift`]: first tokens that stay; 0 keeps the instructions.
    pub n_keep: usize,
    /// The context below.
    pub context: ContextOptions,
}

/// One message of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `"system"`, `"user"`, `"assistant"`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// The conversation as it was evaluated: answers keep the very tokens that were generated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    text: String,
    tokens: Vec<i32>,
}

/// A conversation over one model. One thread at a time.
pub struct Session {
    model: Model,
    context: Arc<RwLock<Context>>,
    template: Template,
    turns: Vec<Turn>,
    on_full: OnFull,
    n_keep: usize,
    said: Said,
    generation: Option<Box<Generation>>,
    /// The text of the last chunk of a finished answer.
    last_text: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} turns, generating: {})", self.turns.len(), self.generation.is_some())
    }
}

impl Session {
    /// A session that has said nothing. Nothing is evaluated yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if neither the model nor the options have a chat template; [`Error::InvalidArgument`] if
    /// the template does not compile or refuses the instructions; those of [`Context::new`].
    pub fn new(model: &Model, options: SessionOptions) -> Result<Self> {
        let template = match &options.template {
            Some(source) => Template::new(source)?,
            None => model.chat_template()?.cloned().ok_or_else(|| {
                Error::NotFound("the model has no chat template: give one in the options".into())
            })?,
        };
        let context = Context::new(model, options.context)?;
        let system = options.instructions.map(|content| Turn { role: "system".into(), content });
        let session = Self {
            model: model.clone(),
            context: Arc::new(RwLock::new(context)),
            template,
            turns: system.into_iter().collect(),
            on_full: options.on_full,
            n_keep: options.n_keep,
            said: Said::default(),
            generation: None,
            last_text: String::new(),
        };
        if !session.turns.is_empty() {
            session.render(&session.turns, false)?;
        }
        Ok(session)
    }

    /// The model it stands on.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The context below; sequence 0 is the session's.
    #[must_use]
    pub fn context(&self) -> &Arc<RwLock<Context>> {
        &self.context
    }

    /// What was said so far, the instructions first.
    #[must_use]
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The template in use.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Whether an answer is under way.
    #[must_use]
    pub fn is_generating(&self) -> bool {
        self.generation.is_some()
    }

    /// Replaces the transcript. What it shares with the old one is not evaluated again. A first message of role
    /// `system` takes the place of the instructions; without one they stay.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] while an answer is under way; [`Error::InvalidArgument`] if the template refuses.
    pub fn set_turns(&mut self, turns: Vec<Turn>) -> Result<()> {
        self.idle()?;
        let kept = self.turns.first().filter(|turn| turn.role == "system");
        let replaced = turns.first().is_some_and(|turn| turn.role == "system");
        let turns: Vec<Turn> =
            kept.filter(|_| !replaced).cloned().into_iter().chain(turns).collect();
        if !turns.is_empty() {
            self.render(&turns, false)?;
        }
        self.turns = turns;
        Ok(())
    }

    /// Evaluates what the transcript holds, ahead of the next question.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`]; [`Error::InvalidState`] while an answer is under way; those of an eval.
    pub fn prewarm(&mut self, cancel: Option<&Cancel>) -> Result<()> {
        self.idle()?;
        if self.turns.is_empty() {
            return Ok(());
        }
        let (_, tokens) = self.prompt(&self.turns, false, cancel)?;
        let mut context = lock(&self.context)?;
        let shared = reuse(&mut context, &tokens, false)?;
        let evaluated =
            context.eval(&tokens[shared..], EvalOptions { cancel, ..EvalOptions::default() })?;
        if evaluated.status == Status::Cancelled { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A session that goes on from here by itself, with a context of its own; full pages are shared.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] while an answer is under way; [`Error::Busy`]; [`Error::OutOfMemory`].
    pub fn fork(&self) -> Result<Self> {
        self.idle()?;
        let context = look(&self.context)?.twin();
        Ok(Self {
            model: self.model.clone(),
            context: Arc::new(RwLock::new(context)),
            template: self.template.clone(),
            turns: self.turns.clone(),
            on_full: self.on_full,
            n_keep: self.n_keep,
            said: self.said.clone(),
            generation: None,
            last_text: String::new(),
        })
    }

    /// The transcript as JSON: `[{"role", "content"}]`.
    #[must_use]
    pub fn transcript_json(&self) -> String {
        serde_json::to_string(&self.turns).unwrap_or_default()
    }

    /// Replaces the transcript by one in JSON, as [`Session::set_turns`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with line and column; those of [`Session::set_turns`].
    pub fn set_transcript_json(&mut self, json: &str) -> Result<()> {
        let turns = serde_json::from_str(json)
            .map_err(|error| Error::InvalidArgument(format!("transcript: {error}").into()))?;
        self.set_turns(turns)
    }

    fn idle(&self) -> Result<()> {
        match self.generation {
            None => Ok(()),
            Some(_) => {
                Err(Error::InvalidState("an answer is under way: take it to its end, or stop it"))
            }
        }
    }

    fn render(&self, turns: &[Turn], answer: bool) -> Result<String> {
        self.model.tokenizer().chat_text(&self.template, &messages(turns), answer)
    }

    /// The text and the tokens of a prompt. Where it begins with what was said, the tokens are those.
    fn prompt(
        &self,
        turns: &[Turn],
        answer: bool,
        cancel: Option<&Cancel>,
    ) -> Result<(String, Vec<i32>)> {
        let said = Some((self.said.text.as_str(), &self.said.tokens[..]))
            .filter(|(text, _)| !text.is_empty());
        self.model.tokenizer().encode_chat_after(
            &self.template,
            &messages(turns),
            answer,
            said,
            cancel,
        )
    }
}

fn messages(turns: &[Turn]) -> Vec<Message<'_>> {
    turns.iter().map(|turn| Message { role: &turn.role, content: &turn.content }).collect()
}

/// The context to change, unless another thread is in it.
fn lock(context: &RwLock<Context>) -> Result<RwLockWriteGuard<'_, Context>> {
    context.try_write().map_err(refusal)
}

/// The context to look at, unless another thread changes it.
fn look(context: &RwLock<Context>) -> Result<RwLockReadGuard<'_, Context>> {
    context.try_read().map_err(refusal)
}

fn refusal<T>(error: TryLockError<T>) -> Error {
    match error {
        TryLockError::WouldBlock => Error::Busy,
        TryLockError::Poisoned(_) => Error::Poisoned,
    }
}

/// Cuts sequence 0 to what it shares with `tokens`; with `row`, one token fewer than all, so that a row comes of it.
fn reuse(context: &mut Context, tokens: &[i32], row: bool) -> Result<usize> {
    let shared = context.common_prefix(0, tokens)?;
    let shared = if row { shared.min(tokens.len().saturating_sub(1)) } else { shared };
    if shared < context.tokens(0)?.len() {
        context.truncate(0, shared)?;
    }
    Ok(shared)
}
