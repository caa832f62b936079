//! Byte-level byte-pair encoding, by the `tokenizers` crate.
//!
//! The crate merges; what is done here is what it cannot promise: pieces are
//! cut in linear time ([`split`](super::split)), long ones are merged in
//! windows that can be cancelled ([`window`](super::window)), and no byte of
//! the text is dropped when the vocabulary has no token for it.

use super::{
    split::Split,
    vocab::{Vocab, byte_char, reserved, tokens},
    window::{self, Span},
};
use crate::{
    control::Cancel,
    error::{Error, Result},
    file::Metadata,
};
use tokenizers::{
    Model,
    models::bpe::{self, BPE},
};

const MERGES: &str = "tokenizer.ggml.merges";

/// How many bytes two windows of a long piece share at least. The letters and
/// spaces of real text agree again within a few tokens.
const OVERLAP: usize = 1024;

/// What a pre-tokenizer name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) split: Split,
    /// A piece that is a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether BOS is added where the file does not say.
    pub(super) add_bos: bool,
}

impl Rules {
    /// The rules a file names.
    ///
    /// A LLaMA-3 vocabulary is known by its size and its BOS where the name is
    /// missing, as it is in the official BitNet files.
    pub(super) fn of(metadata: &Metadata) -> Result<Rules> {
        let llama3 = Rules { split: Split::Llama3, ignore_merges: true, add_bos: true };
        let plain = |split| Rules { split, ignore_merges: false, add_bos: false };
        match metadata.opt_str("tokenizer.ggml.pre")? {
            Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3") => Ok(llama3),
            Some("qwen2") => Ok(plain(Split::Qwen2)),
            Some("falcon_e" | "falcon-e") => Ok(plain(Split::FalconE)),
            Some("gpt-2" | "default") | None if is_llama3(metadata)? => Ok(llama3),
            Some("gpt-2" | "default") | None => Ok(plain(Split::Gpt2)),
            Some(other) => Err(Error::unsupported_model(
                format!("pre-tokenizer '{other}'"),
                "known are llama-bpe, llama3, llama-v3, falcon3, falcon_e, qwen2, gpt-2 and default",
            )),
        }
    }
}

fn is_llama3(metadata: &Metadata) -> Result<bool> {
    let tokens = tokens(metadata)?;
    let bos = tokens.strings().and_then(|mut tokens| tokens.nth(128_000));
    Ok(tokens.len() == 128_256 && bos == Some(b"<|begin_of_text|>"))
}

/// A byte-level encoder.
pub(super) struct ByteLevel {
    model: Box<BPE>,
    split: Split,
    overlap: usize,
    /// Bytes without a token.
    missing: Vec<u8>,
}

impl ByteLevel {
    pub(super) fn open(metadata: &Metadata, rules: Rules, vocab: &Vocab) -> Result<ByteLevel> {
        let mut ids = bpe::Vocab::with_capacity(vocab.len());
        let texts = tokens(metadata)?.strings().into_iter().flatten();
        for (id, text) in (0..vocab.len() as u32).zip(texts) {
            // Text must never become a control token, and text is UTF-8.
            if vocab.kind(id).is_text()
                && let Ok(text) = str::from_utf8(text)
            {
                ids.entry(text.to_owned()).or_insert(id);
            }
        }
        let missing =
            (0..=255).filter(|byte| !ids.contains_key(byte_char(*byte).encode_utf8(&mut [0; 4])));
        let missing = missing.collect();
        let longest = (0..vocab.len() as u32).map(|id| vocab.bytes(id).len()).max().unwrap_or(0);
        let model = BPE::builder()
            .vocab_and_merges(ids, merges(metadata)?)
            .ignore_merges(rules.ignore_merges)
            // A cache would grow with use, and its lock would be shared by all threads.
            .cache_capacity(0)
            .build()
            .map_err(|error| metadata.reject(MERGES, error.to_string()))?;
        Ok(ByteLevel {
            model: Box::new(model),
            split: rules.split,
            overlap: OVERLAP.max(longest + 1),
            missing,
        })
    }

    /// Adds the tokens of a text without special tokens.
    pub(super) fn encode(
        &self,
        text: &str,
        cancel: Option<&Cancel>,
        out: &mut Vec<i32>,
    ) -> Result<()> {
        let mut spelled = String::new();
        self.split.each(text, &mut |piece| {
            let piece = piece.as_bytes();
            if piece.len() <= self.overlap * 16 {
                cancel.map_or(Ok(()), Cancel::check)?;
                let tokens = self.merge(piece, &mut spelled)?;
                grow(out, tokens.len())?;
                out.extend(tokens.iter().map(|token| token.id as i32));
                return Ok(());
            }
            let spans = window::merge(
                piece.len(),
                self.overlap,
                |place| place,
                |part, spans| {
                    cancel.map_or(Ok(()), Cancel::check)?;
                    let tokens = self.merge(&piece[part], &mut spelled)?;
                    spans.extend(tokens.iter().map(|token| Span {
                        id: token.id,
                        len: token.value.chars().count() as u32, // a character spells a byte
                    }));
                    Ok(())
                },
            )?;
            grow(out, spans.len())?;
            out.extend(spans.iter().map(|span| span.id as i32));
            Ok(())
        })
    }

    fn merge(&self, piece: &[u8], spelled: &mut String) -> Result<Vec<tokenizers::Token>> {
        if let Some(byte) = piece.iter().find(|byte| self.missing.contains(byte)) {
            return Err(Error::bad_model(
                super::vocab::TOKENS,
                format!("no token for the byte {byte:#04x}, which the text needs"),
            ));
        }
        spelled.clear();
        spelled.extend(piece.iter().map(|byte| byte_char(*byte)));
        self.model.tokenize(spelled).map_err(|error| Error::bad_model(MERGES, error.to_string()))
    }
}

/// Makes room for `len` more, or says that there is none.
pub(super) fn grow(out: &mut Vec<i32>, len: usize) -> Result<()> {
    out.try_reserve(len).map_err(|_| Error::OutOfMemory {
        what: "the tokens of a text",
        bytes: ((out.len() + len) as u64).saturating_mul(4),
    })
}

/// The merges in their order, each as its two parts.
fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>> {
    let array = metadata.array(MERGES)?;
    let Some(strings) = array.strings() else {
        return Err(metadata.reject(MERGES, format!("{array}, wanted strings")));
    };
    let mut merges = reserved(array.len(), "the merges of a vocabulary")?;
    for (index, merge) in strings.enumerate() {
        let parts = str::from_utf8(merge).ok().and_then(|merge| merge.split_once(' '));
        match parts {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => {
                let merge = String::from_utf8_lossy(merge).chars().take(64).collect::<String>();
                let rule =
                    format!("merge {index} is {merge:?}, wanted two parts and a space between");
                return Err(metadata.reject(MERGES, rule));
            }
        }
    }
    Ok(merges)
}
