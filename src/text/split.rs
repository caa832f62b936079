//! Cuts text into the pieces that byte-pair encoding works on.
//!
//! Models name a regular expression for this. A backtracking engine runs out
//! of its stack on a million spaces, and the layer above it then leaves the
//! rest of the text as one piece; so the expressions are written out here as
//! one look at the next characters, in time linear in the text. The tests hold
//! each against the regex engine.
//!
//! ```text
//! Llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
//!         | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//! Qwen2   the same with \p{N} for \p{N}{1,3}
//! Gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! FalconE [\p{P}$+<=>^~|`]+, inside what lies between Gpt2, inside its pieces [0-9]
//! ```

use super::classes::{is_letter, is_number, is_punctuation, is_space};
use crate::error::Result;

/// A rule for cutting text. The pieces, put together again, are the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    Llama3,
    Qwen2,
    Gpt2,
    FalconE,
}

impl Split {
    /// Hands each piece to `visit`, in order; stops at its first error.
    pub(super) fn each<'a>(
        self,
        text: &'a str,
        visit: &mut dyn FnMut(&'a str) -> Result<()>,
    ) -> Result<()> {
        match self {
            Split::Llama3 => cut(text, |rest| llama3(rest, 3), visit),
            Split::Qwen2 => cut(text, |rest| llama3(rest, 1), visit),
            Split::Gpt2 => cut(text, gpt2, visit),
            Split::FalconE => cut(text, |rest| same(rest, is_falcon_mark), &mut |part| {
                if part.starts_with(is_falcon_mark) {
                    return visit(part);
                }
                cut(part, gpt2, &mut |part| cut(part, digit, visit))
            }),
        }
    }
}

/// Takes pieces off the front of a text until nothing is left.
fn cut<'a>(
    mut text: &'a str,
    len: impl Fn(&str) -> usize,
    visit: &mut dyn FnMut(&'a str) -> Result<()>,
) -> Result<()> {
    while !text.is_empty() {
        let (piece, rest) = text.split_at(len(text));
        visit(piece)?;
        text = rest;
    }
    Ok(())
}

/// What the patterns tell apart.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    match c {
        _ if is_letter(c) => Class::Letter,
        _ if is_number(c) => Class::Number,
        _ if is_space(c) => Class::Space,
        _ => Class::Other,
    }
}

/// Bytes of the first piece of a text that is not empty.
fn llama3(text: &str, numbers_max: usize) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let width = first.len_utf8();
    let second = chars.next().map(class);
    let newline = |c| c == '\r' || c == '\n';
    if first == '\''
        && let Some(len) = contraction(&text[1..], true)
    {
        return 1 + len;
    }
    match class(first) {
        Class::Letter => run(text, is_letter),
        Class::Number => {
            text.chars().take(numbers_max).take_while(|c| is_number(*c)).map(char::len_utf8).sum()
        }
        _ if second == Some(Class::Letter) && !newline(first) => {
            width + run(&text[width..], is_letter)
        }
        Class::Other => {
            let marks = run(text, |c| class(c) == Class::Other);
            marks + run(&text[marks..], newline)
        }
        Class::Space if first == ' ' && second == Some(Class::Other) => {
            let marks = 1 + run(&text[1..], |c| class(c) == Class::Other);
            marks + run(&text[marks..], newline)
        }
        Class::Space => {
            let spaces = &text[..run(text, is_space)];
            match spaces.rfind(newline) {
                Some(last) => last + 1,
                None => leave_one(spaces, text),
            }
        }
    }
}

/// Bytes of the first piece of a text that is not empty.
fn gpt2(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    if first == '\''
        && let Some(len) = contraction(&text[1..], false)
    {
        return 1 + len;
    }
    let (space, kind) = match (first, chars.next().map(class)) {
        (' ', Some(next)) if next != Class::Space => (1, next),
        _ => (0, class(first)),
    };
    match kind {
        Class::Space => leave_one(&text[..run(text, is_space)], text),
        kind => space + run(&text[space..], |c| class(c) == kind),
    }
}

/// `\s+(?!\S)|\s+`: white space before a word leaves its last character to the word.
fn leave_one(spaces: &str, text: &str) -> usize {
    let last = spaces.chars().next_back().map_or(0, char::len_utf8);
    if spaces.len() == text.len() || spaces.len() == last {
        spaces.len()
    } else {
        spaces.len() - last
    }
}

/// Bytes of `s t re ve m ll d` at the start of what follows an apostrophe.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let mut chars = text.chars();
    let mut next = || {
        let c = chars.next()?;
        // Of these letters only `s` has a third form, the long one.
        Some((
            if any_case { if c == 'ſ' { 's' } else { c.to_ascii_lowercase() } } else { c },
            c.len_utf8(),
        ))
    };
    let (first, width) = next()?;
    match first {
        's' | 't' | 'm' | 'd' => Some(width),
        'r' | 'v' => (next()?.0 == 'e').then_some(2),
        'l' => (next()?.0 == 'l').then_some(2),
        _ => None,
    }
}

/// Bytes of the longest start of `text` whose characters are all of a class.
fn run(text: &str, class: impl Fn(char) -> bool) -> usize {
    text.find(|c| !class(c)).unwrap_or(text.len())
}

/// Bytes of the longest start of `text` that is all of a class, or all not.
fn same(text: &str, class: impl Fn(char) -> bool) -> usize {
    let of = text.starts_with(&class);
    run(text, |c| class(c) == of)
}

fn digit(text: &str) -> usize {
    match text.find(|c: char| c.is_ascii_digit()) {
        Some(0) => 1,
        other => other.unwrap_or(text.len()),
    }
}

fn is_falcon_mark(c: char) -> bool {
    is_punctuation(c) || "$+<=>^~|`".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::utils::SysRegex;

    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const GPT2: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const FALCON_E: [&str; 3] = [
        r"[\p{P}\$\+<=>\^~\|`]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"[0-9]",
    ];

    /// The patterns one after another, each inside the pieces of the one
    /// before; what lies between matches is a piece too.
    fn by_regex<'a>(patterns: &[SysRegex], text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for pattern in patterns {
            let mut finer = Vec::new();
            for piece in pieces {
                let mut at = 0;
                for (start, end) in pattern.find_iter(piece) {
                    finer.extend([&piece[at..start], &piece[start..end]]);
                    at = end;
                }
                finer.push(&piece[at..]);
            }
            pieces = finer.into_iter().filter(|piece| !piece.is_empty()).collect();
        }
        pieces
    }

    fn by_hand(split: Split, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        let done = split.each(text, &mut |piece| {
            pieces.push(piece);
            Ok(())
        });
        done.expect("the visitor returns no error");
        pieces
    }

    /// Text in which the patterns' corners are likely: few kinds of character, short runs.
    fn random_text(rng: &mut fastrand::Rng) -> String {
        const SEEDS: &[&str] = &[
            "'",
            "'s",
            "'S",
            "'ſ",
            "'T",
            "'re",
            "'VE",
            "'ll",
            "'lL",
            "'x",
            "’s",
            " ",
            "  ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "\u{a0}",
            "\u{2028}",
            "\u{3000}",
            "\u{85}",
            "\u{200b}",
            "a",
            "Z",
            "é",
            "e\u{301}",
            "ж",
            "你",
            "ａ",
            "ǅ",
            "ʰ",
            "0",
            "12",
            "3456",
            "٣",
            "½",
            "Ⅷ",
            "²",
            "!",
            "?!",
            "-",
            "_",
            "$",
            "+",
            "<|",
            "|>",
            "`",
            "^",
            "~",
            "—",
            "«",
            "€",
            "🦙",
            "👩\u{200d}🚀",
            "\u{0}",
            "\u{fffd}",
        ];
        let mut text = String::new();
        for _ in 0..rng.usize(0..24) {
            match rng.u8(0..10) {
                0 => text.push(rng.char(..)),
                1 => text
                    .extend(std::iter::repeat_n(SEEDS[rng.usize(..SEEDS.len())], rng.usize(1..6))),
                _ => text.push_str(SEEDS[rng.usize(..SEEDS.len())]),
            }
        }
        text
    }

    #[test]
    fn every_split_is_its_regex() {
        let compile = |patterns: &[&str]| -> Vec<SysRegex> {
            patterns
                .iter()
                .map(|pattern| SysRegex::new(pattern).expect("a valid pattern"))
                .collect()
        };
        let splits = [
            (Split::Llama3, compile(&[LLAMA3])),
            (Split::Qwen2, compile(&[QWEN2])),
            (Split::Gpt2, compile(&[GPT2])),
            (Split::FalconE, compile(&FALCON_E)),
        ];
        let mut rng = fastrand::Rng::with_seed(3);
        for case in 0..20_000 {
            let text = random_text(&mut rng);
            for (split, regex) in &splits {
                assert_eq!(
                    by_hand(*split, &text),
                    by_regex(regex, &text),
                    "{split:?}, case {case}: {text:?}"
                );
            }
        }
    }

    /// Where the regex engine gives up: the answer is known without it.
    #[test]
    fn runs_of_two_million_are_one_piece() {
        const LEN: usize = 2_000_000;
        for (unit, tail, last) in [
            (" ", "", 0),
            (" ", "x", 1),
            ("a", "", 0),
            ("\n", "", 0),
            ("\n", "x", 0),
            ("\t", "x", 1),
            ("!", "\n", 0),
        ] {
            for split in [Split::Llama3, Split::Qwen2, Split::Gpt2] {
                // The older pattern ends a run of marks before a newline, and
                // leaves a newline before a word to stand alone.
                let last = match (split, unit, tail) {
                    (Split::Gpt2, "\n", "x") => 1,
                    _ => last,
                };
                let text = unit.repeat(LEN) + tail;
                let first = by_hand(split, &text)[0].len();
                let want = if unit == "!" && split != Split::Gpt2 { LEN + 1 } else { LEN - last };
                assert_eq!(first, want, "{split:?}, {unit:?} and {tail:?}");
            }
        }
    }
}
