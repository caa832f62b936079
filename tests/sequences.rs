//! Saved, mapped, shifted, scored: what a sequence can be asked for beside its next token.

use tern::{
    Error,
    context::{Context, ContextOptions, EvalOptions, KvType, Pooling, Trim, Want},
    model::{LoadOptions, Model},
};

fn model() -> Model {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    Model::open(path, LoadOptions::default()).expect("the model loads")
}

fn prompt(n: usize) -> Vec<i32> {
    let mut rng = fastrand::Rng::with_seed(17);
    (0..n).map(|_| rng.i32(0..2000)).collect()
}

fn filled(model: &Model, tokens: &[i32], options: ContextOptions) -> Context {
    let mut context = Context::new(model, options).expect("small");
    context.eval(tokens, EvalOptions::default()).expect("fits");
    context
}

fn logits(context: &mut Context) -> Vec<u32> {
    context.logits(0).expect("a row").iter().map(|x| x.to_bits()).collect()
}

#[test]
fn saved_sequences_continue_as_if_never_stopped() {
    let model = model();
    let tokens = prompt(130);
    for kv_type in [KvType::F16, KvType::I8] {
        let options = || ContextOptions { kv_type, ..ContextOptions::default() };
        let mut straight = filled(&model, &tokens, options());
        let before = logits(&mut straight);
        let blob = straight.save_sequence(0).expect("saves");
        assert_eq!(blob.len(), straight.saved_len(0).expect("known"));
        let mut other = Context::new(&model, options()).expect("small");
        other.load_sequence(0, &blob).expect("loads");
        assert!(logits(&mut other) == before, "the last row is computed again ({kv_type:?})");
        let file =
            std::env::temp_dir().join(format!("tern-prefix-{}-{kv_type:?}", std::process::id()));
        straight.save_prefix(0, &file).expect("writes");
        let mut mapped: Vec<Context> =
            (0..3).map(|_| Context::new(&model, options()).expect("small")).collect();
        for mapped in &mut mapped {
            mapped.map_prefix(0, &file).expect("maps");
            assert!(
                matches!(mapped.map_prefix(0, &file), Err(Error::InvalidState(_))),
                "not empty"
            );
        }
        std::fs::remove_file(&file).expect("there");
        straight.eval(&[5, 6, 7], EvalOptions::default()).expect("fits");
        let want = logits(&mut straight);
        for context in mapped.iter_mut().chain([&mut other]) {
            context.eval(&[5, 6, 7], EvalOptions::default()).expect("fits");
            assert!(logits(context) == want, "after {kv_type:?}");
        }
    }
}

#[test]
fn damaged_and_foreign_states_are_refused() {
    let model = model();
    let mut context =
        filled(&model, &prompt(70), ContextOptions { n_ctx: 100, ..Default::default() });
    let blob = context.save_sequence(0).expect("saves");
    let want = logits(&mut context);
    let mut refuse = |bytes: &[u8], what: String| {
        let error = context.load_sequence(0, bytes).expect_err(&what);
        assert!(
            matches!(error, Error::StateMismatch(_) | Error::ContextFull { .. }),
            "{what}: {error}"
        );
        assert!(logits(&mut context) == want, "{what} left the sequence");
    };
    let mut rng = fastrand::Rng::with_seed(4);
    let mut places: Vec<usize> = (0..64).collect();
    places.extend((0..200).map(|_| rng.usize(64..64 + 280)));
    places.extend((0..50).map(|_| rng.usize(344..blob.len())));
    for at in places {
        let mut bad = blob.clone();
        bad[at] ^= 1 << rng.u32(0..8);
        refuse(&bad, format!("byte {at}"));
    }
    for len in [0, 7, 8, 63, 64, 65, 1000, blob.len() - 1] {
        refuse(&blob[..len], format!("{len} bytes"));
    }
    let mut long = blob.clone();
    long.push(0);
    refuse(&long, "a byte more".into());
    let oracle = format!("{}/tests/data/oracle/tiny-b158-i2s.gguf", env!("CARGO_MANIFEST_DIR"));
    let oracle = Model::open(oracle, LoadOptions::default()).expect("loads");
    let mut foreign = Context::new(&oracle, ContextOptions::default()).expect("small");
    assert!(
        matches!(foreign.load_sequence(0, &blob), Err(Error::StateMismatch(_))),
        "another model"
    );
    let mut short =
        Context::new(&model, ContextOptions { n_ctx: 69, ..Default::default() }).expect("small");
    assert!(matches!(short.load_sequence(0, &blob), Err(Error::ContextFull { .. })), "too long");
    context.trim(Trim::Cache);
    assert!(
        matches!(context.save_sequence(0), Err(Error::InvalidState(_))),
        "nothing to save after a trim"
    );
}

#[test]
fn shifting_keeps_both_ends_and_roughly_the_logits() {
    let model = model();
    let tokens = prompt(200);
    for kv_type in [KvType::F16, KvType::I8] {
        let options = || ContextOptions { kv_type, ..ContextOptions::default() };
        let mut shifted = filled(&model, &tokens, options());
        assert!(shifted.shift(0, 10, 191).is_err(), "more than there is");
        shifted.shift(0, 10, 70).expect("shifts");
        let kept: Vec<i32> = tokens[..10].iter().chain(&tokens[80..]).copied().collect();
        assert_eq!(shifted.tokens(0).expect("there"), kept);
        shifted.eval(&[3], EvalOptions::default()).expect("fits");
        // Moved back to where they are, keys are what a rotation there would have made them, up to rounding.
        let mut fresh = filled(&model, &kept[..20], options());
        fresh.eval(&[3], EvalOptions::default()).expect("fits");
        let (a, rows) =
            (shifted.logits(0).expect("a row").to_vec(), fresh.logits(0).expect("a row"));
        assert!(a.iter().all(|x| x.is_finite()) && a != rows, "{kv_type:?}");
        // One layer's keys do not depend on the dropped tokens: with a single shared token the shift is a rotation.
        let mut one = filled(&model, &[9; 65], options());
        one.shift(0, 0, 64).expect("shifts");
        one.eval(&[3], EvalOptions::default()).expect("fits");
        let mut same = filled(&model, &[9], options());
        same.eval(&[3], EvalOptions::default()).expect("fits");
        let distance = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
        };
        let moved = one.logits(0).expect("a row").to_vec();
        assert!(distance(&moved, same.logits(0).expect("a row")) < 1.0, "{kv_type:?}");
    }
}

#[test]
fn scores_are_the_log_probabilities_of_an_eval() {
    let model = model();
    let tokens = prompt(30);
    let mut context = filled(&model, &tokens[..10], ContextOptions::default());
    let row = logits(&mut context);
    let scores = context.score(0, &tokens[10..], None).expect("scores");
    assert_eq!((scores.len(), context.tokens(0).expect("there").len()), (20, 10));
    assert!(logits(&mut context) == row, "rows stay");
    let mut plain = Context::new(&model, ContextOptions::default()).expect("small");
    plain.eval(&tokens, EvalOptions { want: Want::All, ..EvalOptions::default() }).expect("fits");
    for (i, score) in scores.iter().enumerate() {
        let row = plain.logits(9 + i).expect("kept");
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        let want = f64::from(row[tokens[10 + i] as usize] - max) - total.ln();
        assert!((f64::from(*score) - want).abs() < 1e-4, "token {i}: {score}, wanted {want}");
    }
    let mut empty = Context::new(&model, ContextOptions::default()).expect("small");
    assert_eq!(empty.score(0, &tokens, None).expect("scores").len(), 29);
}

#[test]
fn choices_are_weighed_by_their_tokens() {
    let model = model();
    let tokenizer = model.tokenizer();
    let tokens = tokenizer.encode("User: Tell me a story.", true, true, None).expect("text");
    let mut context = filled(&model, &tokens, ContextOptions::default());
    let texts = [
        " Once upon a time",
        " Purple",
        " Once",
        "zzzzqqq",
        " a",
        " b",
        " c d e f",
        " the dog",
        " Lily",
        " x y",
    ];
    let choice = context.choose(0, &texts, None).expect("chooses");
    assert!((choice.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let mut weights = Vec::new();
    for text in texts {
        let ids = tokenizer.encode(text, false, false, None).expect("text");
        weights.push(
            context
                .score(0, &ids, None)
                .expect("scores")
                .iter()
                .map(|x| f64::from(*x))
                .sum::<f64>(),
        );
    }
    let best = (0..texts.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).expect("some");
    assert_eq!(choice.index, best, "{weights:?}");
    let total: f64 = weights.iter().map(|w| w.exp()).sum();
    for (weight, p) in weights.iter().zip(&choice.probabilities) {
        assert!(
            (weight.exp() / total - f64::from(*p)).abs() < 1e-4,
            "{p}, wanted {}",
            weight.exp() / total
        );
    }
    assert!(matches!(context.choose(0, &["a", ""], None), Err(Error::InvalidArgument(_))));
    let mut empty = Context::new(&model, ContextOptions::default()).expect("small");
    assert!(matches!(empty.choose(0, &["a"], None), Err(Error::InvalidState(_))));
}

#[test]
fn embeddings_are_pooled_states_of_norm_one() {
    let model = model();
    let tokens = prompt(12);
    for pooling in [Pooling::Last, Pooling::Mean] {
        let options =
            ContextOptions { embeddings: true, pooling, n_seq_max: 2, ..ContextOptions::default() };
        let mut context = Context::new(&model, options).expect("small");
        assert!(matches!(context.embedding(0), Err(Error::InvalidState(_))), "empty");
        context
            .eval(&tokens, EvalOptions { want: Want::All, ..EvalOptions::default() })
            .expect("fits");
        let got = context.embedding(0).expect("pooled");
        let states: Vec<Vec<f32>> =
            (0..12).map(|i| context.state(i).expect("kept").to_vec()).collect();
        let mut want = states[11].clone();
        if pooling == Pooling::Mean {
            want = (0..want.len()).map(|d| states.iter().map(|state| state[d]).sum()).collect();
        }
        let norm = want.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want / norm).abs() < 1e-5, "{pooling:?}");
        }
        let blob = context.save_sequence(0).expect("saves");
        context.load_sequence(1, &blob).expect("loads");
        context.fork(0, 0).expect_err("not empty");
        assert!(context.embedding(1).expect("pooled") == got, "states are saved too");
    }
    let mut plain = filled(&model, &tokens, ContextOptions::default());
    assert!(matches!(plain.embedding(0), Err(Error::InvalidState(_))));
    plain.clear(0).expect("there");
}
