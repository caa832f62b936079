//! Text ↔ tokens.
//!
//! A [`Tokenizer`] is a model's vocabulary with the rules its authors trained
//! with: byte-level pair encoding (LLaMA-3, Qwen, Falcon, GPT-2) or
//! SentencePiece (the first LLaMA, Gemma). Neighbours may rely on this:
//!
//! - It is immutable and shared by any number of threads.
//! - Text never becomes a control token unless the caller asks for it.
//! - Byte-level encoding followed by decoding gives the bytes of any text.
//! - Time is linear in the text, up to a logarithm, and long texts are
//!   cancelled within milliseconds.

mod bpe;
pub mod chat;
mod classes;
mod date;
mod footprint;
mod jinja;
mod json;
mod meter;
mod special;
mod split;
mod spm;
mod stops;
mod stream;
mod vocab;
mod window;

use crate::{
    control::Cancel,
    error::{Error, Result, probe},
    file::Metadata,
};
pub use chat::{Message, Template};
pub use stops::Stops;
pub use stream::Detok;

use bpe::{ByteLevel, Rules};
use special::Specials;
use spm::SentencePiece;
use std::fmt;
use vocab::{Kind, Spelling, Vocab};

/// A vocabulary and the rules to cut text into its tokens.
pub struct Tokenizer {
    vocab: Vocab,
    specials: Specials,
    encoder: Encoder,
    add_bos: bool,
    add_eos: bool,
}

enum Encoder {
    ByteLevel(ByteLevel),
    SentencePiece(SentencePiece),
}

/// How tokens become bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeOptions {
    /// Leave out a BOS at the start and an EOS at the end.
    pub remove_special: bool,
    /// Write control tokens by their names; else they have no bytes.
    pub render_special: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a file's metadata describes.
    ///
    /// A pure function of the metadata, so it may run late, on any thread, and
    /// fails in the same way each time.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] naming the key if the vocabulary breaks a rule,
    /// [`Error::UnsupportedModel`] if it is of a kind this library does not
    /// know, [`Error::OutOfMemory`].
    pub fn open(metadata: &Metadata) -> Result<Tokenizer> {
        Self::open_beside(metadata, 0)
    }

    /// As [`open`](Tokenizer::open), while other threads take up to so many bytes of the heap.
    pub(crate) fn open_beside(metadata: &Metadata, others: u64) -> Result<Tokenizer> {
        // What stays, and as much again while it is built: it could not be refused piece by piece.
        let bytes = (2 * Self::heap_bytes(metadata)?).saturating_add(others);
        probe(bytes, "the vocabulary")?;
        let (encoder, vocab, bos_default) = match metadata.str("tokenizer.ggml.model")? {
            "gpt2" => {
                let rules = Rules::of(metadata)?;
                let vocab = Vocab::open(metadata, Spelling::ByteLevel)?;
                (
                    Encoder::ByteLevel(ByteLevel::open(metadata, rules, &vocab)?),
                    vocab,
                    rules.add_bos,
                )
            }
            "llama" => {
                let vocab = Vocab::open(metadata, Spelling::Spaces)?;
                (Encoder::SentencePiece(SentencePiece::open(metadata, &vocab)?), vocab, true)
            }
            other => {
                return Err(Error::unsupported_model(
                    format!("tokenizer '{other}'"),
                    "known are gpt2, which is byte-level BPE, and llama, which is SentencePiece",
                ));
            }
        };
        Ok(Tokenizer {
            specials: Specials::of(&vocab),
            vocab,
            encoder,
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_default),
            add_eos: metadata.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        })
    }

    /// How many tokens there are; ids are 0 to this, exclusive.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.vocab.len()
    }

    /// The tokens of a text.
    ///
    /// `add_special` adds the BOS and EOS that the model wants. `parse_special`
    /// reads names of control tokens as those tokens; without it they are text
    /// like any other. Tokens that the model's authors defined as whole words
    /// are found in both cases.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`]; [`Error::InvalidArgument`] beyond 2 GiB of text;
    /// [`Error::BadModel`] if the vocabulary lacks a token for one of its
    /// bytes; [`Error::OutOfMemory`].
    pub fn encode(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        cancel: Option<&Cancel>,
    ) -> Result<Vec<i32>> {
        let mut out = Vec::new();
        if add_special {
            out.extend(self.bos().filter(|_| self.add_bos));
        }
        self.encode_from(text, 0, &[], parse_special, cancel, &mut out)?;
        if add_special {
            out.extend(self.eos().filter(|_| self.add_eos));
        }
        Ok(out)
    }

    /// Adds the tokens of a text from a place on, without BOS and EOS. No
    /// special token spans one of `barriers`, which ascend.
    fn encode_from(
        &self,
        text: &str,
        from: usize,
        barriers: &[usize],
        parse_special: bool,
        cancel: Option<&Cancel>,
        out: &mut Vec<i32>,
    ) -> Result<()> {
        if i32::try_from(text.len()).is_err() {
            return Err(Error::InvalidArgument(
                format!("{} bytes of text, at most 2 GiB", text.len()).into(),
            ));
        }
        let mut place = from;
        while place < text.len() {
            cancel.map_or(Ok(()), Cancel::check)?;
            let found = self.specials.find(&self.vocab, text, place, parse_special, barriers);
            let end = found.as_ref().map_or(text.len(), |found| found.start);
            if place < end {
                // What follows text that has its tokens already begins nothing.
                let begins = place > from || from == 0;
                let text = &text[place..end];
                match &self.encoder {
                    Encoder::ByteLevel(encoder) => encoder.encode(text, cancel, out)?,
                    Encoder::SentencePiece(encoder) => encoder.encode(text, begins, cancel, out)?,
                }
            }
            place = end;
            if let Some(found) = found {
                bpe::grow(out, 1)?;
                out.push(found.id as i32);
                place = found.end;
            }
        }
        Ok(())
    }

    /// The bytes of tokens; not always UTF-8, since a token may hold a part of a character.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if an id is out of range, [`Error::OutOfMemory`].
    pub fn decode(&self, tokens: &[i32], options: DecodeOptions) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut text_begins = true;
        for (index, token) in tokens.iter().enumerate() {
            let piece = self.piece(*token, options.render_special)?;
            let first = index == 0 && self.bos() == Some(*token);
            let last = index + 1 == tokens.len() && self.eos() == Some(*token);
            if options.remove_special && (first || last) {
                continue;
            }
            let piece = self.without_prefix(*token, piece, &mut text_begins);
            out.try_reserve(piece.len()).map_err(|_| Error::OutOfMemory {
                what: "the text of tokens",
                bytes: (out.len() + piece.len()) as u64,
            })?;
            out.extend(piece);
        }
        Ok(out)
    }

    /// The bytes of one token; empty for a control token unless `render_special`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the id is out of range.
    pub fn piece(&self, token: i32, render_special: bool) -> Result<&[u8]> {
        let id = self.vocab.check(token)?;
        let shown = render_special || self.vocab.kind(id).is_text();
        Ok(if shown { self.vocab.bytes(id) } else { &[] })
    }

    /// The bytes of a token that stands for text; `None` for control tokens,
    /// unused ones, and ids out of range. A grammar may choose only among these.
    #[must_use]
    pub fn token_bytes(&self, token: i32) -> Option<&[u8]> {
        let id = self.vocab.check(token).ok()?;
        self.vocab.kind(id).is_text().then(|| self.vocab.bytes(id))
    }

    /// The name of a special token, as templates write it.
    #[must_use]
    pub fn token_name(&self, token: i32) -> Option<&str> {
        let id = self.vocab.check(token).ok()?;
        str::from_utf8(self.vocab.bytes(id)).ok()
    }

    /// Whether generation ends with this token: a turn's end or the text's.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the id is out of range.
    pub fn is_eog(&self, token: i32) -> Result<bool> {
        self.vocab.check(token)?;
        Ok(self.vocab.eog.binary_search(&token).is_ok())
    }

    /// Whether the token marks structure and stands for no text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the id is out of range.
    pub fn is_control(&self, token: i32) -> Result<bool> {
        Ok(self.vocab.kind(self.vocab.check(token)?) == Kind::Control)
    }

    /// All tokens that end a generation, ascending.
    #[must_use]
    pub fn eog_tokens(&self) -> &[i32] {
        &self.vocab.eog
    }

    /// The token that begins every text.
    #[must_use]
    pub fn bos(&self) -> Option<i32> {
        self.vocab.bos.map(|id| id as i32)
    }

    /// The token that ends a text.
    #[must_use]
    pub fn eos(&self) -> Option<i32> {
        self.vocab.eos.map(|id| id as i32)
    }

    /// The token that ends a turn, where the model has one apart from EOS.
    #[must_use]
    pub fn eot(&self) -> Option<i32> {
        self.vocab.eot.map(|id| id as i32)
    }

    /// Whether `add_special` adds a BOS.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.vocab.bos.is_some()
    }

    /// A piece without the space that encoding put before the text. `text_begins`
    /// is true until a token that stands for text has passed.
    fn without_prefix<'a>(&self, token: i32, piece: &'a [u8], text_begins: &mut bool) -> &'a [u8] {
        if self.token_bytes(token).is_none() || !std::mem::take(text_begins) {
            return piece;
        }
        match &self.encoder {
            Encoder::SentencePiece(encoder) if encoder.space_prefix => {
                piece.strip_prefix(b" ").unwrap_or(piece)
            }
            _ => piece,
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.encoder {
            Encoder::ByteLevel(_) => "byte-level BPE",
            Encoder::SentencePiece(_) => "SentencePiece",
        };
        write!(f, "Tokenizer({kind}, {} tokens)", self.vocab_len())
    }
}
