//! Merges a text of any length in windows, with the result of merging it whole.
//!
//! A whole piece of two million letters would take hundreds of megabytes of
//! working memory and could not be cancelled. Windows are exact for this reason:
//!
//! - Merging is local. What lies between two token borders of a result merges
//!   to the same tokens when it is merged alone, because merges that would have
//!   crossed the borders never happened, and the others keep their order.
//! - So let window A be merged and window B begin at a border of A's result and
//!   reach further. If both results have one token at the same place, then A's
//!   tokens up to it and B's after it are the whole's: a merge of the whole that
//!   is the first to cross a border of that token would lie within A or within
//!   B, and happen there as well.
//!
//! Where the results share no token, the second window begins further back, in
//! the worst case at the start of the text.

use crate::error::Result;
use std::ops::Range;

/// A token and how many bytes of the text it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) id: u32,
    pub(super) len: u32,
}

/// Tokens of a text of `len` bytes.
///
/// `merge` adds the tokens of a part of the text. A part ends where `floor`,
/// given a place, finds the last place not after it where a character begins.
/// Windows overlap by about `overlap` bytes, which must exceed every token.
pub(super) fn merge(
    len: usize,
    overlap: usize,
    floor: impl Fn(usize) -> usize,
    mut merge: impl FnMut(Range<usize>, &mut Vec<Span>) -> Result<()>,
) -> Result<Vec<Span>> {
    let window = overlap.saturating_mul(16);
    let until = |place: usize| if place >= len { len } else { floor(place) };
    let mut end = until(window);
    let mut spans = Vec::new();
    merge(0..end, &mut spans)?;
    let mut next = Vec::new();
    let mut back = overlap;
    while end < len {
        let (index, start) = border(&spans, end, back);
        let next_end = until((start + window.max(back.saturating_mul(2))).max(end + overlap));
        next.clear();
        merge(start..next_end, &mut next)?;
        if let Some((old, new)) = shared(&spans[index..], &next) {
            spans.truncate(index + old + 1);
            spans.extend(&next[new + 1..]);
        } else if index == 0 {
            std::mem::swap(&mut spans, &mut next);
        } else {
            back = back.saturating_mul(2);
            continue;
        }
        end = next_end;
        back = overlap;
    }
    Ok(spans)
}

/// The last token border at least `back` bytes before `end`: index of the token after it, and place.
fn border(spans: &[Span], end: usize, back: usize) -> (usize, usize) {
    let mut place = end;
    for (index, span) in spans.iter().enumerate().rev() {
        place -= span.len as usize;
        if end - place >= back {
            return (index, place);
        }
    }
    (0, 0)
}

/// Indices of the first token that two results from the same start share.
fn shared(old: &[Span], new: &[Span]) -> Option<(usize, usize)> {
    let (mut i, mut j) = (0, 0);
    let (mut old_place, mut new_place) = (0u64, 0u64);
    loop {
        let (a, b) = (old.get(i)?, new.get(j)?);
        if old_place == new_place && a == b {
            return Some((i, j));
        }
        if old_place <= new_place {
            old_place += u64::from(a.len);
            i += 1;
        } else {
            new_place += u64::from(b.len);
            j += 1;
        }
    }
}
