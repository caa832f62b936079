//! A cancel at every point of the work: whole tokens stay, and what follows is as if nothing had been cancelled.
//!
//! The host's job system is the clock. Every stage of every layer is one call to it, so a token that is raised in
//! call `n`, for every `n` there is, is raised within every layer, and every 4096 rows of the head, of every pass.

mod common;

use common::tiny::{self, Plan};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use tern::{
    Cancel, Error,
    context::{Context, ContextOptions, EvalOptions, Item, KvType, Status, Trim, Want},
    file::Source,
    model::{LoadOptions, Model, Packing},
    sampler::Sampler,
    session::{Draft, Finish, GenerateOptions, Progressed, Session, SessionOptions, Turn},
    threads::{HostJobs, ThreadPool, ThreadPoolOptions},
};

const LAYERS: usize = 3;
/// Three looks at the cancel token on the way through the head.
const VOCAB: usize = 9000;
const HEAD_UNITS: usize = VOCAB.div_ceil(4096);
/// Tokens of one pass.
const BATCH: usize = 8;

/// A host that counts its calls and raises a cancel token within one of them.
#[derive(Default)]
struct Clock {
    calls: AtomicUsize,
    /// In which call, counted from 1; 0 is never.
    at: AtomicUsize,
    cancel: Cancel,
}

impl HostJobs for Clock {
    fn parallel_for(&self, n: u32, job: &(dyn Fn(u32) + Sync)) {
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.at.load(Ordering::Relaxed) {
            self.cancel.set();
        }
        (0..n).for_each(job);
    }
}

impl Clock {
    fn new() -> Arc<Clock> {
        Arc::default()
    }

    /// From here on: no call so far, the token down, and raised in call `at`.
    fn wind(&self, at: usize) {
        self.calls.store(0, Ordering::Relaxed);
        self.at.store(at, Ordering::Relaxed);
        self.cancel.reset();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn options(self: &Arc<Self>, kv_type: KvType) -> ContextOptions {
        let host = Some(Arc::clone(self) as Arc<dyn HostJobs>);
        let pool = ThreadPool::new(&ThreadPoolOptions { threads: 4, host, ..Default::default() });
        ContextOptions {
            kv_type,
            n_batch: BATCH,
            n_seq_max: 3,
            pool: Some(pool.expect("no thread is started")),
            ..ContextOptions::default()
        }
    }
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let plan = Plan { layers: LAYERS as u32, vocab: VOCAB as u32, ..Plan::default() };
        Model::from_source(Source::from_memory(tiny::bytes(&plan)), LoadOptions::default())
            .expect("a sound plan")
    })
}

fn tokens(n: usize, seed: u64) -> Vec<i32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..n).map(|_| rng.i32(0..8000)).collect()
}

fn on(sequence: usize) -> EvalOptions<'static> {
    EvalOptions { sequence, ..EvalOptions::default() }
}

/// Everything that a sequence is, bit for bit: tokens, keys and values, and the logits that follow.
fn whole(context: &mut Context, sequence: usize) -> (Vec<u8>, Vec<u32>) {
    let cache = context.save_sequence(sequence).expect("computed");
    let mut copy = Context::new(model(), context.options().clone()).expect("small");
    copy.load_sequence(0, &cache).expect("its own bytes");
    let row = copy.logits(0).expect("a row").iter().map(|x| x.to_bits()).collect();
    (cache, row)
}

/// What a host may do after a cancel, beside going on with the same tokens.
type Detour = fn(&mut Context, &Context);
const DETOURS: [(&str, Detour); 5] = [
    ("other tokens", |context, _| {
        context.eval(&tokens(BATCH, 9), on(0)).expect("fits");
    }),
    ("a cut and the same tokens again", |context, _| {
        let len = context.tokens(0).expect("there").len();
        let last = context.tokens(0).expect("there")[len - 3..].to_vec();
        context.truncate(0, len - 3).expect("there");
        context.eval(&last, on(0)).expect("fits");
    }),
    ("a fork", |context, _| {
        context.fork(0, 2).expect("empty");
        context.eval(&tokens(5, 10), on(2)).expect("fits");
    }),
    ("a trim", |context, _| {
        context.trim(Trim::Cache);
        context.eval(&tokens(1, 11), on(0)).expect("fits");
    }),
    ("a score", |context, fresh| {
        let scores = context.score(0, &tokens(6, 12), None).expect("scores");
        let mut fresh = copy_of(fresh, context.tokens(0).expect("there").len());
        assert_eq!(scores, fresh.score(0, &tokens(6, 12), None).expect("scores"));
    }),
];

/// A context of its own with the first `len` tokens of sequence 0, never cancelled.
fn copy_of(context: &Context, len: usize) -> Context {
    let mut copy = Context::new(model(), context.options().clone()).expect("small");
    copy.eval(&context.tokens(0).expect("there")[..len], on(0)).expect("fits");
    copy
}

#[test]
fn a_cancel_in_any_layer_of_an_eval_leaves_whole_tokens() {
    for kv_type in [KvType::F16, KvType::I8] {
        let clock = Clock::new();
        // The first pass ends one page of the cache and begins another.
        let before = tokens(60, 1);
        // A prompt of three passes, the last of them not full; and one token alone.
        for (what, more) in [("prefill", tokens(2 * BATCH + 3, 2)), ("decode", tokens(1, 3))] {
            let fresh = || {
                let mut context = Context::new(model(), clock.options(kv_type)).expect("small");
                clock.wind(0);
                context.eval(&before, on(0)).expect("fits");
                context
            };
            let mut straight = fresh();
            clock.wind(0);
            straight.eval(&more, on(0)).expect("fits");
            let total = clock.calls();
            let passes = more.len().div_ceil(BATCH);
            assert!(total >= 5 * passes * LAYERS, "{total} calls in {passes} passes");
            let want = whole(&mut straight, 0);
            let (mut stops, mut cut) = (BTreeSet::new(), BTreeMap::new());
            for at in 1..=total {
                let mut context = fresh();
                clock.wind(at);
                let options = EvalOptions { cancel: Some(&clock.cancel), ..on(0) };
                let step = context.eval(&more, options).expect("no error");
                let stop = clock.calls();
                let case = format!("{what} {kv_type:?}, raised in call {at} of {total}");
                if step.status == Status::Done {
                    assert_eq!((stop, step.done), (total, more.len()), "{case}: to the end");
                } else {
                    assert_eq!(step.status, Status::Cancelled, "{case}");
                    assert!(step.done.is_multiple_of(BATCH) && step.done < more.len(), "{case}");
                    stops.insert(stop);
                }
                assert!(stop - at < total / (passes * LAYERS) + 3, "{case}: late, at {stop}");
                let held: Vec<i32> = before.iter().chain(&more[..step.done]).copied().collect();
                assert_eq!(context.tokens(0).expect("there"), held, "{case}: whole tokens");
                let saved = context.save_sequence(0).expect("computed");
                let never = cut.entry(held.len()).or_insert_with(|| {
                    copy_of(&straight, held.len()).save_sequence(0).expect("computed")
                });
                assert!(saved == *never, "{case}: what is saved is what is left");
                let rest = &more[step.done..];
                if at % 7 == 0 {
                    // The cancelled context is what one is that was never asked for more than it has.
                    let (name, detour) = DETOURS[at / 7 % DETOURS.len()];
                    let mut never = copy_of(&straight, held.len());
                    detour(&mut context, &straight);
                    detour(&mut never, &straight);
                    for sequence in [0, 2] {
                        if !never.tokens(sequence).expect("there").is_empty() {
                            let same = whole(&mut context, sequence) == whole(&mut never, sequence);
                            assert!(same, "{case}, then {name}: sequence {sequence}");
                        }
                    }
                } else if !rest.is_empty() {
                    clock.wind(0);
                    let step = context.eval(rest, options).expect("fits");
                    assert_eq!((step.status, step.done), (Status::Done, rest.len()), "{case}");
                    assert!(clock.calls() <= total - stop, "{case}: goes on where it stopped");
                    let row = context.logits(0).expect("kept");
                    let row: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
                    assert!(row == want.1, "{case}: the row");
                    assert!(whole(&mut context, 0) == want, "{case}: keys and values");
                }
            }
            // Between all layers, and nowhere else.
            assert_eq!(stops.len(), passes * LAYERS - 1, "{what} {kv_type:?}: {stops:?}");
        }
    }
}

#[test]
fn a_cancel_in_any_layer_of_a_batch_leaves_whole_tokens_of_each() {
    let clock = Clock::new();
    let item = |(i, token): (usize, i32)| Item { token, sequence: i % 3, want: i >= 15 };
    let items: Vec<Item> = tokens(18, 4).into_iter().enumerate().map(item).collect();
    let fresh = || Context::new(model(), clock.options(KvType::F16)).expect("small");
    let mut straight = fresh();
    clock.wind(0);
    straight.eval_items(&items, EvalOptions::default()).expect("fits");
    let total = clock.calls();
    let want: Vec<_> = (0..3).map(|sequence| whole(&mut straight, sequence)).collect();
    let mut stops = BTreeSet::new();
    for at in 1..=total {
        let mut context = fresh();
        clock.wind(at);
        let options = EvalOptions { cancel: Some(&clock.cancel), ..EvalOptions::default() };
        let step = context.eval_items(&items, options).expect("no error");
        stops.insert(clock.calls());
        for sequence in 0..3 {
            let held = items[..step.done].iter().filter(|item| item.sequence == sequence);
            let held: Vec<i32> = held.map(|item| item.token).collect();
            assert_eq!(context.tokens(sequence).expect("there"), held, "call {at}");
        }
        if step.done < items.len() {
            clock.wind(0);
            let rest = context.eval_items(&items[step.done..], options).expect("fits");
            assert_eq!(rest.done, items.len() - step.done, "call {at}");
        }
        for (sequence, want) in want.iter().enumerate() {
            assert!(whole(&mut context, sequence) == *want, "call {at}, sequence {sequence}");
        }
    }
    assert_eq!(stops.len(), items.len().div_ceil(BATCH) * LAYERS, "{stops:?}, the end included");
}

#[test]
fn a_cancel_in_the_head_leaves_the_sampler_and_the_row() {
    let clock = Clock::new();
    let chain = || {
        // Hot, so that the draws differ; top-k first, so that a screen may serve it.
        let mut sampler = Sampler::new(3);
        sampler.add_top_k(40).and_then(|sampler| sampler.add_temp(9.0)).expect("in range");
        sampler.accept(7).expect("no grammar");
        sampler
    };
    // The whole head, and one that is screened: its bounds take as many looks.
    for screen in [false, true] {
        let plan = Plan { layers: LAYERS as u32, vocab: VOCAB as u32, ..Plan::default() };
        let packing = Packing { screen: Some(screen), ..Packing::default() };
        let options = LoadOptions { packing, ..LoadOptions::default() };
        let model = Model::from_source(Source::from_memory(tiny::bytes(&plan)), options)
            .expect("a sound plan");
        let mut context = Context::new(&model, clock.options(KvType::F16)).expect("small");
        context.eval(&tokens(4, 5), on(0)).expect("fits");
        let draw = |context: &mut Context, sampler: &mut Sampler| {
            context.sample(0, sampler, None, Some(&clock.cancel)).expect("no error")
        };
        clock.wind(0);
        let mut straight = chain();
        let mut want = vec![draw(&mut context, &mut straight).expect("whole")];
        let total = clock.calls();
        want.extend((1..8).map(|_| draw(&mut context, &mut straight).expect("whole")));
        assert!(total >= HEAD_UNITS && want.iter().any(|token| *token != want[0]), "{want:?}");
        for at in 1..=total {
            context.clear(0).expect("there");
            context.eval(&tokens(4, 5), on(0)).expect("fits");
            let mut sampler = chain();
            clock.wind(at);
            let mut got: Vec<i32> = draw(&mut context, &mut sampler).into_iter().collect();
            if at < HEAD_UNITS {
                assert_eq!((got.len(), clock.calls()), (0, at), "call {at}: within one unit");
            }
            let before = clock.calls();
            clock.wind(0);
            while got.len() < want.len() {
                got.extend(draw(&mut context, &mut sampler));
            }
            assert_eq!(got, want, "call {at} of {total}, screened: {screen}");
            assert!(screen || clock.calls() == total - before, "no row is computed twice");
        }
    }
}

#[test]
fn cancelled_scores_and_choices_leave_the_sequence() {
    let clock = Clock::new();
    let mut context = Context::new(model(), clock.options(KvType::F16)).expect("small");
    context.eval(&tokens(10, 6), EvalOptions { want: Want::All, ..on(0) }).expect("fits");
    let before = whole(&mut context, 0);
    let more = tokens(12, 7);
    let texts = ["yes", "no", "perhaps not"];
    clock.wind(0);
    let scores = context.score(0, &more, None).expect("scores");
    let scoring = clock.calls();
    clock.wind(0);
    let choice = context.choose(0, &texts, None).expect("chooses");
    let choosing = clock.calls();
    for at in 1..scoring {
        clock.wind(at);
        match context.score(0, &more, Some(&clock.cancel)) {
            Err(Error::Cancelled) => {}
            other => panic!("call {at} of {scoring}: {other:?}"),
        }
        assert!(whole(&mut context, 0) == before && context.rows() == 10, "score, call {at}");
    }
    for at in 1..choosing {
        clock.wind(at);
        match context.choose(0, &texts, Some(&clock.cancel)) {
            Err(Error::Cancelled) => {}
            other => panic!("call {at} of {choosing}: {other:?}"),
        }
        assert!(whole(&mut context, 0) == before && context.rows() == 10, "choose, call {at}");
    }
    clock.wind(0);
    assert_eq!(context.score(0, &more, Some(&clock.cancel)).expect("scores"), scores);
    assert_eq!(context.choose(0, &texts, Some(&clock.cancel)).expect("chooses"), choice);
}

/// All that a session says to one question, to its end.
fn ask(session: &mut Session, text: &str, options: GenerateOptions) -> (String, Finish) {
    let mut answer = String::new();
    let finish = session.respond(Some(text), options, |chunk| {
        answer.push_str(chunk.text);
        true
    });
    (answer, finish.expect("answers"))
}

#[test]
fn a_cancel_anywhere_in_an_answer_leaves_whole_tokens_and_a_session_that_goes_on() {
    let clock = Clock::new();
    let options = |draft| GenerateOptions {
        sampler: Some(Sampler::new(0)),
        max_tokens: 4,
        draft,
        cancel: Some(clock.cancel.clone()),
        ..GenerateOptions::default()
    };
    let fresh = || {
        let context = ContextOptions { n_seq_max: 1, ..clock.options(KvType::F16) };
        Session::new(model(), SessionOptions { context, ..SessionOptions::default() })
            .expect("small")
    };
    for draft in [Draft::None, Draft::PromptLookup] {
        clock.wind(0);
        let (text, finish) = ask(&mut fresh(), "ab ab ab ab", options(draft));
        assert_eq!(finish, Finish::Length);
        let total = clock.calls();
        let mut lengths = BTreeSet::new();
        let mut stops = BTreeSet::new();
        for at in 1..=total {
            let mut session = fresh();
            clock.wind(at);
            session.start(Some("ab ab ab ab"), options(draft)).expect("starts");
            let mut seen = String::new();
            let mut produced = 0;
            let cancelled = loop {
                match session.next(None) {
                    Ok((progressed, chunk)) => {
                        seen.push_str(chunk.text);
                        produced += usize::from(chunk.token.is_some());
                        if progressed == Progressed::Done {
                            break false;
                        }
                    }
                    Err(Error::Cancelled) => break true,
                    Err(error) => panic!("call {at}: {error}"),
                }
            };
            stops.insert(clock.calls());
            lengths.insert(produced);
            let case = format!("{draft:?}, raised in call {at} of {total}, {produced} tokens");
            assert!(!session.is_generating() && text.starts_with(&seen), "{case}: {seen:?}");
            assert_eq!(cancelled, produced < 4, "{case}");
            // The question stays, and what was said of the answer, if anything was.
            let turns = session.turns().to_vec();
            assert_eq!(turns[0], Turn { role: "user".into(), content: "ab ab ab ab".into() });
            match produced {
                0 => assert_eq!(turns.len(), 1, "{case}"),
                _ => assert_eq!((turns.len(), &turns[1].role[..]), (2, "assistant"), "{case}"),
            }
            assert!(turns.get(1).is_none_or(|turn| seen == turn.content), "{case}");
            // Going on is what it would have been in a session that only ever heard this transcript.
            clock.wind(0);
            let mut never = fresh();
            never.set_turns(turns).expect("a transcript");
            let again = ask(&mut session, "cd", options(draft));
            assert_eq!(again, ask(&mut never, "cd", options(draft)), "{case}");
            let cache = |session: &Session| {
                let context = session.context().read().expect("free");
                context.save_sequence(0).expect("computed")
            };
            assert!(cache(&session) == cache(&never), "{case}: keys and values");
        }
        assert!(lengths.contains(&0) && lengths.contains(&3), "{lengths:?}");
        // At the least between the layers of the prompt's passes and of three single tokens.
        assert!(stops.len() > 4 * LAYERS + 3 * HEAD_UNITS, "{draft:?}: {stops:?}");
    }
}

#[test]
fn a_cancelled_prewarm_keeps_what_was_evaluated() {
    let clock = Clock::new();
    let context = || ContextOptions { n_seq_max: 1, ..clock.options(KvType::F16) };
    let instructions = Some("Answer briefly, and never with a lie.".to_owned());
    let fresh = || {
        let options = SessionOptions {
            instructions: instructions.clone(),
            context: context(),
            ..SessionOptions::default()
        };
        Session::new(model(), options).expect("small")
    };
    let mut straight = fresh();
    clock.wind(0);
    straight.prewarm(None).expect("fits");
    let total = clock.calls();
    let want = straight.save().expect("idle");
    let held =
        |session: &Session| session.context().read().expect("free").tokens(0).expect("0").len();
    let whole = held(&straight);
    assert!(whole > 2 * BATCH, "{whole} tokens: more than two passes");
    for at in 1..=total {
        let mut session = fresh();
        clock.wind(at);
        let warmed = session.prewarm(Some(&clock.cancel));
        let kept = held(&session);
        match warmed {
            Ok(()) => assert_eq!((clock.calls(), kept), (total, whole), "call {at}"),
            Err(Error::Cancelled) => {
                assert!(kept.is_multiple_of(BATCH) && kept < whole, "{kept}, call {at}");
            }
            Err(error) => panic!("call {at}: {error}"),
        }
        let spent = clock.calls();
        clock.wind(0);
        session.prewarm(Some(&clock.cancel)).expect("fits");
        assert!(clock.calls() <= total - spent, "call {at}: goes on where it stopped");
        assert!(session.save().expect("idle") == want, "call {at}");
    }
}

#[test]
fn a_load_stops_at_the_tensor_where_it_is_told_to() {
    let plan = Plan { layers: LAYERS as u32, ..Plan::default() };
    let bytes: Arc<[u8]> = tiny::bytes(&plan).into();
    struct Shared(Arc<[u8]>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let load = |at: usize| {
        let (cancel, mut told) = (Cancel::new(), 0);
        let mut progress = |_| {
            told += 1;
            if told == at {
                cancel.set();
            }
            true
        };
        let options = LoadOptions {
            progress: Some(&mut progress),
            cancel: Some(cancel.clone()),
            ..LoadOptions::default()
        };
        let model = Model::from_source(Source::from_memory(Shared(Arc::clone(&bytes))), options);
        (model.map(|_| ()), told)
    };
    let (loaded, steps) = load(0);
    loaded.expect("loads");
    assert!(steps > 7 * LAYERS, "{steps} steps: one a tensor at the least");
    for at in 1..steps - 1 {
        match load(at) {
            (Err(Error::Cancelled), told) => assert_eq!(told, at, "nothing is done after it"),
            (other, told) => panic!("raised in step {at} of {steps}: {other:?} after {told}"),
        }
    }
    assert_eq!(Arc::strong_count(&bytes), 1, "cancelled loads hold nothing");
}
