//! Grammars through the public interface, over a toy vocabulary and random logits.

mod gbnf;
mod kinds;
mod limits;
mod padding;
mod schema;

use std::sync::Arc;
use tern::sampler::{Grammar, GrammarEnv, GrammarKind, Sampler, VocabBytes};

/// Ends a generation.
const EOG: i32 = 256;
/// Another token that ends one.
const EOT: i32 = 257;
/// A control token.
const PAD: i32 = 258;
/// Merged tokens, from 259 on.
const MERGED: [&str; 40] = [
    "{\"",
    "\":",
    "\",",
    "\"}",
    "\": ",
    ", ",
    ",\"",
    "true",
    "false",
    "null",
    "ab",
    "abc",
    "foo",
    "foo\"",
    "bar",
    "\"foo\"",
    "10",
    "12",
    "100",
    "0.",
    "e1",
    "é",
    "中",
    "\u{1f600}",
    "\\n",
    "\\u00",
    "[[",
    "]]",
    "[]",
    "{}",
    "}}",
    "]}",
    " \"",
    "\n",
    "  ",
    "aa",
    "aaa",
    "-1",
    ".0",
    "\"\"",
];

/// Every byte, the ends, a control token and some merges.
fn vocab(encode: bool) -> VocabBytes {
    let mut tokens: Vec<Option<Vec<u8>>> = (0..=255u8).map(|byte| Some(vec![byte])).collect();
    tokens.extend([None, None, None]);
    tokens.extend(MERGED.iter().map(|text| Some(text.as_bytes().to_vec())));
    let words: Vec<Option<Vec<u8>>> = tokens.clone();
    let longest = move |text: &str| {
        let (mut rest, mut ids) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            let fits = |word: &Option<Vec<u8>>| {
                word.as_ref().map_or(0, |w| if rest.starts_with(w) { w.len() } else { 0 })
            };
            let id = (0..words.len()).max_by_key(|&id| fits(&words[id]))?;
            rest = &rest[fits(&words[id])..];
            ids.push(id as i32);
        }
        Some(ids)
    };
    VocabBytes { tokens, eog: vec![EOG, EOT], encode: encode.then(|| Arc::new(longest) as Arc<_>) }
}

fn env() -> Arc<GrammarEnv> {
    GrammarEnv::new(vocab(false)).expect("a vocabulary")
}

/// A text sampled from random logits, and whether it ended by itself.
struct Sampled {
    text: Vec<u8>,
    ended: bool,
}

/// Samples at most `limit` tokens. Logits are noise, with a drift towards what
/// closes a text that grows with its length: noise alone hardly ever ends one.
fn sample(grammar: &Grammar, seed: u64, limit: usize) -> tern::Result<Sampled> {
    let words = vocab(false).tokens;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sampler = Sampler::new(seed);
    sampler.add_temp(1.0)?.add_grammar(grammar)?;
    let mut text = Vec::new();
    for n in 0..limit {
        let pull = n as f32 * 0.15;
        let row: Vec<f32> = (0..words.len() as i32)
            .map(|id| {
                let noise = rng.f32() * 4.0;
                let closing = id == EOG || id == EOT || (id < 256 && b"\"]}".contains(&(id as u8)));
                // Exponents soon leave the range of f64.
                let unloved =
                    id < 256 && matches!(id as u8, b'e' | b'E' | b' ' | b'\t' | b'\r' | b'\n');
                noise
                    + if closing {
                        pull
                    } else if unloved {
                        -4.0
                    } else {
                        0.0
                    }
            })
            .collect();
        let token = sampler.sample(&row)?;
        if token == EOG || token == EOT {
            return Ok(Sampled { text, ended: true });
        }
        let bytes = words[token as usize].as_ref().expect("a grammar allows no control token");
        text.extend_from_slice(bytes);
    }
    Ok(Sampled { text, ended: false })
}

/// JSON as grammars write it: on one line, with a space behind commas and colons.
fn spaced(value: &serde_json::Value) -> String {
    use serde_json::Value;
    let list = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(spaced).collect())),
        Value::Object(fields) => {
            let field = |(key, value)| format!("{}: {}", Value::from(key as &str), spaced(value));
            format!(
                "{{{}}}",
                list(fields.iter().map(|(key, value)| field((key.as_str(), value))).collect())
            )
        }
        other => other.to_string(),
    }
}

/// Whether `grammar` takes `text`, given byte by byte, as a whole.
fn takes(grammar: &Grammar, text: &[u8]) -> bool {
    let mut state = tern::sampler::GrammarState::new(grammar);
    text.iter().all(|&byte| state.accept(i32::from(byte)).is_ok())
        && state.is_accepting().unwrap_or(false)
}

fn compile(kind: GrammarKind, source: &str) -> tern::Result<Grammar> {
    Grammar::compile(&env(), kind, source.as_bytes())
}
