//! Finds special tokens in text.

use super::vocab::{Kind, Vocab};

/// The tokens that are looked for as a whole, before any splitting.
#[derive(Debug)]
pub(super) struct Specials {
    /// Ids in the order of their bytes, each text once: the lowest id wins.
    sorted: Vec<u32>,
    /// Whether a special token begins with a byte.
    first: [bool; 256],
}

/// A special token in a text: where it begins and ends, and its id.
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) id: u32,
}

impl Specials {
    pub(super) fn of(vocab: &Vocab) -> Specials {
        let special = |id: &u32| {
            let bytes = vocab.bytes(*id);
            matches!(vocab.kind(*id), Kind::Control | Kind::UserDefined | Kind::Unknown)
                && !bytes.is_empty()
                // So a match begins and ends where characters do.
                && str::from_utf8(bytes).is_ok()
        };
        let mut sorted: Vec<u32> = (0..vocab.len() as u32).filter(special).collect();
        sorted.sort_unstable_by_key(|id| (vocab.bytes(*id), *id));
        sorted.dedup_by_key(|id| vocab.bytes(*id));
        let mut first = [false; 256];
        for id in &sorted {
            first[usize::from(vocab.bytes(*id)[0])] = true;
        }
        Specials { sorted, first }
    }

    /// The first special token at or after `from`, the longest if several begin there.
    ///
    /// User-defined tokens are found always, others only if `control`. A token
    /// that would span one of `barriers`, which ascend, is none.
    pub(super) fn find(
        &self,
        vocab: &Vocab,
        text: &str,
        from: usize,
        control: bool,
        barriers: &[usize],
    ) -> Option<Found> {
        let bytes = text.as_bytes();
        (from..bytes.len()).filter(|start| self.first[usize::from(bytes[*start])]).find_map(
            |start| {
                let barrier = barriers.get(barriers.partition_point(|barrier| *barrier <= start));
                let end = barrier.map_or(bytes.len(), |barrier| bytes.len().min(*barrier));
                let (id, len) = self.longest(vocab, &bytes[start..end], control)?;
                Some(Found { start, end: start + len, id })
            },
        )
    }

    fn longest(&self, vocab: &Vocab, text: &[u8], control: bool) -> Option<(u32, usize)> {
        let mut range = self.sorted.as_slice();
        let mut longest = None;
        for (at, byte) in text.iter().enumerate() {
            // All of `range` begin with text[..at]; one that ends there sorts first.
            let at_byte = |id: &u32| vocab.bytes(*id).get(at).copied();
            range = &range[range.partition_point(|id| at_byte(id) < Some(*byte))..];
            range = &range[..range.partition_point(|id| at_byte(id) == Some(*byte))];
            let Some(id) = range.first() else { break };
            let whole = vocab.bytes(*id).len() == at + 1;
            if whole && (control || vocab.kind(*id) == Kind::UserDefined) {
                longest = Some((*id, at + 1));
            }
        }
        longest
    }
}
