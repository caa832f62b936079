//! Conversations on a real small model: what is evaluated, what is streamed, what stays.

use std::time::Duration;
use tern::{
    Cancel, Error,
    context::{Context, ContextOptions},
    model::{LoadOptions, Model},
    sampler::{Grammar, GrammarKind, Sampler},
    session::{Draft, Finish, GenerateOptions, OnFull, Progressed, Session, SessionOptions, Turn},
};

fn model() -> Model {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    Model::open(path, LoadOptions::default()).expect("the model loads")
}

fn greedy() -> GenerateOptions {
    GenerateOptions { sampler: Some(Sampler::new(0)), ..GenerateOptions::default() }
}

fn turn(role: &str, content: &str) -> Turn {
    Turn { role: role.into(), content: content.into() }
}

fn ask(session: &mut Session, text: &str, options: GenerateOptions) -> (String, Finish) {
    let mut answer = String::new();
    let finish = session.respond(Some(text), options, |chunk| {
        answer.push_str(chunk.text);
        true
    });
    (answer, finish.expect("answers"))
}

fn evaluated(session: &Session) -> u64 {
    let perf = session.context().read().expect("free").perf();
    perf.n_prefill + perf.n_decode
}

#[test]
fn an_answer_ends_by_itself_and_stays_in_the_transcript() {
    let mut session = Session::new(&model(), SessionOptions::default()).expect("small");
    let (answer, finish) = ask(&mut session, "Tell me a story about a dog.", greedy());
    assert_eq!(finish, Finish::EndOfGeneration);
    assert!(answer.starts_with("Once upon a time, there was a little dog named Spot."), "{answer}");
    assert_eq!(
        session.turns(),
        [turn("user", "Tell me a story about a dog."), turn("assistant", &answer)]
    );
    assert!(matches!(session.next(None), Err(Error::InvalidState(_))), "nothing is under way");
    let json = session.transcript_json();
    let mut other = Session::new(session.model(), SessionOptions::default()).expect("small");
    other.set_transcript_json(&json).expect("own JSON");
    assert_eq!(other.turns(), session.turns());
    let error = other.set_transcript_json("[{\"role\": 3}]").expect_err("a number").to_string();
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn a_second_question_evaluates_the_new_tokens_alone() {
    let mut session = Session::new(&model(), SessionOptions::default()).expect("small");
    let (first, _) = ask(&mut session, "Hi! How are you?", greedy());
    let known = session.context().read().expect("free").tokens(0).expect("there").len();
    let before = evaluated(&session);
    let (second, _) = ask(&mut session, "What is your favorite food?", greedy());
    let after = session.context().read().expect("free").tokens(0).expect("there").len();
    // Everything that the cache holds was evaluated once, the last token of the first answer's prompt included.
    assert_eq!(evaluated(&session) - before, (after - known) as u64, "nothing is evaluated twice");
    assert!(!first.is_empty() && !second.is_empty());
    // An edited first question shares the start alone.
    let before = evaluated(&session);
    session.set_turns(vec![turn("user", "Hi! How old are you?")]).expect("valid");
    session.prewarm(None).expect("evaluates");
    assert!(evaluated(&session) - before < 12, "the common prefix is kept");
    let before = evaluated(&session);
    session.prewarm(None).expect("nothing to do");
    assert_eq!(evaluated(&session), before);
}

#[test]
fn forks_diverge_as_two_fresh_sessions_would() {
    let model = model();
    let ask_both = |session: &mut Session, second: &str| {
        let first = ask(session, "Hello!", greedy()).0;
        (first, ask(session, second, greedy()).0)
    };
    let fresh = || Session::new(&model, SessionOptions::default()).expect("small");
    let want_a = ask_both(&mut fresh(), "What do you do for a living?").1;
    let want_b = ask_both(&mut fresh(), "Do you like music?").1;
    let mut a = fresh();
    ask(&mut a, "Hello!", greedy());
    let mut b = a.fork().expect("idle");
    assert_eq!(ask(&mut a, "What do you do for a living?", greedy()).0, want_a);
    assert_eq!(ask(&mut b, "Do you like music?", greedy()).0, want_b);
}

#[test]
fn saved_sessions_continue_as_if_never_stopped() {
    let model = model();
    let mut straight = Session::new(&model, SessionOptions::default()).expect("small");
    ask(&mut straight, "Hello!", greedy());
    let blob = straight.save().expect("saves");
    let want = ask(&mut straight, "Do you like music?", greedy()).0;
    let mut restored =
        Session::restore(&model, &blob, SessionOptions::default()).expect("restores");
    let before = evaluated(&restored);
    assert_eq!(ask(&mut restored, "Do you like music?", greedy()).0, want);
    assert!(evaluated(&restored) - before < 60, "the cache came along");
    for at in [0, 9, 30, 200, blob.len() / 2, blob.len() - 9] {
        let mut bad = blob.clone();
        bad[at] = bad[at].wrapping_add(1);
        if let Ok(mut session) = Session::restore(&model, &bad, SessionOptions::default()) {
            // A changed letter of the transcript is another transcript, not damage.
            assert!((16..blob.len() / 2).contains(&at), "byte {at}");
            session.stop();
        }
    }
    assert!(Session::restore(&model, &blob[..100], SessionOptions::default()).is_err());
}

#[test]
fn budgets_and_drafts_give_the_same_text() {
    let model = model();
    let question = "Tell me a story about a girl named Lily.";
    let options = |draft| GenerateOptions {
        sampler: Some(Sampler::recommended(7)),
        draft,
        ..Default::default()
    };
    let want = ask(
        &mut Session::new(&model, SessionOptions::default()).expect("small"),
        question,
        options(Draft::None),
    );
    let mut drafted = Session::new(&model, SessionOptions::default()).expect("small");
    assert_eq!(ask(&mut drafted, question, options(Draft::PromptLookup)), want, "drafting");
    let perf = drafted.context().read().expect("free").perf();
    assert!(perf.n_draft_accepted > 0 && perf.n_draft_accepted <= perf.n_drafted, "{perf:?}");

    let mut stepped = Session::new(&model, SessionOptions::default()).expect("small");
    stepped.start(Some(question), options(Draft::None)).expect("starts");
    let (mut text, mut pending, mut finish) = (String::new(), 0, None);
    while finish.is_none() {
        let (progressed, chunk) = stepped.next(Some(Duration::from_micros(1))).expect("steps");
        text.push_str(chunk.text);
        finish = chunk.finish;
        pending += usize::from(progressed == Progressed::Pending);
        assert!(
            progressed != Progressed::Pending || chunk.text.is_empty() && chunk.token.is_none()
        );
    }
    assert_eq!((text, finish), (want.0, Some(want.1)), "stepping");
    assert!(pending > 100, "a microsecond is spent at every layer: {pending}");
}

#[test]
fn stop_strings_and_lengths_end_an_answer() {
    let model = model();
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    let whole = ask(&mut session, "Tell me a story about a dog.", greedy()).0;
    let stop = "Spot loved";
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    let options = GenerateOptions { stop: vec![stop.into(), "never".into()], ..greedy() };
    let (cut, finish) = ask(&mut session, "Tell me a story about a dog.", options);
    assert_eq!(
        (cut.as_str(), finish),
        (&whole[..whole.find(stop).expect("in the story")], Finish::Stop)
    );
    assert_eq!(session.turns()[1].content, cut);
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    let (short, finish) = ask(
        &mut session,
        "Tell me a story about a dog.",
        GenerateOptions { max_tokens: 5, ..greedy() },
    );
    assert_eq!(finish, Finish::Length);
    assert!(whole.starts_with(&short) && !short.is_empty(), "{short}");
    assert!(
        session
            .start(Some("x"), GenerateOptions { stop: vec![String::new()], ..greedy() })
            .is_err()
    );
    assert_eq!(session.turns().len(), 2, "a failed start changes nothing");
}

#[test]
fn cancel_leaves_whole_tokens_and_the_question() {
    let model = model();
    let cancel = Cancel::new();
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    session
        .start(Some("Hello!"), GenerateOptions { cancel: Some(cancel.clone()), ..greedy() })
        .expect("starts");
    assert!(
        matches!(session.start(None, greedy()), Err(Error::InvalidState(_))),
        "one answer at a time"
    );
    assert!(matches!(session.fork(), Err(Error::InvalidState(_))));
    cancel.set();
    assert!(matches!(session.next(None), Err(Error::Cancelled)));
    assert_eq!(
        session.turns(),
        [turn("user", "Hello!")],
        "before the first token there is no answer"
    );
    cancel.reset();
    session.set_turns(vec![turn("user", "Tell me a story about a dog.")]).expect("valid");
    let mut seen = String::new();
    let stopped = session.respond(None, greedy(), |chunk| {
        seen.push_str(chunk.text);
        seen.len() < 4
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(session.turns()[1], turn("assistant", &seen));
    assert!(!session.is_generating());
}

#[test]
fn full_contexts_follow_the_policy() {
    let model = model();
    let options = |on_full| SessionOptions {
        on_full,
        instructions: Some("Be kind.".into()),
        context: ContextOptions { n_ctx: 96, ..Default::default() },
        ..Default::default()
    };
    let story = "Tell me a story about a girl named Lily.";
    let mut session = Session::new(&model, options(OnFull::Error)).expect("small");
    let (text, finish) = ask(&mut session, story, greedy());
    assert_eq!(finish, Finish::ContextFull);
    assert!(text.len() > 100, "{text}");
    let turns = session.turns().to_vec();
    assert!(matches!(session.start(Some(story), greedy()), Err(Error::ContextFull { .. })));
    assert_eq!(session.turns(), turns, "the transcript is as it was");

    let mut session = Session::new(&model, options(OnFull::DropTurns)).expect("small");
    for i in 0..6 {
        let (text, _) = ask(
            &mut session,
            &format!("What is your favorite food? {i}"),
            GenerateOptions { max_tokens: 20, ..greedy() },
        );
        assert!(!text.is_empty(), "question {i}");
    }
    assert_eq!(session.turns()[0], turn("system", "Be kind."), "the instructions stay");
    assert!(session.turns().len() < 13, "old turns went: {}", session.turns().len());

    let mut session = Session::new(&model, options(OnFull::Shift)).expect("small");
    let (text, finish) = ask(&mut session, story, GenerateOptions { max_tokens: 200, ..greedy() });
    assert!(matches!(finish, Finish::Length | Finish::EndOfGeneration), "{finish:?}");
    assert!(text.len() > 300, "it went on past the end of the context: {text}");
}

#[test]
fn grammars_bind_the_answer_and_forced_text_costs_no_steps() {
    let model = model();
    let env = model.grammar_env().expect("a vocabulary");
    let schema =
        br#"{"type":"object","properties":{"a_very_long_property_name":{"type":"boolean"}},
        "required":["a_very_long_property_name"],"additionalProperties":false}"#;
    let grammar = Grammar::compile(env, GrammarKind::JsonSchema, schema).expect("compiles");
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    let mut steps = 0;
    let mut text = String::new();
    let options = GenerateOptions { grammar: Some(grammar), ..greedy() };
    let finish = session.respond(Some("Say something."), options, |chunk| {
        text.push_str(chunk.text);
        steps += 1;
        true
    });
    assert_eq!(finish.expect("answers"), Finish::EndOfGeneration);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(value["a_very_long_property_name"].is_boolean(), "{text}");
    let produced = model.tokenizer().encode(&text, false, false, None).expect("text").len();
    assert!(steps < produced, "{steps} steps for {produced} tokens");
}

#[test]
fn the_context_below_is_reachable_and_may_be_changed() {
    let model = model();
    let mut session = Session::new(&model, SessionOptions::default()).expect("small");
    let want = ask(&mut session, "Hello!", greedy()).0;
    let mut other = Session::new(&model, SessionOptions::default()).expect("small");
    other.start(Some("Hello!"), greedy()).expect("starts");
    let mut text = String::new();
    loop {
        // A host that disturbs the context in every way costs time, not correctness.
        {
            let mut context = other.context().write().expect("free");
            match text.len() % 3 {
                0 => context.clear(0).expect("there"),
                1 => drop(context.trim(tern::context::Trim::Cache)),
                _ => {
                    context.eval(&[5], Default::default()).expect("fits");
                }
            }
        }
        let (_, chunk) = other.next(None).expect("steps");
        text.push_str(chunk.text);
        if chunk.finish.is_some() {
            break;
        }
    }
    assert_eq!(text, want);
    let held = other.context().clone();
    let guard = held.write().expect("free");
    assert!(matches!(other.prewarm(None), Err(Error::Busy)), "another user is in it");
    drop(guard);
    assert!(Context::new(&model, ContextOptions::default()).is_ok());
}
