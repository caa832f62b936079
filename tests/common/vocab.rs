//! Vocabularies for tests: as GGUF metadata, and as plain maps for a second opinion.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};
use tern::file::{Gguf, Source, Value, Writer};

/// What a file says about its tokens, without tensors.
pub(crate) fn header(fill: impl FnOnce(&mut Writer)) -> Gguf {
    let mut writer = Writer::new();
    writer.set("general.architecture", Value::String(b"bitnet-b1.58"));
    fill(&mut writer);
    let bytes =
        writer.begin(Vec::new()).and_then(|body| body.finish()).expect("a vector takes all");
    Gguf::parse(Arc::new(Source::from_memory(bytes))).expect("a well-formed header")
}

/// A vocabulary in the file format of tiktoken: one token a line, base64 and rank.
pub(crate) struct Tiktoken {
    /// Bytes of each token, in the order of ranks.
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) ranks: HashMap<Vec<u8>, u32>,
}

impl Tiktoken {
    pub(crate) fn parse(text: &str) -> Tiktoken {
        let mut tokens = Vec::new();
        for (rank, line) in text.lines().enumerate() {
            let (token, number) = line.split_once(' ').expect("two columns");
            assert_eq!(number, rank.to_string(), "ranks ascend");
            tokens.push(base64(token));
        }
        let ranks = (0..).zip(&tokens).map(|(rank, token)| (token.clone(), rank)).collect();
        Tiktoken { tokens, ranks }
    }

    /// The merges that give the same tokens: each token's splits into two
    /// tokens, by the ranks of the token, of its left and of its right part.
    pub(crate) fn merges(&self) -> Vec<String> {
        let mut merges = Vec::new();
        for token in &self.tokens {
            let splits = (1..token.len()).map(|at| token.split_at(at));
            let mut splits: Vec<_> = splits
                .filter_map(|(left, right)| {
                    Some((*self.ranks.get(left)?, *self.ranks.get(right)?, left, right))
                })
                .collect();
            splits.sort_unstable();
            merges.extend(
                splits
                    .iter()
                    .map(|(_, _, left, right)| format!("{} {}", spell(left), spell(right))),
            );
        }
        merges
    }

    /// The LLaMA-3 vocabulary: these tokens and 256 control tokens.
    pub(crate) fn llama3(&self, fill: impl FnOnce(&mut Writer)) -> Gguf {
        let mut texts: Vec<String> = self.tokens.iter().map(|token| spell(token)).collect();
        let named = [
            "begin_of_text",
            "end_of_text",
            "reserved_special_token_0",
            "reserved_special_token_1",
        ];
        texts.extend(named.iter().map(|name| format!("<|{name}|>")));
        texts.extend(
            ["<|reserved_special_token_2|>", "<|reserved_special_token_3|>"].map(str::to_owned),
        );
        texts.extend(["<|start_header_id|>", "<|end_header_id|>"].map(str::to_owned));
        texts.extend(["<|reserved_special_token_4|>", "<|eot_id|>"].map(str::to_owned));
        texts.extend((5..=250).map(|number| format!("<|reserved_special_token_{number}|>")));
        assert_eq!(texts.len(), 128_256);
        header(|writer| {
            writer.set("tokenizer.ggml.model", Value::String(b"gpt2"));
            writer.set_strings("tokenizer.ggml.tokens", texts.iter());
            writer.set_i32s(
                "tokenizer.ggml.token_type",
                (0..texts.len()).map(|id| if id < 128_000 { 1 } else { 3 }),
            );
            writer.set_strings("tokenizer.ggml.merges", self.merges().iter());
            writer.set("tokenizer.ggml.bos_token_id", Value::U32(128_000));
            writer.set("tokenizer.ggml.eos_token_id", Value::U32(128_001));
            fill(writer);
        })
    }
}

/// Pair merging by the definition: of all neighbours that make a token, those
/// of the lowest rank, the leftmost first, until none is left.
pub(crate) fn merge_by_definition(
    piece: &[u8],
    rank: impl Fn(&[u8], &[u8]) -> Option<u32>,
) -> Vec<&[u8]> {
    let len = piece.len();
    // Part i begins at i; `end[i]` is 0 once it has joined another.
    let mut end: Vec<usize> = (1..=len).collect();
    let mut prev: Vec<usize> = (0..len).map(|at| at.wrapping_sub(1)).collect();
    let mut queue = BinaryHeap::new();
    let push = |queue: &mut BinaryHeap<_>, a: usize, b: usize, c: usize| {
        if let Some(rank) = rank(&piece[a..b], &piece[b..c]) {
            queue.push(Reverse((rank, a, b, c)));
        }
    };
    for at in 1..len {
        push(&mut queue, at - 1, at, at + 1);
    }
    while let Some(Reverse((_, a, b, c))) = queue.pop() {
        if end[a] != b || b >= len || end[b] != c {
            continue;
        }
        end[a] = c;
        end[b] = 0;
        if c < len {
            prev[c] = a;
            push(&mut queue, a, c, end[c]);
        }
        if a > 0 {
            push(&mut queue, prev[a], a, c);
        }
    }
    (0..len).filter(|at| end[*at] != 0).map(|at| &piece[at..end[at]]).collect()
}

/// Bytes as byte-level vocabularies spell them.
pub(crate) fn spell(bytes: &[u8]) -> String {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255).filter(|byte| !printable(*byte)).collect();
    let char = |byte: &u8| match others.iter().position(|other| other == byte) {
        Some(at) => char::from_u32(0x100 + at as u32).expect("a character"),
        None => char::from(*byte),
    };
    bytes.iter().map(char).collect()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|known| *known == digit).expect("a base64 digit");
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
