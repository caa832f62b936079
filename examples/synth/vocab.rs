//! A byte-level BPE vocabulary: read from a file, or made up.
//!
//! The LLaMA-3 vocabulary is not ours to ship. A made-up one has its form: 256
//! byte tokens in the same order, then tokens that merges build from earlier
//! ones, then special tokens. Its words are syllables, not a language.

use std::{collections::HashMap, io};

/// Tokens in the order of their ids, and how pairs of them merge.
pub(crate) struct Vocabulary {
    /// Byte strings, not yet in the printable alphabet of model files.
    tokens: Vec<Vec<u8>>,
    /// Names of the special tokens, which follow.
    specials: Vec<String>,
    /// Pairs of token ids, the first to merge first.
    merges: Vec<(u32, u32)>,
}

/// Ids that a vocabulary of LLaMA-3's size must have, and how many merges it has.
const LLAMA3_SPECIALS: usize = 256;
const LLAMA3_TOKENS: usize = 128_000;
const LLAMA3_MERGES: usize = 280_147;

impl Vocabulary {
    /// A vocabulary of `size` tokens, special ones included; at least 259.
    pub(crate) fn made_up(size: usize) -> Vocabulary {
        let specials = specials(size);
        let words =
            size.checked_sub(specials.len() + 256).expect("256 bytes and the specials need room");
        let mut tokens = byte_tokens();
        tokens.extend(made_up_words().take(words));
        let mut vocabulary = Vocabulary { merges: merges(&tokens), tokens, specials };
        if vocabulary.tokens.len() == LLAMA3_TOKENS {
            vocabulary.keep_merges(LLAMA3_MERGES);
        }
        vocabulary
    }

    /// Reads the lines `base64 rank` of a `tokenizer.model`, and adds LLaMA-3's special tokens.
    pub(crate) fn from_ranks(text: &str) -> io::Result<Vocabulary> {
        let bad = |line: usize| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {line}: not base64 and a rank"),
            )
        };
        let mut tokens = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let (token, rank) = line.split_once(' ').ok_or_else(|| bad(i + 1))?;
            if rank.parse() != Ok(tokens.len()) {
                return Err(bad(i + 1));
            }
            tokens.push(base64(token).ok_or_else(|| bad(i + 1))?);
        }
        let specials = specials(tokens.len() + LLAMA3_SPECIALS);
        Ok(Vocabulary { merges: merges(&tokens), tokens, specials })
    }

    /// How many tokens there are, special ones included.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len() + self.specials.len()
    }

    /// Token texts as model files have them: each byte a printable character.
    pub(crate) fn texts(&self) -> impl ExactSizeIterator<Item = String> {
        let normal = self.tokens.len();
        (0..self.len()).map(move |id| match id.checked_sub(normal) {
            Some(special) => self.specials[special].clone(),
            None => printable(&self.tokens[id]),
        })
    }

    /// Token types as model files have them: 1 is normal, 3 is special.
    pub(crate) fn types(&self) -> impl ExactSizeIterator<Item = i32> {
        let normal = self.tokens.len();
        (0..self.len()).map(move |id| if id < normal { 1 } else { 3 })
    }

    /// Merges as model files have them: two texts with a space between.
    pub(crate) fn merges(&self) -> impl ExactSizeIterator<Item = String> {
        let text = |id: u32| printable(&self.tokens[id as usize]);
        self.merges.iter().map(move |(left, right)| format!("{} {}", text(*left), text(*right)))
    }

    /// The id of a special token.
    pub(crate) fn special(&self, name: &str) -> Option<u32> {
        let found = self.specials.iter().position(|special| special == name)?;
        Some((self.tokens.len() + found) as u32)
    }

    /// Drops merges from the end until `len` remain, never the only way to a token.
    fn keep_merges(&mut self, len: usize) {
        let mut surplus = self.merges.len().saturating_sub(len);
        let join = |(left, right): (u32, u32)| {
            [&self.tokens[left as usize][..], &self.tokens[right as usize]].concat()
        };
        for i in (1..self.merges.len()).rev() {
            if surplus > 0 && join(self.merges[i]) == join(self.merges[i - 1]) {
                self.merges.remove(i);
                surplus -= 1;
            }
        }
    }
}

/// All pairs of tokens that make a later token, in the order of what they make.
fn merges(tokens: &[Vec<u8>]) -> Vec<(u32, u32)> {
    let ids: HashMap<&[u8], u32> =
        tokens.iter().enumerate().map(|(id, token)| (&token[..], id as u32)).collect();
    let mut merges = Vec::new();
    for token in tokens {
        let first = merges.len();
        merges.extend(
            (1..token.len())
                .filter_map(|at| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?))),
        );
        merges[first..].sort_unstable();
    }
    merges
}

/// The 256 bytes, the printable ones first: LLaMA-3's first ids.
fn byte_tokens() -> Vec<Vec<u8>> {
    let (first, rest): (Vec<u8>, Vec<u8>) = (0..=255).partition(|byte| is_printable(*byte));
    first.into_iter().chain(rest).map(|byte| vec![byte]).collect()
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Bytes as text: the 68 unprintable ones become the characters from U+0100 on.
fn printable(bytes: &[u8]) -> String {
    let shifted = |byte: u8| (0..byte).filter(|below| !is_printable(*below)).count() as u32;
    let letter = |byte: u8| match is_printable(byte) {
        true => char::from(byte),
        false => {
            char::from_u32(0x100 + shifted(byte)).expect("68 letters lie below the surrogates")
        }
    };
    bytes.iter().map(|byte| letter(*byte)).collect()
}

/// Words of one, two and three syllables, each with and without a space before it.
///
/// A syllable begins with a consonant and a vowel found in no other, so no two
/// words are spelt alike. Every word is two earlier ones put together.
fn made_up_words() -> impl Iterator<Item = Vec<u8>> {
    const CODAS: &[u8] = b"nrslmtkx";
    // 20 of 100 are short: with that, a vocabulary of LLaMA-3's size fills its header nearly to the byte.
    const SHORT: usize = 20;
    let opens: Vec<Vec<u8>> = b"bcdfghjklmnpqrstvwyz"
        .iter()
        .flat_map(|onset| b"aeiou".iter().map(move |vowel| vec![*onset, *vowel]))
        .collect();
    let closed = |i: usize| [&opens[i][..], &[CODAS[i % CODAS.len()]]].concat();
    let syllables: Vec<Vec<u8>> =
        (0..opens.len()).map(|i| if i < SHORT { opens[i].clone() } else { closed(i) }).collect();
    let spaced = |word: &[u8]| [b" ", word].concat();

    let mut words = opens.clone();
    words.extend(opens.iter().map(|open| spaced(open)));
    words.extend(syllables[SHORT..].iter().cloned());
    words.extend(syllables[SHORT..].iter().map(|syllable| spaced(syllable)));
    let pairs = syllables
        .iter()
        .flat_map(|first| syllables.iter().map(move |second| [&first[..], second].concat()));
    words.extend(pairs.flat_map(|pair| [pair.clone(), spaced(&pair)]));
    let triples = (0..1_000_000usize).flat_map(move |i| {
        // A step without a divisor of 10 visits every triple once, scattered.
        let i = i * 618_033 % 1_000_000;
        let triple =
            [&syllables[i / 10_000][..], &syllables[i / 100 % 100], &syllables[i % 100]].concat();
        [triple.clone(), spaced(&triple)]
    });
    words.into_iter().chain(triples)
}

/// LLaMA-3's special tokens for a vocabulary of its size, the three that a chat needs for a smaller one.
fn specials(size: usize) -> Vec<String> {
    let named = |name: &str| format!("<|{name}|>");
    if size < LLAMA3_TOKENS + LLAMA3_SPECIALS {
        return ["begin_of_text", "end_of_text", "eot_id"].map(named).into();
    }
    let mut reserved = (0..).map(|i| format!("<|reserved_special_token_{i}|>"));
    (0..LLAMA3_SPECIALS)
        .map(|i| match i {
            0 => named("begin_of_text"),
            1 => named("end_of_text"),
            6 => named("start_header_id"),
            7 => named("end_header_id"),
            9 => named("eot_id"),
            _ => reserved.next().expect("the counter has no end"),
        })
        .collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut len, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.trim_end_matches('=').bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        len += 6;
        if len >= 8 {
            len -= 8;
            bytes.push((bits >> len) as u8);
        }
    }
    Some(bytes)
}
