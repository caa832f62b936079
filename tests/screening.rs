//! A token drawn from a context is the token drawn from its logits, whether the head is screened or not.

#[path = "common/tiny.rs"]
#[expect(dead_code, unused_imports, reason = "one kind of model is made here")]
mod tiny;

use std::time::Duration;
use tern::{
    Cancel,
    context::{Context, ContextOptions, EvalOptions, Want},
    file::{Gguf, Source},
    kernels::{
        Kernels,
        screen::{Basis, Split},
    },
    model::{LoadOptions, Model, Packing, Pairs},
    sampler::{Dry, Grammar, GrammarKind, Sampler},
    tensor::DType,
    threads::{ThreadPool, ThreadPoolOptions},
};
use tiny::Plan;

/// A model whose head has 5000 rows, screened on request.
fn model(embedding: DType, untied: bool, kernels: &str, screen: bool) -> Model {
    loaded(
        tiny::bytes(&Plan { vocab: 5000, embedding, untied, ..Plan::default() }),
        kernels,
        screen,
    )
}

fn loaded(bytes: Vec<u8>, kernels: &str, screen: bool) -> Model {
    let source = Source::from_memory(bytes);
    let packing = Packing { screen: Some(screen), ..Packing::default() };
    let load = LoadOptions { kernels: Some(kernels.into()), packing, ..LoadOptions::default() };
    Model::from_source(source, load).expect("a sound model")
}

type Chain = (&'static str, fn(u64, &Model) -> Sampler);

/// Chains that are screened, chains that are not, and what they edit first.
const CHAINS: [Chain; 9] = [
    ("greedy", |seed, _| Sampler::new(seed)),
    ("recommended", |seed, _| Sampler::recommended(seed)),
    ("top-k 1", |seed, _| chain(seed, |s| _ = s.add_top_k(1).unwrap())),
    ("top-k 300", |seed, _| chain(seed, |s| _ = s.add_top_k(300).unwrap().add_temp(1.5).unwrap())),
    ("temperature alone", |seed, _| chain(seed, |s| _ = s.add_temp(0.9).unwrap())),
    ("bias and penalties", |seed, _| {
        chain(seed, |s| {
            s.add_logit_bias(&[(7, 3.0), (11, f32::NEG_INFINITY), (4000, 20.0)]).unwrap();
            s.add_penalties(64, 1.3, 0.2, 0.1)
                .unwrap()
                .add_top_k(20)
                .unwrap()
                .add_temp(0.8)
                .unwrap();
        })
    }),
    ("dry", |seed, _| {
        chain(seed, |s| {
            s.add_dry(Dry {
                multiplier: 0.8,
                base: 1.75,
                allowed_length: 2,
                last_n: -1,
                breakers: vec![],
            })
            .unwrap()
            .add_top_k(5)
            .unwrap();
        })
    }),
    ("grammar, greedy", |seed, model| chain(seed, |s| grammar(s, model))),
    ("grammar, drawn", |seed, model| {
        chain(seed, |s| {
            grammar(s, model);
            s.add_top_k(10).unwrap().add_temp(1.0).unwrap();
        })
    }),
];

fn chain(seed: u64, add: impl FnOnce(&mut Sampler)) -> Sampler {
    let mut sampler = Sampler::new(seed);
    add(&mut sampler);
    sampler
}

/// A number of many digits: few tokens are allowed at a time.
fn grammar(sampler: &mut Sampler, model: &Model) {
    let env = model.grammar_env().expect("a vocabulary with an end");
    let digits = Grammar::compile(env, GrammarKind::Regex, b"[0-9]{60}").expect("compiles");
    sampler.add_grammar(&digits).expect("fits");
}

fn context(model: &Model, threads: usize, fast_head: bool) -> Context {
    let pool = ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() });
    let pool = Some(pool.expect("threads"));
    let mut context = Context::new(model, ContextOptions { pool, fast_head, ..Default::default() })
        .expect("small");
    context.eval(&[1, 2, 3, 4], EvalOptions::default()).expect("fits");
    context
}

/// `n` tokens, drawn one after the other.
fn drawn(
    context: &mut Context,
    mut sampler: Sampler,
    n: usize,
    budget: Option<Duration>,
) -> Vec<i32> {
    let draw = |context: &mut Context, sampler: &mut Sampler| loop {
        if let Some(token) = context.sample(0, sampler, budget, None).expect("a token") {
            return token;
        }
    };
    (0..n)
        .map(|_| {
            let token = draw(context, &mut sampler);
            context.eval(&[token], EvalOptions::default()).expect("fits");
            token
        })
        .collect()
}

/// The same by way of the logits.
fn from_logits(context: &mut Context, mut sampler: Sampler, n: usize) -> Vec<i32> {
    (0..n)
        .map(|_| {
            let token = sampler.sample(context.logits(0).expect("kept")).expect("a token");
            context.eval(&[token], EvalOptions::default()).expect("fits");
            token
        })
        .collect()
}

#[test]
fn drawing_from_a_context_is_drawing_from_its_logits() {
    for (embedding, untied) in [(DType::F16, false), (DType::Q6_K, true), (DType::BF16, false)] {
        let whole = model(embedding, untied, "scalar", false);
        for table in Kernels::available() {
            let screened = model(embedding, untied, table.name(), true);
            assert!(screened.weights().expect("weights").planes.is_some());
            for (name, make) in CHAINS {
                // Every table is held to scalar elsewhere: the best one is worth a second seed.
                let seeds = if table.name() == Kernels::best().name() { 1..3 } else { 1..2 };
                for seed in seeds {
                    let want = from_logits(&mut context(&whole, 1, false), make(seed, &whole), 12);
                    for (threads, fast) in [(1, false), (3, false), (2, true)] {
                        let mut context = context(&screened, threads, fast);
                        let got = drawn(&mut context, make(seed, &screened), 12, None);
                        let at = format!(
                            "{name}, {embedding}, {}, {threads} threads, fast {fast}",
                            table.name()
                        );
                        assert_eq!(got, want, "{at}, seed {seed}");
                    }
                }
            }
        }
    }
}

#[test]
fn few_rows_are_computed_and_the_rest_only_when_asked_for() {
    let screened = model(DType::F16, false, Kernels::best().name(), true);
    let mut context = context(&screened, 1, false);
    let before = context.scratch_bytes();
    let token =
        context.sample(0, &mut Sampler::new(1), None, None).expect("draws").expect("no budget");
    // Two bounds a row, and no row of logits.
    let grown = context.scratch_bytes() - before;
    assert!((8 * 5000..12 * 5000).contains(&grown), "{grown} bytes");
    let logits = context.logits(0).expect("kept").to_vec();
    let best = (0..5000).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("some");
    assert_eq!(token, best as i32);
}

#[test]
fn a_budget_or_a_cancel_between_rows_changes_nothing() {
    let screened = model(DType::F16, false, Kernels::best().name(), true);
    let want = drawn(&mut context(&screened, 2, false), Sampler::recommended(3), 12, None);
    let stepped = Some(Duration::from_micros(1));
    let got = drawn(&mut context(&screened, 2, false), Sampler::recommended(3), 12, stepped);
    assert_eq!(got, want);
    let mut context = context(&screened, 2, false);
    let (cancel, mut sampler) = (Cancel::new(), Sampler::recommended(3));
    cancel.set();
    assert_eq!(context.sample(0, &mut sampler, None, Some(&cancel)).expect("stops"), None);
    cancel.reset();
    let mut drawn = |context: &mut Context| context.sample(0, &mut sampler, None, Some(&cancel));
    assert_eq!(drawn(&mut context).expect("draws"), Some(want[0]));
}

#[test]
fn a_packed_file_brings_its_planes() {
    let folder = std::env::temp_dir().join(format!("tern-planes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("packed.gguf");
    let made = model(DType::F16, false, "scalar", true);
    made.convert(&path, None, None).expect("converts");
    let want = drawn(&mut context(&made, 1, false), Sampler::recommended(5), 16, None);
    let greedy =
        [false, true].map(|fast| drawn(&mut context(&made, 1, fast), Sampler::new(5), 16, None));
    for table in Kernels::available() {
        let open = |screen| {
            let packing = Packing { screen, ..Packing::default() };
            let kernels = Some(table.name().to_owned());
            Model::open(&path, LoadOptions { kernels, packing, ..Default::default() })
                .expect("opens")
        };
        let (brought, without) = (open(None), open(Some(false)));
        let planes = brought.weights().expect("weights").planes.as_ref().expect("brought");
        assert!(planes.bytes().1, "mapped");
        // Few rows are read past the map, and are those of the map.
        let (few, mut room) = ([700, 3, 4999], vec![0; 3 * planes.k() / 4]);
        let bytes = |(plane, rows): (&[u8], &[u32])| -> Vec<u8> {
            let row = |row: &u32| &plane[*row as usize * planes.k() / 4..][..planes.k() / 4];
            rows.iter().flat_map(row).copied().collect()
        };
        for pairs in [Pairs::Middle, Pairs::Low] {
            let past = planes.pairs(pairs, &few, &mut room);
            assert!(past.1 == [0, 1, 2] && past.0.len() == 3 * planes.k() / 4);
            assert_eq!(bytes(past), bytes(planes.pairs(pairs, &few, &mut [])), "{pairs:?}");
        }
        for (fast, want) in [false, true].into_iter().zip(&greedy) {
            let got = drawn(&mut context(&brought, 1, fast), Sampler::new(5), 16, None);
            assert_eq!(&got, want, "{}, fast head {fast}", table.name());
        }
        assert!(without.weights().expect("weights").planes.is_none());
        for model in [brought, without] {
            let got = drawn(&mut context(&model, 1, false), Sampler::recommended(5), 16, None);
            assert_eq!(got, want, "{}", table.name());
        }
    }
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn a_packed_file_is_held_to_its_head_and_its_version() {
    let folder = std::env::temp_dir().join(format!("tern-held-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("packed.gguf");
    model(DType::F16, false, "scalar", true).convert(&path, None, None).expect("converts");
    let bytes = std::fs::read(&path).expect("written");
    let open = |bytes: &[u8], verify| {
        std::fs::write(&path, bytes).expect("room");
        Model::open(&path, LoadOptions { verify, ..LoadOptions::default() })
    };
    let sound = open(&bytes, true).expect("sound");
    let tensor = sound.gguf().tensor("tern.head").expect("there");
    // The bounds of the last row end it; planes lie before them.
    let end = (tensor.range().end - 1) as usize;
    drop(sound); // some systems let nobody write to a mapped file
    for at in [end, end - 16 * 5000 - 100] {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        open(&broken, false).expect("is not looked at");
        let error = open(&broken, true).expect_err("looked at").to_string();
        assert!(error.contains("tern.head") && error.contains("convert"), "byte {at}: {error}");
    }
    let key = b"tern.packed.version";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("a packed file");
    let mut old = bytes.clone();
    old[at + key.len() + 4] = 1;
    let error = open(&old, false).expect_err("another layout").to_string();
    assert!(error.contains("tern.packed.version") && error.contains("convert"), "{error}");
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn rows_of_one_eval_are_bounded_together_and_drawn_in_any_order() {
    // Final states without outliers, which their first term alone bounds, and with some.
    let even = tiny::bytes(&Plan { vocab: 5000, width: 512, ..Plan::default() });
    let gguf = Gguf::parse(Source::from_memory(even.clone()).into()).expect("sound");
    let gains = gguf.tensor("output_norm.weight").expect("there").range();
    let mut uneven = even.clone();
    for gain in uneven[gains.start as usize..gains.end as usize].chunks_exact_mut(4).step_by(99) {
        gain.copy_from_slice(&30f32.to_le_bytes());
    }
    for (bytes, near) in [(even, true), (uneven, false)] {
        in_any_order(&bytes, near);
    }
}

fn in_any_order(bytes: &[u8], near: bool) {
    for table in Kernels::available() {
        let screened = loaded(bytes.to_vec(), table.name(), true);
        let whole = loaded(bytes.to_vec(), "scalar", false);
        let tokens: Vec<i32> = (5..24).collect();
        for (fast, threads) in [(false, 2), (true, 1)] {
            let [mut screened, mut whole] =
                [(&screened, fast), (&whole, false)].map(|(model, fast)| {
                    let mut context = context(model, threads, fast);
                    let options = EvalOptions { want: Want::All, ..EvalOptions::default() };
                    context.eval(&tokens, options).expect("fits");
                    context
                });
            assert_eq!(screened.rows(), tokens.len());
            let splits: Vec<Split> = (0..tokens.len())
                .map(|row| {
                    let (mut first, mut second) = ([0; 512], [0; 512]);
                    Split::new(screened.state(row).expect("kept"), &mut first, &mut second)
                })
                .collect();
            assert!(splits.iter().all(|split| split.is_near_first() == near), "near: {near}");
            let is_fast = table.name() != "scalar" && near;
            let basis = if is_fast { Basis::FirstTerm } else { Basis::BothTerms };
            assert_eq!(table.sure_basis(&splits), basis, "{}", table.name());
            for (name, make) in CHAINS {
                for row in [0, 1, 7, 8, 18, 3, 11] {
                    let mut sampler = make(row as u64, screened.model());
                    let want = make(row as u64, whole.model())
                        .sample(whole.logits(row).expect("kept"))
                        .expect("a token");
                    let got = screened.sample(row, &mut sampler, None, None).expect("draws");
                    let at = format!("{name}, {}, row {row}, fast {fast}", table.name());
                    assert_eq!(got, Some(want), "{at}");
                }
            }
        }
    }
}
