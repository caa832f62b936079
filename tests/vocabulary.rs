//! Vocabularies that break a rule are errors that name it; the rest is read as the models' authors meant it.

#[path = "common/vocab.rs"]
#[expect(dead_code, reason = "only headers are made here")]
mod vocab;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tern::{
    Error,
    file::{Gguf, Source, Value},
    text::{DecodeOptions, Tokenizer},
};

/// A vocabulary in the making: 256 bytes, some merges, BOS and two ends.
#[derive(Clone)]
struct Draft {
    model: &'static str,
    pre: Option<&'static str>,
    tokens: Vec<Vec<u8>>,
    kinds: Option<Vec<i32>>,
    scores: Option<Vec<f32>>,
    merges: Option<Vec<Vec<u8>>>,
    ids: Vec<(&'static str, Value<'static>)>,
}

impl Draft {
    fn byte_level() -> Draft {
        let mut tokens: Vec<Vec<u8>> =
            (0..=255).map(|byte| vocab::spell(&[byte]).into_bytes()).collect();
        tokens.extend(
            ["he", "ll", "hell", "Ġhe", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
                .map(|t| t.as_bytes().to_vec()),
        );
        let mut kinds = vec![1; 260];
        kinds.extend([3; 3]);
        Draft {
            model: "gpt2",
            pre: Some("llama-bpe"),
            tokens,
            kinds: Some(kinds),
            scores: None,
            merges: Some(
                ["h e", "l l", "he ll", "Ġ he"].map(|merge| merge.as_bytes().to_vec()).to_vec(),
            ),
            ids: vec![("bos_token_id", Value::U32(260)), ("eos_token_id", Value::U32(261))],
        }
    }

    fn sentence_piece() -> Draft {
        let mut tokens: Vec<Vec<u8>> =
            ["<unk>", "<s>", "</s>"].map(|t| t.as_bytes().to_vec()).to_vec();
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>").into_bytes()));
        tokens.extend(["▁", "a", "b", "ab", "▁ab"].map(|t| t.as_bytes().to_vec()));
        let mut kinds = vec![2, 3, 3];
        kinds.extend([6; 256]);
        kinds.extend([1; 5]);
        let mut scores = vec![0.0; 259];
        scores.extend([-1.0, -2.0, -3.0, -4.0, -5.0]);
        Draft {
            model: "llama",
            pre: Some("default"),
            tokens,
            kinds: Some(kinds),
            scores: Some(scores),
            merges: None,
            ids: vec![],
        }
    }

    fn header(&self) -> Gguf {
        vocab::header(|writer| {
            writer.set("tokenizer.ggml.model", Value::String(self.model.as_bytes()));
            if let Some(pre) = self.pre {
                writer.set("tokenizer.ggml.pre", Value::String(pre.as_bytes()));
            }
            writer.set_strings("tokenizer.ggml.tokens", self.tokens.iter());
            if let Some(kinds) = &self.kinds {
                writer.set_i32s("tokenizer.ggml.token_type", kinds.iter().copied());
            }
            if let Some(scores) = &self.scores {
                writer.set_f32s("tokenizer.ggml.scores", scores.iter().copied());
            }
            if let Some(merges) = &self.merges {
                writer.set_strings("tokenizer.ggml.merges", merges.iter());
            }
            for (name, value) in &self.ids {
                writer.set(&format!("tokenizer.ggml.{name}"), *value);
            }
        })
    }

    fn open(&self) -> tern::Result<Tokenizer> {
        Tokenizer::open(&self.header().metadata)
    }

    fn with(mut self, change: impl FnOnce(&mut Draft)) -> Draft {
        change(&mut self);
        self
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<i32> {
    tokenizer.encode(text, false, false, None).expect("encodes")
}

#[test]
fn broken_vocabularies_are_named() {
    let (bpe, spm) = (Draft::byte_level, Draft::sentence_piece);
    let cases = [
        ("tokens", "at least one", bpe().with(|d| (d.tokens, d.kinds) = (vec![], Some(vec![])))),
        ("token_type", "wanted 263", bpe().with(|d| d.kinds = Some(vec![1; 262]))),
        ("token_type", "7 for token 3", bpe().with(|d| d.kinds.as_mut().expect("set")[3] = 7)),
        ("token_type", "0 for token 0", bpe().with(|d| d.kinds.as_mut().expect("set")[0] = 0)),
        (
            "token_type",
            "-1 for token 262",
            bpe().with(|d| d.kinds.as_mut().expect("set")[262] = -1),
        ),
        ("merges", "missing", bpe().with(|d| d.merges = None)),
        ("merges", "merge 0 is \"he\"", bpe().with(|d| d.merges = Some(vec![b"he".to_vec()]))),
        (
            "merges",
            "merge 1 is \" e\"",
            bpe().with(|d| d.merges = Some(vec![b"h e".to_vec(), b" e".to_vec()])),
        ),
        ("merges", "merge 0 is \"\"", bpe().with(|d| d.merges = Some(vec![vec![]]))),
        (
            "merges",
            "wanted two parts",
            bpe().with(|d| d.merges = Some(vec![vec![0xff, b' ', b'e']])),
        ),
        ("merges", "`zz`", bpe().with(|d| d.merges = Some(vec![b"h zz".to_vec()]))),
        ("merges", "`eh`", bpe().with(|d| d.merges = Some(vec![b"e h".to_vec()]))),
        // Text that merges into a control token would write one.
        ("merges", "`<|eot_id|>`", bpe().with(|d| d.merges = Some(vec![b"<|eot_id|> h".to_vec()]))),
        ("bos_token_id", "token 263 of 263", bpe().with(|d| d.ids[0].1 = Value::U32(263))),
        ("eos_token_id", "token 4294967295", bpe().with(|d| d.ids[1].1 = Value::U32(u32::MAX))),
        (
            "eot_token_id",
            "wanted an integer",
            bpe().with(|d| d.ids.push(("eot_token_id", Value::I32(-1)))),
        ),
        (
            "unknown_token_id",
            "token 999",
            bpe().with(|d| d.ids.push(("unknown_token_id", Value::U64(999)))),
        ),
        (
            "add_bos_token",
            "wanted a truth value",
            bpe().with(|d| d.ids.push(("add_bos_token", Value::U32(1)))),
        ),
        ("tokens", "'<0x0A>'", spm().with(|d| d.tokens[3 + 10] = b"ten".to_vec())),
        ("tokens", "'<0x00>'", spm().with(|d| d.kinds = Some(vec![1; 264]))),
        ("scores", "missing", spm().with(|d| d.scores = None)),
        ("scores", "wanted 264", spm().with(|d| d.scores = Some(vec![0.0; 263]))),
        ("scores", "token 5", spm().with(|d| d.scores.as_mut().expect("set")[5] = f32::NAN)),
    ];
    for (key, says, draft) in cases {
        let result = catch_unwind(AssertUnwindSafe(|| draft.open())).expect("no panic");
        match result {
            Err(Error::BadModel { place, rule, .. }) => {
                assert!(
                    place.contains(key) && rule.contains(says),
                    "{key}, {says}: {place}: {rule}"
                );
            }
            other => panic!("{key}, {says}: {other:?}"),
        }
    }
}

#[test]
fn unknown_kinds_are_unsupported_and_named() {
    for (draft, name) in [
        (Draft::byte_level().with(|d| d.pre = Some("sophia")), "sophia"),
        (Draft::byte_level().with(|d| d.model = "bert"), "bert"),
        (Draft::byte_level().with(|d| d.model = "none"), "none"),
    ] {
        match draft.open() {
            Err(Error::UnsupportedModel { what, remedy }) => {
                assert!(what.contains(name) && !remedy.is_empty(), "{what}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn names_of_splits_are_known() {
    // How each cuts digits, a contraction and marks before a newline.
    let text = "1234 I'M ?!\n";
    for (pre, pieces) in [
        (Some("llama-bpe"), vec!["123", "4", " I", "'M", " ?!\n"]),
        (Some("llama3"), vec!["123", "4", " I", "'M", " ?!\n"]),
        (Some("llama-v3"), vec!["123", "4", " I", "'M", " ?!\n"]),
        (Some("falcon3"), vec!["123", "4", " I", "'M", " ?!\n"]),
        (Some("qwen2"), vec!["1", "2", "3", "4", " I", "'M", " ?!\n"]),
        (Some("gpt-2"), vec!["1234", " I", "'", "M", " ?!", "\n"]),
        (None, vec!["1234", " I", "'", "M", " ?!", "\n"]),
        (Some("falcon_e"), vec!["1", "2", "3", "4", " I", "'", "M", " ", "?!", "\n"]),
    ] {
        // A token for every piece that any of them gives, so that a piece is one token.
        let mut draft = Draft::byte_level().with(|d| d.pre = pre);
        let words = ["123", "1234", " I", "'M", " ?!\n", " ?!", "?!", "12"];
        let mut merges = Vec::new();
        for word in words {
            for end in 2..=word.len() {
                let (left, right) = (
                    vocab::spell(&word.as_bytes()[..end - 1]),
                    vocab::spell(&word.as_bytes()[end - 1..end]),
                );
                let token = format!("{left}{right}").into_bytes();
                if !draft.tokens.contains(&token) {
                    draft.tokens.push(token);
                    draft.kinds.as_mut().expect("set").push(1);
                    merges.push(format!("{left} {right}").into_bytes());
                }
            }
        }
        draft.merges = Some(merges);
        let tokenizer = draft.open().expect("a sound vocabulary");
        let found = encode(&tokenizer, text);
        let found: Vec<&[u8]> =
            found.iter().map(|token| tokenizer.piece(*token, false).expect("in range")).collect();
        assert_eq!(
            found,
            pieces.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>(),
            "{pre:?}"
        );
        let adds_bos = !matches!(pre, Some("qwen2" | "gpt-2" | "falcon_e") | None);
        assert_eq!(tokenizer.adds_bos(), adds_bos, "{pre:?}");
    }
}

#[test]
fn the_files_word_on_bos_and_eos_is_final() {
    let draft = Draft::byte_level().with(|d| {
        d.ids.extend([("add_bos_token", Value::Bool(false)), ("add_eos_token", Value::Bool(true))]);
    });
    let tokenizer = draft.open().expect("a sound vocabulary");
    assert_eq!(tokenizer.encode("hell", true, false, None).expect("encodes"), [258, 261]);
    assert_eq!(tokenizer.encode("", true, false, None).expect("encodes"), [261]);
}

#[test]
fn whole_pieces_ignore_merges_only_where_the_model_does() {
    // Without "he ll" the merges stop at "he" and "ll", but "hell" is a token.
    let draft = |pre| {
        Draft::byte_level()
            .with(|d| (d.pre, d.merges) = (Some(pre), Some(vec![b"h e".to_vec(), b"l l".to_vec()])))
    };
    assert_eq!(encode(&draft("llama-bpe").open().expect("sound"), "hell"), [258]);
    assert_eq!(encode(&draft("qwen2").open().expect("sound"), "hell"), [256, 257]);
}

#[test]
fn the_first_of_two_equal_tokens_is_used() {
    let draft = Draft::byte_level().with(|d| {
        d.tokens.extend([b"he".to_vec(), b"<|eot_id|>".to_vec()]);
        d.kinds.as_mut().expect("set").extend([1, 3]);
    });
    let tokenizer = draft.open().expect("a sound vocabulary");
    assert_eq!(encode(&tokenizer, "he"), [256]);
    assert_eq!(tokenizer.encode("<|eot_id|>", false, true, None).expect("encodes"), [262]);
    assert_eq!(tokenizer.piece(263, false).expect("in range"), b"he");
    // Both end a turn, if the model says the other one.
    assert_eq!(tokenizer.eog_tokens(), [261, 262, 264]);
}

#[test]
fn mangled_and_mistyped_specials_are_mended() {
    let draft = Draft::byte_level().with(|d| {
        d.tokens[261] = b"<|begin_of_text|><|end_of_text|>".to_vec();
        d.tokens[262] = b"<|begin_of_text|><|eot_id|>".to_vec();
        d.tokens.push(b"<|im_end|>".to_vec());
        d.kinds.as_mut().expect("set").push(1);
    });
    let tokenizer = draft.open().expect("a sound vocabulary");
    assert_eq!((tokenizer.eos(), tokenizer.eot()), (Some(261), Some(262)));
    assert_eq!(tokenizer.eog_tokens(), [261, 262, 263]);
    assert_eq!(tokenizer.token_name(262), Some("<|eot_id|>"));
    assert!(
        tokenizer.is_control(263).expect("in range"),
        "a control token by name, whatever its type"
    );
    assert_eq!(
        tokenizer.encode("<|eot_id|><|im_end|>", false, true, None).expect("encodes"),
        [262, 263]
    );
    assert!(encode(&tokenizer, "<|im_end|>").len() > 1);
}

#[test]
fn user_defined_tokens_are_found_in_any_text_and_the_longest_wins() {
    let draft = Draft::byte_level().with(|d| {
        d.tokens.extend(["<tool>", "<tool><tool>", "<", "é"].map(|t| t.as_bytes().to_vec()));
        d.kinds.as_mut().expect("set").extend([4; 4]);
    });
    let tokenizer = draft.open().expect("a sound vocabulary");
    assert_eq!(encode(&tokenizer, "<tool><tool><tool>he<é"), [264, 263, 256, 265, 266]);
    let back = tokenizer.decode(&[264, 263, 266], DecodeOptions::default()).expect("in range");
    assert_eq!(back, "<tool><tool><tool>é".as_bytes(), "they are text");
}

#[test]
fn invalid_utf8_and_missing_bytes_do_no_harm() {
    let draft = Draft::byte_level().with(|d| {
        d.tokens[0] = vec![0xff, 0xfe]; // was the byte 0
        d.tokens.push(vec![0xc3]);
        d.kinds.as_mut().expect("set").push(3);
    });
    let tokenizer = draft.open().expect("a sound vocabulary");
    assert_eq!(tokenizer.piece(0, false).expect("in range"), [0xff, 0xfe]);
    assert_eq!(tokenizer.token_name(263), None);
    assert_eq!(tokenizer.encode("hellé", false, true, None).expect("encodes").len(), 3);
    match tokenizer.encode("he\0", false, false, None) {
        Err(Error::BadModel { rule, .. }) => assert!(rule.contains("0x00"), "{rule}"),
        other => panic!("text would be lost: {other:?}"),
    }
}

#[test]
fn the_first_llamas_ids_are_known_without_keys() {
    let tokenizer = Draft::sentence_piece().open().expect("a sound vocabulary");
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(1), Some(2), None));
    assert_eq!(tokenizer.eog_tokens(), [2]);
    assert_eq!(tokenizer.encode("ab", true, false, None).expect("encodes"), [1, 263]);
    // A control token's name is no token of text, even where merges could make it.
    let spelled = encode(&tokenizer, "</s>");
    assert!(!spelled.contains(&2), "{spelled:?}");
    assert_eq!(tokenizer.encode("ab</s>ab", true, true, None).expect("encodes"), [1, 263, 2, 263]);
    let text = tokenizer.decode(&[1, 263, 2, 263], DecodeOptions::default()).expect("in range");
    assert_eq!(text, b"ab ab");
}

#[test]
fn a_vocabulary_with_any_wrong_byte_is_refused_or_works() {
    let mut rng = fastrand::Rng::with_seed(41);
    let (mut opened, mut refused) = (0, 0);
    for draft in [Draft::byte_level(), Draft::sentence_piece()] {
        let gguf = draft.header();
        let whole = gguf.source().bytes(0..gguf.source().len()).expect("in memory").into_owned();
        for case in 0..4000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(24..bytes.len());
                bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ (1 << rng.u8(0..8)) };
            }
            let run = || -> tern::Result<()> {
                let gguf = Gguf::parse(Arc::new(Source::from_memory(bytes.clone())))?;
                let tokenizer = Tokenizer::open(&gguf.metadata)?;
                for text in ["hello <|eot_id|> ab\n\u{0}é🦙", "", "</s><0x0A>▁"] {
                    // A byte may have lost its token, which is an error.
                    if let Ok(tokens) = tokenizer.encode(text, true, true, None) {
                        tokenizer.decode(&tokens, DecodeOptions::default())?;
                    }
                }
                let all: Vec<i32> = (0..tokenizer.vocab_len() as i32).collect();
                tokenizer.decode(
                    &all,
                    DecodeOptions { render_special: true, ..DecodeOptions::default() },
                )?;
                Ok(())
            };
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => opened += 1,
                Ok(Err(Error::BadModel { .. } | Error::UnsupportedModel { .. })) => refused += 1,
                other => panic!("case {case} of {}: {other:?}", draft.model),
            }
        }
    }
    assert!(opened > 300 && refused > 1000, "{opened} opened, {refused} refused");
}

#[test]
fn any_number_of_threads_may_use_one_tokenizer() {
    let tokenizer = Draft::byte_level().open().expect("a sound vocabulary");
    let want = encode(&tokenizer, &"hello ".repeat(500));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(encode(&tokenizer, &"hello ".repeat(500)), want);
                }
            });
        }
    });
}
