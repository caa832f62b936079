//! Text to tokens and back, against other implementations' results.

#[path = "common/vocab.rs"]
mod vocab;

use std::{collections::HashMap, io::Write, path::Path, sync::Arc, time::Duration};
use tern::{
    Cancel, Error,
    file::{Gguf, OpenOptions, Source, Value},
    text::{DecodeOptions, Detok, Tokenizer},
};
use vocab::{Tiktoken, merge_by_definition};

fn open(path: &str) -> (Gguf, Tokenizer) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let source =
        Source::open(&path, OpenOptions::default()).expect("the file is in the repository");
    let gguf = Gguf::parse(Arc::new(source)).expect("a sound model");
    let tokenizer = Tokenizer::open(&gguf.metadata).expect("a sound vocabulary");
    (gguf, tokenizer)
}

fn seed() -> Tokenizer {
    open("examples/models/seed-s.gguf").1
}

/// The LLaMA-3 vocabulary, which cannot lie in the repository, if the tester
/// has it. Says so, past the test harness's capture, if not.
fn llama3(test: &str) -> Option<Tiktoken> {
    let Some(path) = std::env::var_os("TERN_TEST_VOCAB") else {
        let message = format!(
            "SKIPPED {test}: needs the LLaMA-3 vocabulary, which its licence keeps out of this repository; \
             set TERN_TEST_VOCAB to a tiktoken `tokenizer.model` (PyPI llama-models 0.3.0 contains it)\n"
        );
        let _ = std::io::stderr().write_all(message.as_bytes());
        return None;
    };
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("TERN_TEST_VOCAB {path:?}: {error}"));
    Some(Tiktoken::parse(&text))
}

/// One line of `llama3-token-cases.jsonl`.
#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<i32>,
    special: bool,
}

#[test]
fn llama3_cases_give_tiktokens_ids() {
    let cases = include_str!("data/llama3-token-cases.jsonl").lines();
    let cases: Vec<Case> = cases.map(|line| serde_json::from_str(line).expect("a case")).collect();
    assert_eq!(cases.len(), 140);
    let Some(tiktoken) = llama3("llama3_cases_give_tiktokens_ids") else { return };
    assert_eq!(tiktoken.merges().len(), 280_147, "as many as the official file has");
    // With the pre-tokenizer named, and without, as in the official BitNet file.
    for name in [Some("llama-bpe"), None] {
        let gguf = tiktoken.llama3(|writer| {
            if let Some(name) = name {
                writer.set("tokenizer.ggml.pre", Value::String(name.as_bytes()));
            }
        });
        let tokenizer = Tokenizer::open(&gguf.metadata).expect("a sound vocabulary");
        for Case { text, ids, special } in &cases {
            let found = tokenizer.encode(text, false, *special, None).expect("any text encodes");
            assert_eq!(&found, ids, "pre {name:?}: {text:?}");
            let options = DecodeOptions { render_special: *special, ..DecodeOptions::default() };
            let back = tokenizer.decode(&found, options).expect("these ids are in range");
            assert_eq!(back, text.as_bytes(), "pre {name:?}");
        }
        assert_eq!(
            (tokenizer.bos(), tokenizer.eos(), tokenizer.eot()),
            (Some(128_000), Some(128_001), Some(128_009))
        );
        assert_eq!(tokenizer.eog_tokens(), [128_001, 128_009]);
        assert!(tokenizer.adds_bos(), "pre {name:?}");
    }
}

#[test]
fn oracle_prompts_give_the_peers_ids() {
    let (_, tokenizer) = open("tests/data/oracle/tiny-b158-i2s.gguf");
    let prompts = include_str!("data/oracle/tokenizer_prompts.txt").lines();
    let ids = include_str!("data/oracle/tokenizer_ids.txt").lines();
    let mut count = 0;
    for (prompt, ids) in prompts.zip(ids) {
        let ids: Vec<i32> = ids.split(',').map(|id| id.parse().expect("an id")).collect();
        let prompt = prompt.replace("\\n", "\n");
        assert_eq!(
            tokenizer.encode(&prompt, true, true, None).expect("encodes"),
            ids,
            "{prompt:?}"
        );
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn any_text_comes_back_byte_for_byte() {
    let tokenizer = seed();
    let mut rng = fastrand::Rng::with_seed(11);
    for case in 0..3000 {
        let len = rng.usize(0..80);
        let text: String = (0..len)
            .map(|_| match rng.u8(0..4) {
                0 => rng.char(..),
                1 => rng.char(' '..='~'),
                2 => *rng
                    .choice(&[' ', '\n', '\r', '\t', '\u{a0}', '\'', 's', '🦙', '\u{301}', '\0'])
                    .expect("not empty"),
                _ => rng.char('\u{80}'..='\u{3000}'),
            })
            .collect();
        let tokens = tokenizer.encode(&text, true, false, None).expect("any text encodes");
        let back =
            tokenizer.decode(&tokens, DecodeOptions { remove_special: true, render_special: true });
        assert_eq!(back.expect("ids in range"), text.as_bytes(), "case {case}: {text:?}");
    }
}

#[test]
fn names_of_control_tokens_are_text_unless_asked_for() {
    let tokenizer = seed();
    let (bos, eot) = (2045, 2047);
    let text = "a<|eot_id|><|begin_of_text|>";
    let plain = tokenizer.encode(text, false, false, None).expect("encodes");
    assert!(plain.iter().all(|token| *token < 2045), "{plain:?}");
    let parsed = tokenizer.encode(text, true, true, None).expect("encodes");
    assert_eq!((parsed[0], &parsed[parsed.len() - 2..]), (bos, &[eot, bos][..]));
    let hidden = tokenizer.decode(&parsed, DecodeOptions::default()).expect("ids in range");
    assert_eq!(hidden, b"a");
    let shown = DecodeOptions { remove_special: true, render_special: true };
    assert_eq!(tokenizer.decode(&parsed, shown).expect("ids in range"), text.as_bytes());
    assert_eq!(tokenizer.token_bytes(eot), None);
    assert!(
        tokenizer.is_control(eot).expect("in range") && tokenizer.is_eog(eot).expect("in range")
    );
}

#[test]
fn ids_out_of_range_are_refused() {
    let tokenizer = seed();
    for token in [-1, 2048, i32::MAX, i32::MIN] {
        let results = [
            tokenizer.piece(token, true).map(|_| ()),
            tokenizer.is_eog(token).map(|_| ()),
            tokenizer.is_control(token).map(|_| ()),
            tokenizer.decode(&[0, token], DecodeOptions::default()).map(|_| ()),
        ];
        for result in results {
            assert!(matches!(result, Err(Error::InvalidArgument(_))), "{token}: {result:?}");
        }
        assert_eq!(tokenizer.token_bytes(token), None, "{token}");
    }
}

/// Runs that a backtracking engine gives up on, and one word that no window holds.
#[test]
fn giant_runs_give_the_tokens_of_the_definition() {
    const LEN: usize = 2_000_000;
    let mut rng = fastrand::Rng::with_seed(5);
    let letters: String = (0..LEN / 10).map(|_| rng.char('a'..='z')).collect();
    let mut word = || *rng.choice(&["the", "in", "a", "ж", "an", "é"]).expect("not empty");
    let words: String = (0..LEN / 20).map(|_| word()).collect();
    let giants =
        [" ".repeat(LEN), "\n".repeat(LEN), "a".repeat(LEN), "!".repeat(LEN / 10), letters, words];

    let (gguf, tokenizer) = open("examples/models/seed-s.gguf");
    let merges = gguf.metadata.array("tokenizer.ggml.merges").expect("merges");
    let merges =
        merges.strings().expect("strings").map(|merge| std::str::from_utf8(merge).expect("UTF-8"));
    let bytes: HashMap<String, u8> = (0..=255).map(|byte| (vocab::spell(&[byte]), byte)).collect();
    let unspell = |text: &str| text.chars().map(|c| bytes[&c.to_string()]).collect::<Vec<u8>>();
    let mut ranks: HashMap<Vec<u8>, HashMap<Vec<u8>, u32>> = HashMap::new();
    for (rank, merge) in (0..).zip(merges) {
        let (left, right) = merge.split_once(' ').expect("two parts");
        ranks.entry(unspell(left)).or_default().insert(unspell(right), rank);
    }
    for text in &giants {
        check_giant(&tokenizer, text, |left, right| ranks.get(left)?.get(right).copied());
    }
    if let Some(tiktoken) =
        llama3("giant_runs_give_the_tokens_of_the_definition (its LLaMA-3 half)")
    {
        let gguf = tiktoken.llama3(|_| {});
        let tokenizer = Tokenizer::open(&gguf.metadata).expect("a sound vocabulary");
        for text in &giants {
            check_giant(&tokenizer, text, |left, right| {
                tiktoken.ranks.get(&[left, right].concat()).copied()
            });
        }
    }
}

fn check_giant(tokenizer: &Tokenizer, text: &str, rank: impl Fn(&[u8], &[u8]) -> Option<u32>) {
    let tokens = tokenizer.encode(text, false, false, None).expect("encodes");
    let pieces = tokens.iter().map(|token| tokenizer.piece(*token, false).expect("in range"));
    let want = merge_by_definition(text.as_bytes(), rank);
    let start: String = text.chars().take(16).collect();
    assert_eq!(tokens.len(), want.len(), "{start:?}...");
    let differs = pieces.zip(&want).position(|(found, want)| found != *want);
    assert_eq!(differs, None, "{start:?}...");
}

#[test]
fn a_giant_word_is_cancelled() {
    let tokenizer = seed();
    let cancel = Cancel::new();
    cancel.set();
    for text in ["one short text", "x"] {
        let result = tokenizer.encode(text, true, false, Some(&cancel));
        assert!(matches!(result, Err(Error::Cancelled)), "{text}: {result:?}");
    }
    cancel.reset();
    let text = "a".repeat(100 << 20);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            cancel.set();
        });
        tokenizer.encode(&text, true, false, Some(&cancel))
    });
    assert!(matches!(result, Err(Error::Cancelled)), "100 MiB in 50 ms?");
}

#[test]
fn streamed_text_is_the_lossy_text_of_all_bytes() {
    let tokenizer = seed();
    let mut rng = fastrand::Rng::with_seed(17);
    // Tokens of one byte make torn and invalid characters likely.
    let single: Vec<i32> = (0..2045)
        .filter(|token| tokenizer.token_bytes(*token).is_some_and(|b| b.len() == 1))
        .collect();
    assert_eq!(single.len(), 256);
    for case in 0..4000 {
        let options = DecodeOptions { remove_special: rng.bool(), render_special: rng.bool() };
        let mut tokens = Vec::new();
        for _ in 0..rng.usize(0..12) {
            match rng.u8(0..6) {
                0 => tokens.push(rng.i32(0..2048)),
                1 => tokens.push(rng.i32(2045..2048)),
                2 => tokens.extend(
                    tokenizer
                        .encode(&rng.char(..).to_string(), false, false, None)
                        .expect("encodes"),
                ),
                _ => {
                    let high: Vec<i32> = single
                        .iter()
                        .copied()
                        .filter(|t| tokenizer.token_bytes(*t).expect("text")[0] >= 0x80)
                        .collect();
                    tokens.push(*rng.choice(&high).expect("not empty"));
                }
            }
        }
        let mut detok = Detok::new(options);
        for round in 0..2 {
            let mut text = String::new();
            let mut bytes_out = 0;
            for (index, token) in tokens.iter().enumerate() {
                text += detok.push(&tokenizer, *token).expect("in range");
                let so_far = tokenizer
                    .decode(&tokens[..=index], DecodeOptions { remove_special: false, ..options });
                bytes_out = so_far.expect("in range").len();
            }
            text += detok.finish();
            let whole = tokenizer.decode(&tokens, options).expect("in range");
            assert_eq!(
                text,
                String::from_utf8_lossy(&whole),
                "case {case}.{round}: {tokens:?} {options:?}"
            );
            assert!(whole.len() <= bytes_out);
        }
        assert!(detok.push(&tokenizer, 2048).is_err());
    }
}

#[test]
fn streamed_text_waits_for_whole_characters_only() {
    let tokenizer = seed();
    let token = |byte: u8| {
        let of = |token: &i32| tokenizer.token_bytes(*token) == Some(&[byte]);
        (0..2045).find(of).expect("a token for each byte")
    };
    let mut detok = Detok::new(DecodeOptions::default());
    let mut push = |byte: u8| detok.push(&tokenizer, token(byte)).expect("in range").to_owned();
    // The four bytes of a llama, then half a character cut short by a letter.
    assert_eq!([0xf0, 0x9f, 0xa6, 0x99].map(&mut push), ["", "", "", "🦙"]);
    assert_eq!([0xe4, 0xbd, b'x'].map(&mut push), ["", "", "\u{fffd}x"]);
    assert_eq!([0x80, 0xff, 0xe4].map(&mut push), ["\u{fffd}", "\u{fffd}", ""]);
    assert_eq!(detok.finish(), "\u{fffd}");
    assert_eq!(detok.finish(), "");
}

/// A SentencePiece vocabulary: specials, bytes, and tokens with scores.
fn sentence_piece(tokens: &[(String, f32)], space_prefix: Option<bool>) -> Tokenizer {
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    texts.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    texts.extend(tokens.iter().map(|(text, _)| text.clone()));
    let kinds =
        [2, 3, 3].into_iter().chain([6; 256]).chain(vec![1; tokens.len()]).collect::<Vec<i32>>();
    let scores: Vec<f32> =
        [0.0; 259].into_iter().chain(tokens.iter().map(|(_, score)| *score)).collect();
    let gguf = vocab::header(|writer| {
        writer.set("tokenizer.ggml.model", Value::String(b"llama"));
        writer.set_strings("tokenizer.ggml.tokens", texts.iter());
        writer.set_i32s("tokenizer.ggml.token_type", kinds.into_iter());
        writer.set_f32s("tokenizer.ggml.scores", scores.into_iter());
        if let Some(prefix) = space_prefix {
            writer.set("tokenizer.ggml.add_space_prefix", Value::Bool(prefix));
        }
    });
    Tokenizer::open(&gguf.metadata).expect("a sound vocabulary")
}

#[test]
fn sentence_piece_merges_as_defined() {
    let mut rng = fastrand::Rng::with_seed(33);
    for case in 0..300 {
        // All strings over a small alphabet up to four letters, some missing, many scores equal.
        let letters = ["a", "b", "▁", "é"];
        let mut words: Vec<String> = letters.map(str::to_owned).to_vec();
        let mut all = words.clone();
        for _ in 0..3 {
            all = all
                .iter()
                .flat_map(|word| letters.map(|letter| format!("{word}{letter}")))
                .collect();
            words.extend(all.iter().filter(|_| rng.u8(0..3) == 0).cloned());
        }
        let tokens: Vec<(String, f32)> =
            words.into_iter().map(|word| (word, f32::from(rng.i8(-9..=0)))).collect();
        let prefix = rng.bool();
        let tokenizer = sentence_piece(&tokens, (!prefix || rng.bool()).then_some(prefix));
        let len = if case % 30 == 0 { 40_000 } else { rng.usize(1..60) };
        let text: String = (0..len)
            .map(|_| *rng.choice(&['a', 'b', ' ', 'é', 'b', 'ж', '\n']).expect("not empty"))
            .collect();

        let ranks: HashMap<&[u8], u32> =
            tokens.iter().map(|(word, score)| (word.as_bytes(), (-score) as u32)).collect();
        let spaced = if prefix { format!(" {text}") } else { text.clone() }.replace(' ', "▁");
        let mut want: Vec<Vec<u8>> = Vec::new();
        // The definition merges bytes here, so characters are put together first.
        let rank = |left: &[u8], right: &[u8]| {
            let both = [left, right].concat();
            match std::str::from_utf8(&both) {
                Ok(pair) if pair.chars().count() == 1 => Some(0),
                Ok(_) => ranks.get(both.as_slice()).map(|rank| rank + 2),
                Err(_) => {
                    (left.len() < 3 && right.len() == 1 && std::str::from_utf8(left).is_err())
                        .then_some(1)
                }
            }
        };
        for part in merge_by_definition(spaced.as_bytes(), rank) {
            let part = std::str::from_utf8(part).expect("whole characters");
            if ranks.contains_key(part.as_bytes()) {
                want.push(part.replace('▁', " ").into_bytes());
            } else {
                want.extend(part.bytes().map(|byte| vec![byte]));
            }
        }
        let found = tokenizer.encode(&text, true, false, None).expect("encodes");
        assert_eq!(found[0], 1, "BOS");
        let pieces: Vec<&[u8]> = found[1..]
            .iter()
            .map(|token| tokenizer.piece(*token, false).expect("in range"))
            .collect();
        assert_eq!(pieces, want, "case {case}: {text:.60?} with {tokens:?}");
        let options = DecodeOptions { remove_special: true, render_special: true };
        assert_eq!(
            tokenizer.decode(&found, options).expect("in range"),
            text.as_bytes(),
            "case {case}"
        );
        let mut detok = Detok::new(options);
        let mut streamed = String::new();
        for token in &found {
            streamed += detok.push(&tokenizer, *token).expect("in range");
        }
        assert_eq!(streamed + detok.finish(), text, "case {case}");
    }
}
