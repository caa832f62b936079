//! Stop strings: text is held back until they are disproved.

use crate::error::{Error, Result};

/// Watches a text for strings that end it and must never be seen, not even in part.
///
/// The stop string that is complete first ends the text; if several are
/// complete at the same byte, the one that began first. That does not depend
/// on how the text is cut into pieces.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    patterns: Vec<Pattern>,
    /// The end of the text so far, which may begin a stop string.
    held: String,
    /// What the last call let out.
    shown: String,
    stopped: Option<usize>,
}

/// A stop string as an automaton: how much of it the text's end matches.
#[derive(Clone, Debug)]
struct Pattern {
    bytes: Vec<u8>,
    /// For each length matched: the longest shorter start that also ends there.
    shorter: Vec<usize>,
    matched: usize,
}

impl Stops {
    /// Watches for each of these strings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if one is empty.
    pub fn new<S: AsRef<str>>(stops: impl IntoIterator<Item = S>) -> Result<Stops> {
        let pattern = |stop: S| Pattern::new(stop.as_ref().as_bytes());
        let patterns = stops.into_iter().map(pattern).collect::<Result<_>>()?;
        Ok(Stops { patterns, ..Stops::default() })
    }

    /// Adds text and returns what is certain to be part of the answer.
    ///
    /// Empty once a stop string was found.
    pub fn push(&mut self, text: &str) -> &str {
        self.shown.clear();
        if self.stopped.is_some() {
            return &self.shown;
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            // Of the stop strings that end here, the longest began first.
            let mut longest = 0;
            for (index, pattern) in self.patterns.iter_mut().enumerate() {
                if pattern.step(byte) && pattern.bytes.len() > longest {
                    longest = pattern.bytes.len();
                    self.stopped = Some(index);
                }
            }
            if self.stopped.is_some() {
                let end = before + at + 1;
                self.shown.push_str(&self.held[..end - longest]);
                self.held.clear();
                return &self.shown;
            }
        }
        // A stop string begins with a whole character, and so does what matches it.
        let hold = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        let show = self.held.len() - hold;
        self.shown.push_str(&self.held[..show]);
        self.held.drain(..show);
        &self.shown
    }

    /// Ends the text and returns what was held back: no stop string came of it.
    pub fn finish(&mut self) -> &str {
        std::mem::swap(&mut self.shown, &mut self.held);
        self.held.clear();
        for pattern in &mut self.patterns {
            pattern.matched = 0;
        }
        &self.shown
    }

    /// Which of the strings ended the text, counted in the order given.
    #[must_use]
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }
}

impl Pattern {
    fn new(bytes: &[u8]) -> Result<Pattern> {
        if bytes.is_empty() {
            return Err(Error::InvalidArgument("an empty stop string".into()));
        }
        let mut pattern = Pattern { bytes: bytes.to_vec(), shorter: vec![0; 2], matched: 0 };
        for byte in &bytes[1..] {
            // The table is what the automaton does on its own text, one byte late.
            pattern.advance(*byte);
            pattern.shorter.push(pattern.matched);
        }
        pattern.matched = 0;
        Ok(pattern)
    }

    fn advance(&mut self, byte: u8) {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
    }

    /// Takes a byte; whether the string is complete with it.
    fn step(&mut self, byte: u8) -> bool {
        self.advance(byte);
        let complete = self.matched == self.bytes.len();
        if complete {
            self.matched = self.shorter[self.matched];
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: at each byte, does a stop string end there?
    fn by_definition(stops: &[&str], text: &str) -> (String, Option<usize>) {
        for end in 1..=text.len() {
            let ending = stops
                .iter()
                .enumerate()
                .filter(|(_, stop)| text.as_bytes()[..end].ends_with(stop.as_bytes()));
            if let Some((index, stop)) = ending.rev().max_by_key(|(_, stop)| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn every_cutting_gives_the_text_before_the_first_stop() {
        let lists: [&[&str]; 8] = [
            &[],
            &["ab"],
            &["aabaa", "aba"],
            &["aaa"],
            &["é", "éè"],
            &["🦙🦙b", "🦙a"],
            &["abab", "ba", "ab"],
            &["b", "aab", "b"],
        ];
        let mut rng = fastrand::Rng::with_seed(9);
        for case in 0..4000 {
            let stops = lists[rng.usize(..lists.len())];
            let len = rng.usize(0..9);
            let text: String = (0..len)
                .map(|_| *rng.choice(&['a', 'a', 'b', 'é', 'è', '🦙']).expect("not empty"))
                .collect();
            let (want, stopped) = by_definition(stops, &text);
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
            for cuts in 0..1u32 << ends.len() {
                let mut watch = Stops::new(stops).expect("none is empty");
                let mut shown = String::new();
                let mut start = 0;
                for (bit, end) in ends.iter().enumerate().filter(|(bit, _)| cuts >> bit & 1 == 1) {
                    shown += watch.push(&text[start..*end]);
                    assert!(
                        want.starts_with(&shown),
                        "case {case}, cut {bit}: {stops:?} in {text:?} showed {shown:?}"
                    );
                    start = *end;
                }
                shown += watch.push(&text[start..]);
                shown += watch.finish();
                assert_eq!(
                    (&shown, watch.stopped()),
                    (&want, stopped),
                    "case {case}: {stops:?} in {text:?}, cuts {cuts:b}"
                );
            }
        }
    }

    #[test]
    fn text_is_held_no_longer_than_it_may_begin_a_stop() {
        let mut watch = Stops::new(["<end>"]).expect("not empty");
        assert_eq!(watch.push("a <"), "a ");
        assert_eq!(watch.push("en"), "");
        assert_eq!(watch.push("<e"), "<en");
        assert_eq!(watch.push("x"), "<ex");
        assert_eq!(watch.push("b<end>c"), "b");
        assert_eq!(watch.stopped(), Some(0));
        assert_eq!(watch.push("d"), "");
        assert_eq!(watch.finish(), "");
        assert!(matches!(Stops::new(["a", ""]), Err(Error::InvalidArgument(_))));
    }
}
