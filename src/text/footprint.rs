//! What a tokenizer will take of the heap, from the metadata alone.

use super::{Tokenizer, vocab::tokens};
use crate::{error::Result, file::Metadata};

/// Bytes of a string's handle, with the id beside it in a table.
const NAMED: u64 = 32;
/// Bytes of a merge in a table: two ids, its rank and the id it makes.
const MERGE: u64 = 16;

impl Tokenizer {
    /// How many bytes of the heap [`open`](Tokenizer::open) will keep, within
    /// a few per cent. Building takes up to as much again for a moment.
    ///
    /// # Errors
    ///
    /// [`BadModel`](crate::Error::BadModel) if the keys are missing or of the wrong kind.
    pub fn heap_bytes(metadata: &Metadata) -> Result<u64> {
        let tokens = tokens(metadata)?;
        let (mut text, mut strings) = (0, 0);
        for token in tokens.strings().into_iter().flatten() {
            text += token.len() as u64;
            strings += allocation(token.len() as u64);
        }
        let len = tokens.len() as u64;
        let named = table(len, NAMED) + strings;
        // Ours: the bytes, where each token's end, and its kind.
        let own = text + 5 * len;
        Ok(match metadata.str("tokenizer.ggml.model")? {
            // By name and by id, and the merges.
            "gpt2" => {
                let merges = metadata.opt_array("tokenizer.ggml.merges")?;
                own + 2 * named + table(merges.map_or(0, |merges| merges.len() as u64), MERGE)
            }
            _ => own + named + 4 * len,
        })
    }
}

/// What a hash table of `len` entries takes: a power of two of places, an
/// eighth of them free, with a byte each beside the entry.
fn table(len: u64, entry: u64) -> u64 {
    if len == 0 { 0 } else { (len * 8 / 7).next_power_of_two() * (entry + 1) + 16 }
}

/// What the system's allocator takes for a string.
fn allocation(len: u64) -> u64 {
    if len == 0 { 0 } else { (len + 8).next_multiple_of(16).max(32) }
}
