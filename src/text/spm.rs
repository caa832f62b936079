//! SentencePiece's pair merging, as the first LLaMA and Gemma use it.
//!
//! The pair whose text has the highest score merges first, the leftmost among
//! equals. The merge lists of the `tokenizers` crate cannot say "equals": each
//! entry has a rank of its own, and two ways to spell one token would differ.

use super::{
    bpe::grow,
    vocab::{Kind, Vocab, byte, reserved, tokens},
    window::{self, Span},
};
use crate::{
    control::Cancel,
    error::{Error, Result},
    file::Metadata,
};
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::Range,
};
use tokenizers::models::bpe;

const SCORES: &str = "tokenizer.ggml.scores";

/// How many bytes two windows of a long text share at least.
const OVERLAP: usize = 1024;

/// The id of a character that is no token.
const NONE: u32 = u32::MAX;

/// Symbols between two looks at the cancel token.
const POLL: usize = 1 << 14;

/// A SentencePiece encoder.
pub(super) struct SentencePiece {
    /// The tokens that merges may make.
    ids: bpe::Vocab,
    scores: Vec<f32>,
    /// The token of each byte.
    bytes: Box<[u32; 256]>,
    overlap: usize,
    /// Whether text begins with a space that is not there.
    pub(super) space_prefix: bool,
}

impl SentencePiece {
    pub(super) fn open(metadata: &Metadata, vocab: &Vocab) -> Result<SentencePiece> {
        let mut ids = bpe::Vocab::with_capacity(vocab.len());
        let mut bytes = Box::new([NONE; 256]);
        let texts = tokens(metadata)?.strings().into_iter().flatten();
        for (id, text) in (0..vocab.len() as u32).zip(texts) {
            match vocab.kind(id) {
                Kind::Byte => {
                    let slot = byte(text).map(|byte| &mut bytes[usize::from(byte)]);
                    if let Some(slot) = slot.filter(|slot| **slot == NONE) {
                        *slot = id;
                    }
                }
                kind if kind.is_text() => {
                    if let Ok(text) = str::from_utf8(text) {
                        ids.entry(text.to_owned()).or_insert(id);
                    }
                }
                _ => {}
            }
        }
        if let Some(byte) = bytes.iter().position(|id| *id == NONE) {
            let rule = format!("no token '<0x{byte:02X}>' of type 6, wanted one for each byte");
            return Err(metadata.reject(super::vocab::TOKENS, rule));
        }
        let longest = ids.keys().map(String::len).max().unwrap_or(0);
        Ok(SentencePiece {
            ids,
            scores: scores(metadata, vocab.len())?,
            bytes,
            overlap: OVERLAP.max(longest + 1),
            space_prefix: metadata.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        })
    }

    /// Adds the tokens of a text without special tokens. `begins`: at the start or after a special
    /// token, where the prefix belongs.
    pub(super) fn encode(
        &self,
        text: &str,
        begins: bool,
        cancel: Option<&Cancel>,
        out: &mut Vec<i32>,
    ) -> Result<()> {
        let mut spaced = String::new();
        let spaces = text.bytes().filter(|byte| *byte == b' ').count();
        let len = text.len() + 2 * spaces + 3;
        spaced
            .try_reserve(len)
            .map_err(|_| Error::OutOfMemory { what: "a text to encode", bytes: len as u64 })?;
        if begins && self.space_prefix {
            spaced.push('▁');
        }
        spaced.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        let floor = |mut place: usize| {
            while !spaced.is_char_boundary(place) {
                place -= 1;
            }
            place
        };
        let spans = window::merge(spaced.len(), self.overlap, floor, |part, spans| {
            self.merge(&spaced[part], cancel, spans)
        })?;
        grow(out, spans.len())?;
        let mut place = 0;
        for span in spans {
            let part = place..place + span.len as usize;
            place = part.end;
            match span.id {
                NONE => {
                    let bytes = &spaced.as_bytes()[part];
                    grow(out, bytes.len())?;
                    out.extend(bytes.iter().map(|byte| self.bytes[usize::from(*byte)] as i32));
                }
                id => out.push(id as i32),
            }
        }
        Ok(())
    }

    fn merge(&self, text: &str, cancel: Option<&Cancel>, spans: &mut Vec<Span>) -> Result<()> {
        let mut merger =
            Merger { encoder: self, text, symbols: Vec::new(), queue: BinaryHeap::new() };
        merger.symbols = reserved(text.len(), "the symbols of a text")?;
        for (start, c) in text.char_indices() {
            let at = merger.symbols.len() as u32;
            let len = c.len_utf8() as u32;
            merger.symbols.push(Symbol {
                start: start as u32,
                len,
                prev: at.wrapping_sub(1),
                next: at + 1,
            });
        }
        for at in 1..merger.symbols.len() {
            merger.consider(at as u32 - 1, at as u32);
        }
        let mut steps = 0;
        while let Some(pair) = merger.queue.pop() {
            if steps % POLL == 0 {
                cancel.map_or(Ok(()), Cancel::check)?;
            }
            steps += 1;
            merger.apply(&pair);
        }
        let live = merger.symbols.iter().filter(|symbol| symbol.len > 0);
        spans.extend(live.map(|symbol| Span {
            id: self.ids.get(&text[symbol.range()]).copied().unwrap_or(NONE),
            len: symbol.len,
        }));
        Ok(())
    }
}

struct Merger<'a> {
    encoder: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

/// A part of the text; empty once it has been merged into the one on its left.
struct Symbol {
    start: u32,
    len: u32,
    /// Out of range at the ends of the text.
    prev: u32,
    next: u32,
}

impl Symbol {
    fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// Two neighbours that make a token; the greatest merges first.
struct Pair {
    score: f32,
    left: Reverse<u32>,
    right: u32,
    /// Bytes of both. If they differ from what the symbols have, one has grown since.
    len: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(self.left.cmp(&other.left))
            .then(other.len.cmp(&self.len))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Pair {}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Merger<'_> {
    /// Queues two neighbours if their text is a token.
    fn consider(&mut self, left: u32, right: u32) {
        let (Some(a), Some(b)) =
            (self.symbols.get(left as usize), self.symbols.get(right as usize))
        else {
            return;
        };
        let range = a.range().start..b.range().end;
        let len = range.len() as u32;
        if let Some(id) = self.encoder.ids.get(&self.text[range]) {
            let score = self.encoder.scores[*id as usize];
            self.queue.push(Pair { score, left: Reverse(left), right, len });
        }
    }

    fn apply(&mut self, pair: &Pair) {
        let (left, right) = (pair.left.0 as usize, pair.right as usize);
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.len == 0 || b.len == 0 || a.len + b.len != pair.len {
            return;
        }
        let (prev, next) = (a.prev, b.next);
        self.symbols[left].len = pair.len;
        self.symbols[left].next = next;
        self.symbols[right].len = 0;
        if let Some(symbol) = self.symbols.get_mut(next as usize) {
            symbol.prev = left as u32;
        }
        self.consider(prev, left as u32);
        self.consider(left as u32, next);
    }
}

fn scores(metadata: &Metadata, len: usize) -> Result<Vec<f32>> {
    let array = metadata.array(SCORES)?;
    let Some(values) = array.floats().filter(|_| array.len() == len) else {
        return Err(
            metadata.reject(SCORES, format!("{array}, wanted {len} floats, one for each token"))
        );
    };
    let mut scores = reserved(len, "the scores of tokens")?;
    for (token, score) in values.enumerate() {
        if score.is_nan() {
            return Err(
                metadata.reject(SCORES, format!("token {token} has a score that is no number"))
            );
        }
        // Zeros of both signs are equal scores.
        scores.push(score as f32 + 0.0);
    }
    scores.resize(len, 0.0); // only if the file shrank meanwhile
    Ok(scores)
}
