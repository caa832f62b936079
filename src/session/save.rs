//! A session as bytes: transcript, template and cache.
//!
//! ```text
//! "TERNSES1", length of the JSON as u64, the JSON, then sequence 0 as `context` saves it
//! ```

use super::{OnFull, Said, Session, SessionOptions, Turn, look};
use crate::{
    context::Context,
    error::{Error, Result},
    model::Model,
    text::Template,
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, RwLock};

const MAGIC: &[u8; 8] = b"TERNSES1";

/// What the JSON holds.
#[derive(Serialize, Deserialize)]
struct Saved {
    template: String,
    turns: Vec<Turn>,
    on_full: OnFull,
    n_keep: usize,
    said: Said,
}

impl Session {
    /// The whole session as bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] while an answer is under way, or after a trim of the cache; [`Error::Busy`].
    pub fn save(&self) -> Result<Vec<u8>> {
        self.idle()?;
        let saved = Saved {
            template: self.template.source().to_owned(),
            turns: self.turns.clone(),
            on_full: self.on_full,
            n_keep: self.n_keep,
            said: self.said.clone(),
        };
        let json = serde_json::to_vec(&saved)
            .map_err(|_| Error::InvalidState("the transcript has no JSON form"))?;
        let sequence = look(&self.context)?.save_sequence(0)?;
        let mut out = Vec::new();
        let len = 16 + json.len() + sequence.len();
        out.try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory { what: "a saved session", bytes: len as u64 })?;
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(json.len() as u64).to_le_bytes());
        out.extend_from_slice(&json);
        out.extend_from_slice(&sequence);
        Ok(out)
    }

    /// A session from bytes that [`Session::save`] gave. Instructions, template and policies are the saved ones.
    ///
    /// # Errors
    ///
    /// [`Error::StateMismatch`] for bytes of another model or version, or damaged ones; [`Error::InvalidArgument`] if
    /// the options name instructions or a template; those of [`Session::new`].
    pub fn restore(model: &Model, bytes: &[u8], options: SessionOptions) -> Result<Self> {
        if options.instructions.is_some() || options.template.is_some() {
            return Err(Error::InvalidArgument(
                "instructions and template are the saved ones".into(),
            ));
        }
        let damaged = |what: &str| Error::StateMismatch(what.into());
        let head =
            bytes.first_chunk::<16>().ok_or_else(|| damaged("too short for a saved session"))?;
        if &head[..8] != MAGIC {
            return Err(damaged("the bytes do not begin as a saved session does"));
        }
        let len = u64::from_le_bytes([
            head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
        ]);
        let rest = &bytes[16..];
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= rest.len())
            .ok_or_else(|| damaged("cut short"))?;
        let (json, sequence) = rest.split_at(len);
        let saved: Saved = serde_json::from_slice(json)
            .map_err(|error| Error::StateMismatch(format!("transcript: {error}")))?;
        let vocab = model.config().n_vocab;
        if saved
            .said
            .tokens
            .iter()
            .any(|token| usize::try_from(*token).map_or(true, |token| token >= vocab))
        {
            return Err(damaged("a token outside the vocabulary"));
        }
        let template = Template::new(&saved.template)
            .map_err(|error| Error::StateMismatch(format!("the saved template: {error}")))?;
        let mut context = Context::new(model, options.context)?;
        context.load_sequence(0, sequence)?;
        Ok(Self {
            model: model.clone(),
            context: Arc::new(RwLock::new(context)),
            template,
            turns: saved.turns,
            on_full: saved.on_full,
            n_keep: saved.n_keep,
            said: saved.said,
            generation: None,
            last_text: String::new(),
        })
    }
}
