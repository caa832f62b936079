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

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{
        Model,
        models::bpe::{BPE, Vocab},
    };

    /// A vocabulary over two letters with merges in random order, several ways to some tokens.
    fn random_model(rng: &mut fastrand::Rng) -> BPE {
        let mut tokens = vec!["a".to_owned(), "b".to_owned()];
        let mut merges = Vec::new();
        for _ in 0..rng.usize(1..40) {
            let (left, right) =
                (&tokens[rng.usize(..tokens.len())], &tokens[rng.usize(..tokens.len())]);
            let merge = (left.clone(), right.clone());
            if merge.0.len() + merge.1.len() > 6 || merges.contains(&merge) {
                continue;
            }
            let token = format!("{left}{right}");
            if !tokens.contains(&token) {
                tokens.push(token);
            }
            merges.push(merge);
        }
        rng.shuffle(&mut merges);
        let vocab: Vocab = tokens.into_iter().zip(0..).collect();
        BPE::builder()
            .vocab_and_merges(vocab, merges)
            .cache_capacity(0)
            .build()
            .expect("all parts are tokens")
    }

    #[test]
    fn windows_give_the_tokens_of_the_whole() {
        let mut rng = fastrand::Rng::with_seed(21);
        let mut retries = 0;
        for case in 0..3000 {
            let model = random_model(&mut rng);
            let text: String = match rng.u8(0..3) {
                0 => "a".repeat(rng.usize(1..900)),
                1 => "aab".repeat(rng.usize(1..300)),
                _ => (0..rng.usize(1..900))
                    .map(|_| *rng.choice(&['a', 'a', 'b']).expect("not empty"))
                    .collect(),
            };
            let spans = |text: &str| -> Vec<Span> {
                let tokens = model.tokenize(text).expect("all letters are tokens");
                tokens
                    .iter()
                    .map(|token| Span { id: token.id, len: token.value.len() as u32 })
                    .collect()
            };
            let mut last_start = 0;
            let windows = merge(
                text.len(),
                7,
                |place| place,
                |part, out| {
                    retries += usize::from(part.start < last_start);
                    last_start = part.start;
                    out.extend(spans(&text[part]));
                    Ok(())
                },
            );
            assert_eq!(
                windows.expect("the merge returns no error"),
                spans(&text),
                "case {case}: {model:?} on {text}"
            );
        }
        // Some windows must fail to meet, or going back is not tested.
        assert!(retries > 0);
    }

    #[test]
    fn windows_that_never_meet_go_back_to_the_start() {
        // A merge that depends on the length of all that follows.
        let text = "a".repeat(1000);
        let mut whole = 0;
        let spans = merge(
            text.len(),
            4,
            |place| place,
            |part, out| {
                whole += usize::from(part.start == 0);
                out.extend(part.clone().map(|_| Span { id: part.end as u32, len: 1 }));
                Ok(())
            },
        );
        assert_eq!(
            spans.expect("the merge returns no error"),
            vec![Span { id: 1000, len: 1 }; 1000]
        );
        assert!(whole < 12, "{whole} merges from the start: windows must grow");
    }
}
