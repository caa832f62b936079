//! Damaged states, prompt files, sessions, transcripts, grammars and templates: errors or harmless, never a panic, a
//! hang, or a change to what was there.
//!
//! The same rounds on every run; with `TERN_SOAK` set, a hundred times as many. (Model files: `malformed.rs`.)

mod common;

use common::tiny::{self, Plan};
use std::time::{Duration, Instant};
use tern::{
    Error,
    context::{Context, ContextOptions, EvalOptions},
    file::Source,
    model::{LoadOptions, Model},
    sampler::{Grammar, GrammarEnv, GrammarKind, GrammarState, Sampler, VocabBytes},
    session::{GenerateOptions, Session, SessionOptions},
    text::{Message, Template},
    threads::ThreadPool,
};

/// How many rounds to make of so many in a short run.
fn rounds(short: usize) -> usize {
    if std::env::var_os("TERN_SOAK").is_some() { 100 * short } else { short }
}

/// No answer takes longer, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// One to five changes: bits, bytes, numbers at their edges, pieces cut, doubled, moved, or taken from another.
fn damage(rng: &mut fastrand::Rng, bytes: &[u8], other: &[u8], front: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..rng.usize(1..6) {
        if out.is_empty() {
            return out;
        }
        // Most damage goes where the structure is.
        let end = if rng.u8(..4) > 0 { front.min(out.len()) } else { out.len() };
        let at = rng.usize(..end.max(1));
        let len = rng.usize(..17).min(out.len() - at);
        match rng.u8(..9) {
            0 => out[at] ^= 1 << rng.u32(..8),
            1 => out[at] = rng.u8(..),
            2 => {
                let numbers = [0u64, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];
                let number = numbers[rng.usize(..numbers.len())].to_le_bytes();
                let width = [1, 2, 4, 8][rng.usize(..4)].min(out.len() - at);
                out[at..at + width].copy_from_slice(&number[..width]);
            }
            3 => drop(out.drain(at..at + len)),
            4 => {
                let piece = out[at..at + len].to_vec();
                out.splice(at..at, piece).for_each(drop);
            }
            5 => {
                let piece: Vec<u8> = out.drain(at..at + len).collect();
                let to = rng.usize(..out.len() + 1);
                out.splice(to..to, piece).for_each(drop);
            }
            6 => {
                let from = rng.usize(..other.len());
                let piece = other[from..(from + 2 * len).min(other.len())].to_vec();
                out.splice(at..at, piece).for_each(drop);
            }
            7 => out.truncate(at),
            _ => {
                // A byte many times over: depth, and digits.
                let byte = out[at];
                let times = 1 << rng.u32(..10);
                out.splice(at..at, std::iter::repeat_n(byte, times)).for_each(drop);
            }
        }
    }
    out
}

fn model() -> Model {
    let plan = Plan { vocab: 300, context: 256, ..Plan::default() };
    Model::from_source(Source::from_memory(tiny::bytes(&plan)), LoadOptions::default())
        .expect("a sound plan")
}

fn options() -> ContextOptions {
    ContextOptions { pool: Some(ThreadPool::single()), ..ContextOptions::default() }
}

fn filled(model: &Model, n: i32, options: ContextOptions) -> Context {
    let mut context = Context::new(model, options).expect("small");
    let tokens: Vec<i32> = (0..n).map(|i| (i * 7 + n) % 256).collect();
    context.eval(&tokens, EvalOptions::default()).expect("fits");
    context
}

/// Refused for a reason that a damaged file gives.
fn blames_the_bytes(error: &Error) -> bool {
    matches!(error, Error::StateMismatch(_) | Error::ContextFull { .. } | Error::OutOfMemory { .. })
}

#[test]
fn damaged_states_and_prompt_files_leave_the_sequence() {
    let model = model();
    let mut context = filled(&model, 70, options());
    let (blob, other) =
        (context.save_sequence(0).expect("saves"), filled(&model, 40, options()).save_sequence(0));
    let other = other.expect("saves");
    let path = std::env::temp_dir().join(format!("tern-mutations-{}", std::process::id()));
    context.save_prefix(0, &path).expect("writes");
    let file = std::fs::read(&path).expect("there");
    let mut rng = fastrand::Rng::with_seed(31);
    for round in 0..rounds(1500) {
        let bad = damage(&mut rng, &blob, &other, 400);
        match context.load_sequence(0, &bad) {
            // What was put in was cut out again, or the whole of the other.
            Ok(()) => assert!(bad == blob || bad == other, "round {round}"),
            Err(error) => assert!(blames_the_bytes(&error), "round {round}: {error}"),
        }
        assert!(context.save_sequence(0).expect("computed") == blob, "round {round}");
    }
    for round in 0..rounds(150) {
        let bad = damage(&mut rng, &file, &other, 600);
        std::fs::write(&path, &bad).expect("written");
        let mut empty = Context::new(&model, options()).expect("small");
        match empty.map_prefix(0, &path) {
            // The gaps before pages belong to nothing.
            Ok(()) => {
                assert!(empty.save_sequence(0).expect("computed") == blob, "round {round}");
            }
            Err(error) => {
                let known = blames_the_bytes(&error) || matches!(error, Error::InvalidState(_));
                assert!(known, "round {round}: {error}");
                assert!(empty.tokens(0).expect("there").is_empty(), "round {round}");
            }
        }
    }
    std::fs::remove_file(&path).expect("ours");
}

#[test]
fn damaged_sessions_are_refused_or_can_be_talked_to() {
    let model = model();
    let greedy =
        || GenerateOptions { sampler: Some(Sampler::new(0)), max_tokens: 2, ..Default::default() };
    let settings = || SessionOptions { context: options(), ..SessionOptions::default() };
    let saved = |instructions: &str, question: &str| {
        let instructions = Some(instructions.to_owned());
        let mut session =
            Session::new(&model, SessionOptions { instructions, ..settings() }).expect("small");
        session.respond(Some(question), greedy(), |_| true).expect("answers");
        session.save().expect("idle")
    };
    let (blob, other) = (saved("Be kind.", "ab?"), saved("", "a longer question"));
    let json = 16 + u64::from_le_bytes(blob[8..16].try_into().expect("eight bytes")) as usize;
    let mut rng = fastrand::Rng::with_seed(32);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds(600) {
        let mut bad = damage(&mut rng, &blob[..json], &other, json);
        if rng.bool() && bad.len() > 16 {
            // A length that fits, so that what the JSON says is looked at.
            let len = (bad.len() - 16) as u64;
            bad[8..16].copy_from_slice(&len.to_le_bytes());
        }
        bad.extend_from_slice(&blob[json..]);
        match Session::restore(&model, &bad, settings()) {
            Ok(mut session) => {
                taken += 1;
                let start = Instant::now();
                // Another transcript, or another template: whatever comes of it is an answer or an error.
                let _ = session.respond(Some("and then?"), greedy(), |_| true);
                let _ = session.save().map(|blob| blob.len());
                assert!(start.elapsed() < PATIENCE, "round {round}");
            }
            Err(error) => {
                refused += 1;
                assert!(blames_the_bytes(&error), "round {round}: {error}");
            }
        }
    }
    assert!(taken > 5 && refused > 5, "{taken} taken, {refused} refused");
}

#[test]
fn damaged_transcripts_leave_the_session() {
    let model = model();
    let settings = SessionOptions { context: options(), ..SessionOptions::default() };
    let mut session = Session::new(&model, settings).expect("small");
    let sound = r#"[{"role":"system","content":"Be \"kind\"."},{"role":"user","content":"é😀 \n"},
        {"role":"assistant","content":""},{"role":"user","content":"<|eot_id|>"}]"#;
    session.set_transcript_json(sound).expect("sound");
    let mut rng = fastrand::Rng::with_seed(33);
    let mut refused = 0;
    for round in 0..rounds(3000) {
        let bad =
            damage(&mut rng, sound.as_bytes(), b"[{{\"content\":[1e999,\"\\ud800\"],", 1 << 20);
        let Ok(text) = std::str::from_utf8(&bad) else { continue };
        let before = session.turns().to_vec();
        if let Err(error) = session.set_transcript_json(text) {
            refused += 1;
            assert!(matches!(error, Error::InvalidArgument(_)), "round {round}: {error}");
            assert_eq!(session.turns(), before, "round {round}: {text}");
        }
    }
    assert!(refused > 100, "{refused} refused");
}

/// Every byte a token, two ends, and a few longer ones.
fn letters() -> VocabBytes {
    let mut tokens: Vec<Option<Vec<u8>>> = (0..=255u8).map(|byte| Some(vec![byte])).collect();
    tokens.extend([None, None]);
    tokens.extend(["\": ", "{\"", "true", "ab", "12"].map(|text| Some(text.as_bytes().to_vec())));
    VocabBytes { tokens, eog: vec![256, 257], encode: None }
}

#[test]
fn damaged_grammars_are_refused_or_can_be_followed() {
    let env = GrammarEnv::new(letters()).expect("a vocabulary");
    let sources: [(GrammarKind, &str); 6] = [
        (
            GrammarKind::JsonSchema,
            r##"{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":40},
            "b":{"type":"array","items":{"$ref":"#/$defs/x"},"minItems":1,"maxItems":4},"c":{"anyOf":[{"type":"null"},
            {"type":"string","pattern":"^[a-f]{2,5}$","maxLength":9}]}},"required":["a"],"additionalProperties":false,
            "$defs":{"x":{"enum":["yes",1,null,{"k":[true]}]}}}"##,
        ),
        (GrammarKind::Regex, r"(?i)[a-z0-9_]{1,20}(-\w+)*|\d{3}\.(\x41|é)?[^\n\]]+"),
        (
            GrammarKind::Gbnf,
            "root ::= item (\",\" ws item){0,3} # list\nitem ::= [a-zA-Z\\x30-\\x39]+ | \"\\\"\" [^\"\\\\]* \"\\\"\" | \"(\" root \")\"\nws ::= [ \\t\\n]?\n",
        ),
        (
            GrammarKind::Lark,
            "start: expr\nexpr: NUMBER (OP NUMBER)* | \"(\" expr \")\"\nNUMBER: /[0-9]+(\\.[0-9]+)?/\nOP: \"+\" | \"-\" | /[*\\/]/\n%ignore /[ ]+/\n",
        ),
        (GrammarKind::Choice, r#"["left", "right", "straight é on", "", "\u0041"]"#),
        (GrammarKind::Json, ""),
    ];
    let mut rng = fastrand::Rng::with_seed(34);
    let (mut taken, mut refused) = ([0; 6], [0; 6]);
    for round in 0..rounds(100) {
        for (i, (kind, source)) in sources.iter().enumerate().take(5) {
            let other = sources[rng.usize(..5)].1;
            let bad = damage(&mut rng, source.as_bytes(), other.as_bytes(), 1 << 20);
            let case = || format!("round {round}, {kind:?}: {}", String::from_utf8_lossy(&bad));
            let start = Instant::now();
            match Grammar::compile(&env, *kind, &bad) {
                Ok(grammar) => {
                    taken[i] += 1;
                    follow(&grammar, &mut rng, &case);
                }
                Err(Error::Grammar(why)) => {
                    refused[i] += 1;
                    assert!(!why.is_empty(), "{}", case());
                }
                Err(error) => panic!("{}: {error}", case()),
            }
            assert!(start.elapsed() < PATIENCE, "{}", case());
        }
    }
    let all: usize = taken.iter().sum();
    assert!(all > 20 && refused[..5].iter().all(|n| *n > 20), "{taken:?}, {refused:?}");
}

/// Some steps at random: each leads on, ends the text, or says which limit it met.
fn follow(grammar: &Grammar, rng: &mut fastrand::Rng, case: &dyn Fn() -> String) {
    let mut state = GrammarState::new(grammar);
    for _ in 0..8 {
        let mask = match state.mask() {
            Ok(mask) => mask.to_vec(),
            Err(Error::Grammar(_)) => return,
            Err(error) => panic!("{}: {error}", case()),
        };
        let allowed: Vec<i32> =
            (0..264).filter(|token| mask[*token as usize / 32] >> (token % 32) & 1 == 1).collect();
        assert!(!allowed.is_empty(), "{}: no token fits", case());
        let token = allowed[rng.usize(..allowed.len())];
        match state.accept(token) {
            Ok(()) if !(256..=257).contains(&token) => {}
            Ok(()) | Err(Error::Grammar(_)) => return,
            Err(error) => panic!("{}: {error}", case()),
        }
    }
}

#[test]
fn damaged_templates_are_refused_or_render() {
    let sources = [
        "{% for m in messages %}{{ m['role'] | capitalize + ': ' + m['content'] | trim + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
        "{%- set ns = namespace(n=0) %}{%- for m in messages if m.role != 'system' %}{%- set ns.n = ns.n + 1 %}\n{{- loop.index0 ~ m.content[1:-1].upper() ~ ('x' * ns.n) }}{%- else %}none{%- endfor %}{{ ns.n // 2 }}",
        "{% macro say(x, y='!') %}<{{ x.split(',')[0] | tojson }}{{ y }}>{% endmacro %}{{ say(messages[0].content) }}{% filter indent(2) %}a\nb{% endfilter %}{# c #}{{ [1, 2.5, none] | join('-') }}{{ raise_exception('no') if messages | length > 9 }}",
    ];
    let messages = [
        Message { role: "system", content: "Be kind, please" },
        Message { role: "user", content: "é<|eot_id|>{{ 1 }}" },
    ];
    let mut rng = fastrand::Rng::with_seed(35);
    let (mut rendered, mut refused) = (0, 0);
    for round in 0..rounds(2000) {
        let source = sources[round % 3];
        let bad = damage(&mut rng, source.as_bytes(), sources[(round + 1) % 3].as_bytes(), 1 << 20);
        let Ok(text) = std::str::from_utf8(&bad) else { continue };
        let start = Instant::now();
        let result = Template::new(text)
            .and_then(|template| template.render(&messages, round % 2 == 0, "<s>", "</s>"));
        match result {
            Ok(_) => rendered += 1,
            Err(Error::InvalidArgument(why)) => {
                refused += 1;
                assert!(!why.is_empty(), "round {round}: {text}");
            }
            Err(error) => panic!("round {round}: {error}: {text}"),
        }
        assert!(start.elapsed() < PATIENCE, "round {round}: {text}");
    }
    assert!(rendered > 50 && refused > 50, "{rendered} rendered, {refused} refused");
}
