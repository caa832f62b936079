//! What was saved goes on in another process as if it had never stopped.
//!
//! The other process is this program again, at a test that does nothing by itself: it restores, continues, and writes
//! down what came of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tern::{
    context::{Context, ContextOptions, EvalOptions, KvType},
    model::{LoadOptions, Model},
    sampler::{Grammar, GrammarKind, Sampler},
    session::{Draft, Finish, GenerateOptions, OnFull, Session, SessionOptions},
    threads::{ThreadPool, ThreadPoolOptions},
};

fn model() -> Model {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    Model::open(path, LoadOptions::default()).expect("the model loads")
}

/// The kinds of conversation that are stopped and taken up again.
const KINDS: [&str; 5] = ["plain", "i8", "sampled", "shifting", "grammar"];

fn context_options(kind: &str) -> ContextOptions {
    ContextOptions {
        kv_type: if kind == "i8" { KvType::I8 } else { KvType::F16 },
        // So short that the second half must shift.
        n_ctx: if kind == "shifting" { 96 } else { 0 },
        ..ContextOptions::default()
    }
}

fn session_options(kind: &str) -> SessionOptions {
    SessionOptions {
        instructions: (kind != "plain").then(|| "Be kind.".to_owned()),
        template: (kind == "i8").then(|| {
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ".into()
        }),
        on_full: if kind == "shifting" { OnFull::Shift } else { OnFull::Error },
        n_keep: 0,
        context: context_options(kind),
    }
}

fn generate_options(kind: &str, model: &Model) -> GenerateOptions {
    let sampled = Sampler::recommended(11);
    let grammar = || {
        let env = model.grammar_env().expect("a vocabulary");
        Grammar::compile(env, GrammarKind::Regex, b"[a-z ]{5,40}\\.").expect("compiles")
    };
    GenerateOptions {
        sampler: Some(if kind == "sampled" { sampled } else { Sampler::new(0) }),
        max_tokens: 60,
        draft: if kind == "sampled" { Draft::PromptLookup } else { Draft::None },
        grammar: (kind == "grammar").then(grammar),
        ..GenerateOptions::default()
    }
}

fn ask(session: &mut Session, text: &str, options: GenerateOptions) -> (String, Finish) {
    let mut answer = String::new();
    let finish = session.respond(Some(text), options, |chunk| {
        answer.push_str(chunk.text);
        true
    });
    (answer, finish.expect("answers"))
}

/// The second half of a conversation, and all that is left of it.
fn second_half(kind: &str, session: &mut Session) -> String {
    let model = session.model().clone();
    let mut out = String::new();
    for question in ["Do you like music?", "Tell me a story about a dog."] {
        let (answer, finish) = ask(session, question, generate_options(kind, &model));
        out += &format!("{question}\n{answer:?} {finish:?}\n");
    }
    let context = session.context().read().expect("free");
    let perf = context.perf();
    out += &format!("{}\n{:?}\n", session.transcript_json(), context.tokens(0).expect("there"));
    if kind != "shifting" {
        // A shifted cache was rotated anew on each side, at different times.
        out += &format!("{:x?}\n", tern_hash(&context.save_sequence(0).expect("computed")));
    }
    out += &format!("{} tokens reused\n", perf.n_prefill_reused);
    out
}

/// Enough of a hash to compare two runs of this file.
fn tern_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The bits of the row after a few tokens more.
fn row_after(context: &mut Context) -> String {
    context.eval(&[5, 6, 7], EvalOptions::default()).expect("fits");
    let row = context.logits(0).expect("a row");
    format!("{:?}", row.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
#[ignore = "a process of its own: run by the tests below"]
fn the_other_process() {
    let folder = PathBuf::from(std::env::var_os("TERN_TEST_FOLDER").expect("a test gives it"));
    // Another number of threads, as another machine may have.
    let pool = ThreadPool::new(&ThreadPoolOptions { threads: 3, ..Default::default() });
    let pool = Some(pool.expect("threads"));
    for kind in KINDS {
        let model = model();
        let context = ContextOptions { pool: pool.clone(), ..context_options(kind) };
        let options = SessionOptions { context, ..SessionOptions::default() };
        let blob = read(&folder.join(kind));
        let mut session = Session::restore(&model, &blob, options).expect("restores");
        std::fs::write(folder.join(format!("{kind}.out")), second_half(kind, &mut session))
            .expect("written");
    }
    let model = model();
    let mut loaded = Context::new(&model, ContextOptions::default()).expect("small");
    loaded.load_sequence(0, &read(&folder.join("state"))).expect("loads");
    let mut mapped = Context::new(&model, ContextOptions::default()).expect("small");
    mapped.map_prefix(0, folder.join("prefix")).expect("maps");
    let rows = row_after(&mut loaded) + "\n" + &row_after(&mut mapped);
    std::fs::write(folder.join("rows.out"), rows).expect("written");
}

#[test]
fn saved_sessions_states_and_prefixes_go_on_in_another_process() {
    let folder = std::env::temp_dir().join(format!("tern-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let model = model();
    let mut wants = Vec::new();
    for kind in KINDS {
        let mut session = Session::new(&model, session_options(kind)).expect("small");
        ask(&mut session, "Hello! How are you?", generate_options(kind, &model));
        std::fs::write(folder.join(kind), session.save().expect("idle")).expect("written");
        // Reuse is counted from the save on, as in a session that begins there.
        session.context().write().expect("free").reset_perf();
        wants.push((kind, second_half(kind, &mut session)));
    }
    let mut context = Context::new(&model, ContextOptions::default()).expect("small");
    let tokens: Vec<i32> = (0..70).map(|i| i * 13 % 2000).collect();
    context.eval(&tokens, EvalOptions::default()).expect("fits");
    std::fs::write(folder.join("state"), context.save_sequence(0).expect("computed"))
        .expect("written");
    context.save_prefix(0, folder.join("prefix")).expect("written");
    let row = row_after(&mut context);

    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "the_other_process"])
        .env("TERN_TEST_FOLDER", &folder)
        .output()
        .expect("this program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let text = |name: &str| String::from_utf8(read(&folder.join(name))).expect("UTF-8");
    for (kind, want) in wants {
        assert_eq!(text(&format!("{kind}.out")), want, "{kind}");
        assert!(want.contains("\"assistant\"") && want.len() > 200, "{want}");
    }
    assert_eq!(text("rows.out"), format!("{row}\n{row}"), "a state, and a mapped prefix");
    std::fs::remove_dir_all(&folder).expect("ours");
}
