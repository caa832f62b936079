//! Every kind of grammar, and how grammars behave inside a sampler.

use crate::{EOG, EOT, MERGED, PAD, compile, env, sample, takes, vocab};
use tern::Error;
use tern::sampler::{Grammar, GrammarEnv, GrammarKind, GrammarState, Sampler, VocabBytes};

/// One logit each, all alike.
fn flat_row() -> Vec<f32> {
    vec![0.0; vocab(false).tokens.len()]
}

#[test]
fn each_kind_takes_what_it_says_and_no_more() {
    let cases: &[(GrammarKind, &str, &[&str], &[&str])] = &[
        (
            GrammarKind::Json,
            "ignored {",
            &["{\"a\": [1, true, null]}", "\"x\"", "-1.5e3"],
            &["{a}", "", "[1,]", "01"],
        ),
        (GrammarKind::JsonSchema, "{\"type\":\"integer\"}", &["-12", "0"], &["1.5", "\"1\""]),
        (
            GrammarKind::Regex,
            "(foo|é)+/[0-9]{2}",
            &["foo/12", "éfoo/00"],
            &["foo/1", "/12", "foo/123"],
        ),
        (
            GrammarKind::Choice,
            "[\"yes\",\"no\",\"not \\\"that\\\"\u{7f}\"]",
            &["yes", "no", "not \"that\"\u{7f}"],
            &["ye", "nope", ""],
        ),
        (
            GrammarKind::Lark,
            "start: A b+\nA: \"x\"\nb: \"y\" | \"(\" b \")\"",
            &["xy", "x(y)((y))"],
            &["x", "x(y"],
        ),
        (GrammarKind::Gbnf, "root ::= \"x\" root? [^x\\n]", &["xy", "xxy中"], &["xx", "xxy"]),
    ];
    for (kind, source, good, bad) in cases {
        let grammar = compile(*kind, source).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        for text in *good {
            assert!(takes(&grammar, text.as_bytes()), "{kind:?} refuses {text:?}");
        }
        for text in *bad {
            assert!(!takes(&grammar, text.as_bytes()), "{kind:?} takes {text:?}");
        }
        for seed in 0..20 {
            let sampled = sample(&grammar, seed, 2000).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
            let text = String::from_utf8(sampled.text).expect("UTF-8");
            assert!(!sampled.ended || takes(&grammar, text.as_bytes()), "{kind:?}: {text:?}");
        }
    }
}

#[test]
fn errors_name_line_and_column() {
    for (kind, source, want) in [
        (GrammarKind::JsonSchema, "{\n  \"type\": }", "line 2, column 11"),
        (
            GrammarKind::JsonSchema,
            "{\n  \"items\": {\"uniqueItems\": true}}",
            "line 2, column 13: Unimplemented keys",
        ),
        (GrammarKind::Choice, "[\"a\"\n,", "line 2, column 1"),
        (GrammarKind::Choice, "[]", "one or more"),
        (GrammarKind::Choice, "[\"a\", \"\"]", "non-empty"),
        (GrammarKind::Regex, "a(b", "unclosed group"),
        (GrammarKind::Lark, "start: \"a\"\n  | b\n", "line 1, column 8: unknown name: \"b\""),
        (GrammarKind::Lark, "start: \"a", "line 1, column"),
        (GrammarKind::Gbnf, "root ::= \"a\"\n\n x ::= ]", "line 3, column 8"),
    ] {
        match compile(kind, source) {
            Err(Error::Grammar(message)) => {
                let shown = Error::Grammar(message).to_string();
                assert!(shown.contains(want), "{kind:?} {source:?}: {shown}");
            }
            other => panic!("{kind:?} {source:?}: {other:?}"),
        }
    }
    let torn = Grammar::compile(&env(), GrammarKind::Regex, b"ab\n\xff");
    assert!(torn.is_err_and(|e| e.to_string().contains("line 2, column 1: not UTF-8")));
}

#[test]
fn grammar_comes_before_truncation_whatever_the_order() {
    let grammar = compile(GrammarKind::Choice, "[\"b\"]").expect("compiles");
    let mut row = flat_row();
    row[usize::from(b'a')] = 9.0;
    for order in 0..2 {
        let mut sampler = Sampler::new(1);
        if order == 0 {
            sampler.add_top_k(1).expect("valid").add_grammar(&grammar).expect("valid");
        } else {
            sampler.add_grammar(&grammar).expect("valid").add_top_k(1).expect("valid");
        }
        assert_eq!(sampler.sample(&row).expect("samples"), i32::from(b'b'));
        // Complete: both tokens that end a generation are left, and no other.
        let end = sampler.sample(&row).expect("samples");
        assert!([EOG, EOT].contains(&end), "{end}");
        // An end may be followed by ends.
        assert!(sampler.sample(&row).is_ok_and(|token| [EOG, EOT].contains(&token)));
    }
}

#[test]
fn failures_leave_the_sampler_as_it_was() {
    let grammar = compile(GrammarKind::Regex, "[ab]{4}").expect("compiles");
    let mut sampler = Sampler::new(2);
    sampler.add_temp(1.0).expect("valid").add_grammar(&grammar).expect("valid");
    sampler.sample(&flat_row()).expect("samples");
    let mut twin = sampler.clone();
    let mut banned = flat_row();
    banned[usize::from(b'a')..=usize::from(b'b')].fill(f32::NEG_INFINITY);
    for id in 259..banned.len() {
        banned[id] = f32::NEG_INFINITY;
    }
    assert!(matches!(sampler.sample(&banned), Err(Error::Grammar(_))));
    assert!(matches!(sampler.sample(&flat_row()[1..]), Err(Error::InvalidArgument(_))));
    for token in [i32::from(b'c'), EOG, PAD, 1 << 30] {
        assert!(matches!(sampler.accept(token), Err(Error::Grammar(_))), "{token}");
    }
    for _ in 0..4 {
        assert_eq!(
            sampler.sample(&flat_row()).expect("samples"),
            twin.sample(&flat_row()).expect("samples")
        );
    }
    // A grammar of another vocabulary does not join.
    let mut small = vocab(false);
    small.tokens.truncate(300);
    small.tokens.truncate(270);
    let small = GrammarEnv::new(small).expect("a vocabulary");
    let other = Grammar::compile(&small, GrammarKind::Json, b"").expect("compiles");
    assert!(matches!(sampler.add_grammar(&other), Err(Error::InvalidArgument(_))));
}

#[test]
fn two_grammars_must_both_agree() {
    let (a, b) = (
        compile(GrammarKind::Regex, "[a-m]{2}").expect("compiles"),
        compile(GrammarKind::Regex, "[k-z]{2}"),
    );
    let mut sampler = Sampler::new(3);
    sampler.add_grammar(&a).expect("valid").add_grammar(&b.expect("compiles")).expect("valid");
    let first = sampler.sample(&flat_row()).expect("samples");
    assert!((i32::from(b'k')..=i32::from(b'm')).contains(&first), "{first}");
}

#[test]
fn clones_and_resets_walk_by_themselves() {
    let grammar = compile(GrammarKind::Choice, "[\"ab\",\"ac\"]").expect("compiles");
    let mut state = GrammarState::new(&grammar);
    state.accept(i32::from(b'a')).expect("allowed");
    let mut other = state.clone();
    state.accept(i32::from(b'b')).expect("allowed");
    assert!(state.is_finished().expect("sound"));
    assert!(!other.is_finished().expect("sound"));
    other.accept(i32::from(b'c')).expect("allowed");
    state.reset();
    assert!(!state.is_accepting().expect("sound"));
    state.accept(i32::from(b'a')).expect("allowed");
    state.accept(i32::from(b'c')).expect("allowed");
    assert!(state.is_accepting().expect("sound") && state.accept(EOT).is_ok());
}

#[test]
fn forced_text_comes_as_the_tokenizer_would_cut_it() {
    let env = GrammarEnv::new(vocab(true)).expect("a vocabulary");
    let encode = vocab(true).encode.expect("given");
    let source = "{\"type\":\"object\",\"properties\":{\"foo\":{\"const\":\"abc\"}},\"required\":[\"foo\"],\
                  \"additionalProperties\":false,\"x-guidance\":{\"whitespace_flexible\":false}}";
    let grammar =
        Grammar::compile(&env, GrammarKind::JsonSchema, source.as_bytes()).expect("compiles");
    let mut sampler = Sampler::new(4);
    sampler.add_temp(1.0).expect("valid").add_grammar(&grammar).expect("valid");
    let mut twin = sampler.clone();
    let run = sampler.forced();
    assert!(
        run.len() > 2 && encode("{\"foo\":\"abc\"}").expect("encodes").starts_with(&run),
        "{run:?}"
    );
    run.iter().for_each(|&token| sampler.accept(token).expect("forced"));
    // Without asking, the masks force the same tokens and use no random number.
    let masked: Vec<i32> = run.iter().map(|_| twin.sample(&flat_row()).expect("samples")).collect();
    assert_eq!(masked, run);
    for _ in 0..3 {
        assert_eq!(
            sampler.sample(&flat_row()).expect("samples"),
            twin.sample(&flat_row()).expect("samples")
        );
    }
    let unknown = compile(GrammarKind::JsonSchema, source).expect("compiles");
    assert!(GrammarState::new(&unknown).forced().is_empty());
}

#[test]
fn screened_and_whole_rows_agree_under_a_grammar() {
    let grammar = compile(GrammarKind::Json, "").expect("compiles");
    let mut rng = fastrand::Rng::with_seed(6);
    let mut whole = Sampler::recommended(5);
    whole.add_grammar(&grammar).expect("valid").add_penalties(32, 1.1, 0.1, 0.1).expect("valid");
    let mut screened = whole.clone();
    for step in 0..120 {
        let row: Vec<f32> = flat_row().iter().map(|_| rng.f32() * 6.0).collect();
        let want = whole.sample(&row).expect("samples");
        let screen = screened.screen().expect("sound").expect("begins with top-k");
        let allowed = screen.allowed.expect("a grammar");
        let mut best: Vec<(i32, f32)> = (0..).zip(row.iter().copied()).collect();
        best.retain(|(id, _)| allowed[*id as usize / 32] >> (id % 32) & 1 == 1);
        best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        best.truncate(screen.k);
        best.extend(screen.exact.iter().map(|&id| (id, row[id as usize])));
        assert_eq!(
            screened.sample_screened(&best, row.len()).expect("samples"),
            Some(want),
            "choice {step}"
        );
        if [EOG, EOT].contains(&want) {
            whole.reset();
            screened.reset();
        }
    }
}

#[test]
fn vocabularies_that_cannot_be_served_are_refused() {
    let no_end = VocabBytes { eog: vec![], ..vocab(false) };
    assert!(matches!(GrammarEnv::new(no_end), Err(Error::Unsupported(_))));
    let far = VocabBytes { eog: vec![5000], ..vocab(false) };
    assert!(matches!(GrammarEnv::new(far), Err(Error::Unsupported(_))));
    // A token as long as a file and many alike are taken in stride.
    let mut odd = vocab(false);
    odd.tokens[300 - MERGED.len()] = Some(vec![b'a'; 1 << 20]);
    odd.tokens.extend(vec![Some(b"same".to_vec()); 50]);
    odd.tokens.push(Some(Vec::new()));
    let odd = GrammarEnv::new(odd).expect("served");
    let grammar = Grammar::compile(&odd, GrammarKind::Choice, b"[\"same\"]").expect("compiles");
    let mut state = GrammarState::new(&grammar);
    let mask = state.mask().expect("sound");
    assert_eq!(
        mask.iter().map(|word| word.count_ones()).sum::<u32>(),
        51,
        "fifty whole and one letter"
    );
}
