//! Tokens arriving one by one → whole characters.

use super::{DecodeOptions, Tokenizer};
use crate::error::Result;

/// Turns tokens into text as they come, never a part of a character.
///
/// A character may span tokens, and a token may hold bytes that are no
/// character. What comes out over all calls, [`finish`](Detok::finish)
/// included, is what [`String::from_utf8_lossy`] makes of the bytes of
/// [`Tokenizer::decode`] with the same options.
#[derive(Clone, Debug, Default)]
pub struct Detok {
    options: DecodeOptions,
    /// Bytes of a character that is not complete; after `finish`, none.
    torn: Vec<u8>,
    text: String,
    /// Tokens have been pushed.
    begun: bool,
    /// A token that stands for text has been pushed.
    text_begun: bool,
    /// An EOS that is left out if nothing follows it.
    held: Option<i32>,
}

impl Detok {
    /// A decoder at the start of a text.
    #[must_use]
    pub fn new(options: DecodeOptions) -> Detok {
        Detok { options, ..Detok::default() }
    }

    /// Adds a token and returns the characters that are complete with it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::Error::InvalidArgument) if the id is out of
    /// range; the decoder is then as it was, its text empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: i32) -> Result<&str> {
        self.text.clear();
        tokenizer.piece(token, false)?;
        if let Some(held) = self.held.take() {
            self.add(tokenizer, held)?;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        let DecodeOptions { remove_special, .. } = self.options;
        if remove_special && tokenizer.eos() == Some(token) {
            self.held = Some(token);
        } else if !(remove_special && first && tokenizer.bos() == Some(token)) {
            self.add(tokenizer, token)?;
        }
        Ok(&self.text)
    }

    /// Ends the text and returns the rest: U+FFFD if a character is torn.
    ///
    /// The decoder is then at the start of another text.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.torn.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        let text = std::mem::take(&mut self.text);
        *self = Detok { text, ..Detok::new(self.options) };
        &self.text
    }

    fn add(&mut self, tokenizer: &Tokenizer, token: i32) -> Result<()> {
        let piece = tokenizer.piece(token, self.options.render_special)?;
        let mut text_begins = !self.text_begun;
        self.torn.extend(tokenizer.without_prefix(token, piece, &mut text_begins));
        self.text_begun = !text_begins;
        let mut done = 0;
        for chunk in self.torn.utf8_chunks() {
            self.text.push_str(chunk.valid());
            done += chunk.valid().len();
            let bad = chunk.invalid();
            let torn = str::from_utf8(bad).is_err_and(|error| error.error_len().is_none());
            if torn && done + bad.len() == self.torn.len() {
                break; // more bytes may complete it
            }
            if !bad.is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
            done += bad.len();
        }
        self.torn.drain(..done);
        Ok(())
    }
}
