//! The same logits, bit for bit, for any table, thread count and cut of the prompt.

use std::time::Duration;
use tern::{
    Error,
    context::{Context, ContextOptions, EvalOptions, Item, KvType, Status, Trim, Want},
    control::Cancel,
    kernels::{Code, Form, Kernels},
    model::{LoadOptions, Model, Packing},
    threads::{ThreadPool, ThreadPoolOptions},
};

fn seed_model(kernels: &str) -> Model {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    Model::open(path, LoadOptions { kernels: Some(kernels.into()), ..LoadOptions::default() })
        .expect("the model loads")
}

fn prompt(n: usize) -> Vec<i32> {
    let mut rng = fastrand::Rng::with_seed(42);
    (0..n).map(|_| rng.i32(0..2000)).collect()
}

fn all() -> EvalOptions<'static> {
    EvalOptions { want: Want::All, ..EvalOptions::default() }
}

/// The bits of every row's logits after the prompt went in as `pieces` say.
fn bits(model: &Model, tokens: &[i32], pieces: &[usize], options: ContextOptions) -> Vec<u32> {
    let mut context = Context::new(model, options).expect("small");
    let (mut rest, mut out) = (tokens, Vec::new());
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        if now.is_empty() {
            break;
        }
        context.eval(now, all()).expect("fits");
        for row in 0..now.len() {
            out.extend(context.logits(row).expect("kept").iter().map(|x| x.to_bits()));
        }
        rest = later;
    }
    assert_eq!(out.len(), tokens.len() * model.config().n_vocab);
    out
}

fn pool(threads: usize) -> Option<ThreadPool> {
    Some(ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() }).expect("threads"))
}

#[test]
fn tables_threads_and_cuts_do_not_matter() {
    for kv_type in [KvType::F16, KvType::I8] {
        let tokens = prompt(150);
        let options = || ContextOptions { kv_type, pool: pool(1), ..ContextOptions::default() };
        let scalar = seed_model("scalar");
        let want = bits(&scalar, &tokens, &[], options());
        for table in Kernels::available().skip(1) {
            let got = bits(&seed_model(table.name()), &tokens, &[], options());
            assert!(got == want, "{} differs from scalar ({kv_type:?})", table.name());
        }
        let best = seed_model(Kernels::best().name());
        for threads in [2, 3, 8] {
            let options = ContextOptions { pool: pool(threads), ..options() };
            assert!(bits(&best, &tokens, &[], options) == want, "{threads} threads ({kv_type:?})");
        }
        for pieces in [vec![1; 150], vec![7, 64, 1, 1, 30, 2], vec![63, 1, 1, 80], vec![149]] {
            assert!(
                bits(&best, &tokens, &pieces, options()) == want,
                "pieces {pieces:?} ({kv_type:?})"
            );
        }
        for n_batch in [1, 5, 64] {
            let options = ContextOptions { n_batch, ..options() };
            assert!(bits(&best, &tokens, &[], options) == want, "n_batch {n_batch} ({kv_type:?})");
        }
    }
}

#[test]
fn packings_do_not_matter() {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    let tokens = prompt(70);
    let options = || ContextOptions { pool: pool(2), ..ContextOptions::default() };
    let want = bits(&seed_model("scalar"), &tokens, &[], options());
    for table in Kernels::available() {
        for code in [Some(Code::Bits2), Some(Code::Base3), None] {
            for skip in [Some(true), Some(false), None] {
                let packing = Packing { code, skip, ..Packing::default() };
                let kernels = Some(table.name().into());
                let load = LoadOptions { kernels, packing, ..LoadOptions::default() };
                let has = code.is_none_or(|code| table.dense_forms().any(|form| form.code == code));
                let name = format!("{} {packing:?}", table.name());
                let model = match Model::open(&path, load) {
                    Ok(model) => model,
                    Err(Error::Unsupported(_)) if !has || skip == Some(true) && !table.skips() => {
                        continue;
                    }
                    Err(error) => panic!("{name}: {error}"),
                };
                assert!(has, "{name}: loaded");
                let layer = &model.weights().expect("weights").layers[0];
                assert!(code.is_none_or(|code| layer.q.form().code == code), "{name}");
                let skips = (layer.up.form(), layer.down.form()) == (Form::ROWS, Form::COLUMNS);
                // Unless it is told, a model that a cache holds is read whole.
                assert_eq!(skips, skip.unwrap_or(false), "{name}");
                // One token at a time skips; several at once do not.
                for pieces in [vec![1; 70], vec![3, 1, 60, 2]] {
                    let got = bits(&model, &tokens, &pieces, options());
                    assert!(got == want, "{name}, pieces {pieces:?}");
                }
            }
        }
    }
}

#[test]
fn long_sequences_cross_spans_alike() {
    // 512 positions are a span; the seed model's context ends there, but nothing else does.
    let model = seed_model(Kernels::best().name());
    let tokens = prompt(1100);
    let options =
        |threads| ContextOptions { n_ctx: 1200, pool: pool(threads), ..ContextOptions::default() };
    let last = |context: &mut Context| {
        context.logits(0).expect("kept").iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let mut whole = Context::new(&model, options(1)).expect("small");
    whole.eval(&tokens, EvalOptions::default()).expect("fits");
    let want = last(&mut whole);
    for threads in [1, 2, 3] {
        let mut pieces = Context::new(&model, options(threads)).expect("small");
        for piece in [&tokens[..500], &tokens[500..520], &tokens[520..1096]] {
            pieces.eval(piece, EvalOptions::default()).expect("fits");
        }
        for token in &tokens[1096..] {
            pieces.eval(&[*token], EvalOptions::default()).expect("fits");
        }
        assert!(last(&mut pieces) == want, "{threads} threads, by spans");
    }
    let scalar = seed_model("scalar");
    let mut scalar = Context::new(&scalar, options(1)).expect("small");
    scalar.eval(&tokens, EvalOptions::default()).expect("fits");
    assert!(last(&mut scalar) == want, "scalar");
}

#[test]
fn sequences_side_by_side_step_as_each_alone() {
    let model = seed_model(Kernels::best().name());
    let tokens = prompt(640);
    let lengths = [1, 63, 129, 300, 600];
    for kv_type in [KvType::F16, KvType::I8] {
        let options = |threads| ContextOptions {
            n_ctx: 700,
            n_seq_max: lengths.len(),
            pool: pool(threads),
            kv_type,
            ..ContextOptions::default()
        };
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        // Rows of a prompt attend together.
        let mut alone = Context::new(&model, options(1)).expect("small");
        let mut want = Vec::new();
        for (sequence, len) in lengths.into_iter().enumerate() {
            let options = EvalOptions { sequence, ..EvalOptions::default() };
            alone.eval(&tokens[..len + 6], options).expect("fits");
            want.push(bits(alone.logits(0).expect("kept")));
        }
        // A row of each at a time, in an order that is not the sequences'; and few, so that the long one is cut by spans.
        for order in [&[2, 0, 4, 3, 1][..], &[2, 4, 1], &[4]] {
            for threads in [1, 2, 3] {
                let mut together = Context::new(&model, options(threads)).expect("small");
                for sequence in order.iter().copied() {
                    let options = EvalOptions { sequence, ..EvalOptions::default() };
                    together.eval(&tokens[..lengths[sequence]], options).expect("fits");
                }
                for step in 0..6 {
                    let item = |i: &usize| Item {
                        token: tokens[lengths[*i] + step],
                        sequence: *i,
                        want: true,
                    };
                    let items: Vec<_> = order.iter().map(item).collect();
                    together.eval_items(&items, EvalOptions::default()).expect("fits");
                }
                for (row, sequence) in order.iter().enumerate() {
                    let got = bits(together.logits(row).expect("kept"));
                    let what = format!("{kv_type:?}, {threads} threads, {sequence} of {order:?}");
                    assert!(got == want[*sequence], "{what}");
                }
            }
        }
    }
}

#[test]
fn states_that_nobody_wants_change_no_others() {
    let tokens = prompt(150);
    let bits = |context: &mut Context, row| {
        context.logits(row).expect("kept").iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    // Two sequences by turns, one ahead of the other.
    let items = |wanted: fn(usize) -> bool| -> Vec<Item> {
        let item = |i: usize| Item { token: tokens[i / 2], sequence: i % 2, want: wanted(i) };
        (0..200).filter(|i| i % 4 != 3).map(item).collect()
    };
    let wishes: [fn(usize) -> bool; 5] =
        [|_| false, |i| i == 198, |i| i % 7 == 0, |i| i != 60, |i| (50..70).contains(&i)];
    for kv_type in [KvType::F16, KvType::I8] {
        let options = |threads, n_batch| ContextOptions {
            n_seq_max: 2,
            n_batch,
            pool: pool(threads),
            kv_type,
            ..ContextOptions::default()
        };
        let all = items(|_| true);
        let mut whole = Context::new(&seed_model("scalar"), options(1, 0)).expect("small");
        whole.eval_items(&all, EvalOptions::default()).expect("fits");
        let want: Vec<_> = (0..all.len()).map(|row| bits(&mut whole, row)).collect();
        whole.eval(&tokens[100..], EvalOptions::default()).expect("fits");
        let then = bits(&mut whole, 0);
        for table in Kernels::available() {
            let model = seed_model(table.name());
            // Every table is held to scalar elsewhere: the best one is worth more shapes.
            let cases = [(3, 0), (1, 5), (1, 0), (2, 64), (2, 1)];
            let cases =
                if table.name() == Kernels::best().name() { &cases[..] } else { &cases[..2] };
            for (threads, n_batch) in cases.iter().copied() {
                for (wish, wanted) in wishes.into_iter().enumerate() {
                    let what = format!(
                        "{}, {kv_type:?}, {threads} threads, {n_batch} a pass, wish {wish}",
                        table.name()
                    );
                    let mut context =
                        Context::new(&model, options(threads, n_batch)).expect("small");
                    let items = items(wanted);
                    context.eval_items(&items, EvalOptions::default()).expect("fits");
                    let rows = items.iter().zip(&want).filter(|(item, _)| item.want);
                    assert_eq!(context.rows(), rows.clone().count(), "{what}");
                    for (row, (_, want)) in rows.enumerate() {
                        assert!(bits(&mut context, row) == *want, "{what}: row {row}");
                    }
                    // What the cache holds serves whoever comes next.
                    context.eval(&tokens[100..], EvalOptions::default()).expect("fits");
                    assert!(bits(&mut context, 0) == then, "{what}: afterwards");
                }
            }
        }
    }
}

#[test]
fn forks_trims_budgets_and_batches_do_not_matter() {
    let model = seed_model(Kernels::best().name());
    let (a, b) = (prompt(90), prompt(120).split_off(80));
    let fresh = |tokens: &[i32]| {
        let mut context = Context::new(&model, ContextOptions::default()).expect("small");
        context.eval(tokens, EvalOptions::default()).expect("fits");
        context.logits(0).expect("kept").to_vec()
    };
    let joined: Vec<i32> = a.iter().chain(&b).copied().collect();
    let (want_a, want_joined) = (fresh(&a), fresh(&joined));
    let mut context =
        Context::new(&model, ContextOptions { n_seq_max: 4, ..Default::default() }).expect("small");
    context.eval(&a, EvalOptions::default()).expect("fits");
    context.fork(0, 1).expect("empty");
    assert!(context.fork(0, 1).is_err(), "not empty any more");

    let on = |sequence| EvalOptions { sequence, ..EvalOptions::default() };
    context.eval(&b, on(1)).expect("fits");
    assert!(context.logits(0).expect("kept") == want_joined, "fork, then more");
    context.truncate(0, 89).expect("there");
    context.eval(&a[89..], on(0)).expect("fits");
    assert!(context.logits(0).expect("kept") == want_a, "the other side of the fork is untouched");

    assert!(context.trim(Trim::Cache) > 0);
    assert!(context.logits(0).is_err(), "rows went with the trim");
    context.truncate(1, 100).expect("there");
    context.eval(&b[10..], on(1)).expect("fits");
    assert!(context.logits(0).expect("kept") == want_joined, "computed again after a trim");

    // Two new sequences and an old one, interleaved in one batch.
    let mut items = Vec::new();
    for (i, (x, y)) in a.iter().zip(&joined).enumerate() {
        items.push(Item { token: *x, sequence: 2, want: i + 1 == a.len() });
        items.push(Item { token: *y, sequence: 3, want: false });
    }
    items.extend(joined[90..].iter().map(|token| Item { token: *token, sequence: 3, want: false }));
    items.last_mut().expect("some").want = true;
    context.eval_items(&items, EvalOptions::default()).expect("fits");
    assert!(
        context.logits(0).expect("kept") == want_a
            && context.logits(1).expect("kept") == want_joined,
        "a batch"
    );

    let mut stepped = Context::new(&model, ContextOptions::default()).expect("small");
    let (mut rest, mut calls) = (&joined[..], 0);
    while !rest.is_empty() {
        let budget =
            EvalOptions { budget: Some(Duration::from_nanos(1)), ..EvalOptions::default() };
        let step = stepped.eval(rest, budget).expect("fits");
        assert_eq!(step.status == Status::Done, step.done == rest.len());
        rest = &rest[step.done..];
        calls += 1;
        assert!(calls < 1000, "every call advances");
    }
    assert!(calls > 20, "a budget of nothing stops at every layer: {calls} calls");
    assert!(stepped.logits(0).expect("kept") == want_joined, "in steps");

    let cancel = Cancel::new();
    cancel.set();
    let cancelled = EvalOptions { cancel: Some(&cancel), ..EvalOptions::default() };
    let step = stepped.eval(&a[..3], cancelled).expect("no error");
    assert_eq!((step.done, step.status), (0, Status::Cancelled));
    assert_eq!(stepped.tokens(0).expect("there").len(), joined.len(), "whole tokens only");
}

#[test]
fn failed_calls_change_nothing() {
    let model = seed_model("scalar");
    let mut context =
        Context::new(&model, ContextOptions { n_ctx: 70, ..Default::default() }).expect("small");
    assert!(context.logits(0).is_err(), "before an eval");
    context.eval(&prompt(60), EvalOptions::default()).expect("fits");
    let before = context.logits(0).expect("kept").to_vec();
    for bad in [&[1, 2, 2048][..], &[-1], &[5; 11]] {
        assert!(context.eval(bad, EvalOptions::default()).is_err(), "{bad:?}");
    }
    assert!(context.eval(&[1], EvalOptions { sequence: 1, ..Default::default() }).is_err());
    assert_eq!(context.tokens(0).expect("there").len(), 60);
    assert!(context.logits(0).expect("still there") == before);
    let page = context.cache_bytes();
    let capped = ContextOptions { kv_bytes_max: page, ..Default::default() };
    let mut capped = Context::new(&model, capped).expect("small");
    capped.eval(&prompt(64), EvalOptions::default()).expect("one page");
    let text = capped.eval(&[1], EvalOptions::default()).expect_err("a second page").to_string();
    assert!(text.contains("cache bytes"), "{text}");
}
