//! Sources that are out to hurt: every one ends, with a grammar or an error, on a small stack and in silence.

use crate::{compile, env, sample, takes};
use std::process::Command;
use std::sync::Arc;
use tern::Error;
use tern::sampler::{Grammar, GrammarEnv, GrammarKind, GrammarState, VocabBytes};

fn list(n: usize, item: impl Fn(usize) -> String, between: &str) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(between)
}

/// Name, kind and source.
fn hostile() -> Vec<(&'static str, GrammarKind, String)> {
    use GrammarKind::{Choice, Gbnf, JsonSchema, Lark, Regex};
    let nest = |n: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let chain = |n: usize, link: &dyn Fn(usize) -> String| {
        format!("start: T0\n{}T{n}: /x+/\n", list(n, |i| link(i) + "\n", ""))
    };
    let refs = |n: usize, link: &dyn Fn(usize) -> String| {
        format!(
            "{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d{n}\":{{}}}}}}",
            list(n, |i| format!("\"d{i}\":{}", link(i + 1)), ",")
        )
    };
    vec![
        ("brackets", Regex, nest(100_000, "(", "a", ")")),
        ("optionals", Regex, nest(200, "(a", "z", ")?")),
        ("stars", Regex, nest(40, "(a|b", "c", "*)*")),
        ("counts", Regex, "((a{1,1000}){1,1000}){1,1000}".into()),
        ("long", Regex, "ab?".repeat(200_000)),
        ("wide", Regex, list(50_000, |i| format!("x{i}y*"), "|")),
        ("classic", Regex, "(a?){64}a{64}".into()),
        ("arrays", JsonSchema, nest(60, "{\"type\":\"array\",\"items\":", "{}", "}")),
        ("deep", JsonSchema, nest(100_000, "[", "", "]")),
        ("any of any", JsonSchema, nest(50, "{\"anyOf\":[{\"type\":\"string\"},", "{}", "]}")),
        (
            "all of many",
            JsonSchema,
            format!("{{\"allOf\":[{}]}}", list(400, |i| format!("{{\"pattern\":\"x{i}\"}}"), ",")),
        ),
        ("chain", JsonSchema, refs(400, &|i| format!("{{\"$ref\":\"#/$defs/d{i}\"}}"))),
        ("long chain", JsonSchema, refs(20_000, &|i| format!("{{\"$ref\":\"#/$defs/d{i}\"}}"))),
        (
            "doubling",
            JsonSchema,
            refs(60, &|i| {
                format!(
                    "{{\"prefixItems\":[{{\"$ref\":\"#/$defs/d{i}\"}},{{\"$ref\":\"#/$defs/d{i}\"}}]}}"
                )
            }),
        ),
        ("circle", JsonSchema, "{\"$ref\":\"#\"}".into()),
        ("circles", JsonSchema, "{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}".into()),
        ("lengths", JsonSchema, "{\"type\":\"string\",\"minLength\":100000000}".into()),
        ("items", JsonSchema, "{\"type\":\"array\",\"minItems\":100000000}".into()),
        (
            "fields",
            JsonSchema,
            format!("{{\"properties\":{{{}}}}}", list(20_000, |i| format!("\"f{i}\":{{}}"), ",")),
        ),
        (
            "multiples",
            JsonSchema,
            "{\"type\":\"integer\",\"multipleOf\":99991,\"minimum\":-1e300}".into(),
        ),
        (
            "enumeration",
            JsonSchema,
            format!("{{\"enum\":[{}]}}", list(50_000, |i| format!("\"v{i}\""), ",")),
        ),
        (
            "names",
            JsonSchema,
            format!(
                "{{\"patternProperties\":{{{}}}}}",
                list(300, |i| format!("\"^a{i}.*z\":{{}}"), ",")
            ),
        ),
        ("rules", Lark, chain(400, &|i| format!("T{i}: \"a\" T{} \"b\" | \"c\"", i + 1))),
        ("many rules", Lark, chain(20_000, &|i| format!("T{i}: \"a\" T{} \"b\" | \"c\"", i + 1))),
        ("doubling", Lark, chain(200, &|i| format!("T{i}: T{} T{}", i + 1, i + 1))),
        ("nots", Lark, chain(300, &|i| format!("T{i}: ~(\"a\" T{} \"b\")", i + 1))),
        ("ands", Lark, chain(200, &|i| format!("T{i}: /(?s:.)*a{i}b.*/ & T{}", i + 1))),
        ("groups", Lark, format!("start: {}", nest(50_000, "(", "\"a\"", ")?"))),
        ("left", Lark, "start: a\na: a a a | \"x\" | \"\"\n".into()),
        ("inner", Lark, "start: %json {\"$ref\":\"#\"}\n".into()),
        ("choices", Choice, format!("[{}]", list(60_000, |i| format!("\"{i}\""), ","))),
        ("tall choice", Choice, format!("[\"{}\"]", "ab".repeat(400_000))),
        (
            "rules",
            Gbnf,
            format!(
                "root ::= r0\n{}r400 ::= \"x\"\n",
                list(400, |i| format!("r{i} ::= \"a\" r{} | [b-z]+\n", i + 1), "")
            ),
        ),
        (
            "doubling",
            Gbnf,
            format!(
                "root ::= r0 root\n{}r60 ::= [a-z]\n",
                list(60, |i| format!("r{i} ::= r{} r{}\n", i + 1, i + 1), "")
            ),
        ),
        ("counts", Gbnf, "root ::= ((([a-z]{2000}){2000}){2000} root)?".into()),
        ("blank", Gbnf, "root ::= (root?)* \"x\"?".into()),
        (
            "wide",
            Gbnf,
            format!("root ::= {} root", list(3000, |i| format!("\"k{i}\" [a-f]*"), " | ")),
        ),
        ("ids", Lark, "start: <[0-99999999]>\n".into()),
        ("a name", Lark, "start: <|nothing|>\n".into()),
        ("options", JsonSchema, "{\"x-guidance\":{\"whitespace_pattern\":\"(\"}}".into()),
        ("odd options", JsonSchema, "{\"x-guidance\":[5]}".into()),
        (
            "odd keywords",
            JsonSchema,
            "{\"type\":5,\"allOf\":{},\"oneOf\":3,\"properties\":[],\"pattern\":1}".into(),
        ),
        (
            "unions",
            JsonSchema,
            format!(
                "{{\"oneOf\":[{}],\"$defs\":{{\"a\":{{\"oneOf\":[{{\"$ref\":\"#\"}}]}}}}}}",
                list(3000, |_| "{\"$ref\":\"#/$defs/a\"}".into(), ",")
            ),
        ),
        ("too large", Regex, "a".repeat((1 << 20) + 1)),
    ]
}

#[test]
fn hostile_sources_end_on_a_small_stack() {
    let env = env();
    for (name, kind, source) in hostile() {
        let env = Arc::clone(&env);
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let grammar = Grammar::compile(&env, kind, source.as_bytes())?;
            sample(&grammar, 1, 300).map(|sampled| sampled.text)
        });
        match thread.expect("a thread").join().expect("no panic") {
            Ok(text) => {
                assert!(std::str::from_utf8(&text).is_ok_or_torn(), "{kind:?} {name}: {text:?}")
            }
            Err(Error::Grammar(message)) => {
                assert!(!message.is_empty() && message.len() < 900, "{kind:?} {name}: {message}")
            }
            Err(other) => panic!("{kind:?} {name}: {other}"),
        }
    }
}

trait Torn {
    /// Whether the text is whole, or cut off inside a character at its end.
    fn is_ok_or_torn(&self) -> bool;
}

impl Torn for Result<&str, std::str::Utf8Error> {
    fn is_ok_or_torn(&self) -> bool {
        self.map_or_else(|e| e.error_len().is_none(), |_| true)
    }
}

#[test]
fn what_nothing_satisfies_is_an_error() {
    use GrammarKind::{Gbnf, JsonSchema, Lark, Regex};
    for (kind, source) in [
        (JsonSchema, "false"),
        (JsonSchema, "{\"allOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}"),
        (JsonSchema, "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}"),
        (JsonSchema, "{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}"),
        (JsonSchema, "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}"),
        (JsonSchema, "{\"type\":\"integer\",\"exclusiveMinimum\":1,\"exclusiveMaximum\":2}"),
        (JsonSchema, "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":false}}"),
        (JsonSchema, "{\"enum\":[]}"),
        (JsonSchema, "{\"$ref\":\"#\"}"),
        (JsonSchema, "{\"type\":\"string\",\"pattern\":\"^a$\",\"minLength\":2}"),
        (
            JsonSchema,
            "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
        ),
        (Lark, "start: T\nT: /a+/ & /b+/\n"),
        (Lark, "start: a\na: \"x\" a\n"),
        (Gbnf, "root ::= \"x\" root"),
        (Gbnf, "root ::= a\na ::= root"),
        (Regex, "[^\\x00-\\x{10ffff}]"),
    ] {
        let found = compile(kind, source).and_then(|grammar| sample(&grammar, 1, 200));
        match found {
            Err(Error::Grammar(_)) => {}
            Ok(sampled) => panic!(
                "{kind:?} {source}: ended {}, {:?}",
                sampled.ended,
                String::from_utf8_lossy(&sampled.text)
            ),
            Err(other) => panic!("{kind:?} {source}: {other}"),
        }
    }
}

#[test]
fn text_that_no_token_can_write_is_an_error() {
    let tokens = vec![Some(b"a".to_vec()), Some(b"b".to_vec()), None];
    let env =
        GrammarEnv::new(VocabBytes { tokens, eog: vec![2], encode: None }).expect("a vocabulary");
    assert!(matches!(
        Grammar::compile(&env, GrammarKind::Choice, b"[\"x\"]"),
        Err(Error::Grammar(_))
    ));
    let grammar = Grammar::compile(&env, GrammarKind::Choice, b"[\"abx\"]").expect("can begin");
    let mut state = GrammarState::new(&grammar);
    state.accept(0).expect("allowed");
    state.accept(1).expect("allowed");
    assert!(matches!(state.mask(), Err(Error::Grammar(_))));
    assert!(matches!(state.mask(), Err(Error::Grammar(_))), "and it stays one");
    state.reset();
    assert!(state.mask().is_ok());
}

#[test]
fn a_grammar_is_shared_by_threads() {
    let grammar = compile(GrammarKind::Json, "").expect("compiles");
    let texts: Vec<Vec<u8>> =
        (0..8).map(|seed| sample(&grammar, seed, 400).expect("samples").text).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..8)
                        .map(|seed| sample(&grammar, seed, 400).expect("samples").text)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), texts);
        }
    });
    assert!(takes(&grammar, b"[]"));
}

/// Runs the hostile sources in a process of their own and reads what it wrote.
#[test]
fn nothing_is_printed() {
    let exe = std::env::current_exe().expect("the test's path");
    let run = Command::new(exe)
        .args([
            "--exact",
            "limits::hostile_sources_end_on_a_small_stack",
            "--nocapture",
            "--test-threads=1",
            "-q",
        ])
        .output()
        .expect("runs");
    assert!(run.status.success());
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
}
