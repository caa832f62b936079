//! The sampler through its public interface: what is promised beyond llama.h's own cases.

mod llama_cpp;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tern::Error;
use tern::sampler::{Dry, Sampler};

/// Logits whose softmax is `probs`.
fn logits(probs: &[f32]) -> Vec<f32> {
    probs.iter().map(|p| p.ln()).collect()
}

fn dry(multiplier: f32, base: f32, allowed_length: i32, last_n: i32, breakers: &[&[i32]]) -> Dry {
    let breakers = breakers.iter().map(|b| b.to_vec()).collect();
    Dry { multiplier, base, allowed_length, last_n, breakers }
}

/// Adds steps to a sampler.
type Build<'a> = &'a dyn Fn(&mut Sampler) -> tern::Result<()>;

fn built(seed: u64, build: Build) -> Sampler {
    let mut sampler = Sampler::new(seed);
    build(&mut sampler).expect("valid parameters");
    sampler
}

#[test]
fn empty_chain_takes_the_best_and_the_lowest_of_equals() {
    let mut sampler = Sampler::new(1);
    assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, -1.0]).expect("a row"), 1);
    assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY, -7.0]).expect("a row"), 2);
    assert_eq!(sampler.sample(&[0.0, f32::INFINITY, f32::MAX]).expect("a row"), 1);
    assert_eq!(sampler.logprob(), 0.0);
}

#[test]
fn score_edits_alone_stay_greedy_and_truncation_draws() {
    let row = [1.0, 1.1, 0.9, 1.05];
    let mut greedy =
        built(1, &|s| s.add_penalties(8, 1.0, 0.0, 0.5)?.add_logit_bias(&[(3, 0.01)]).map(drop));
    let tokens: Vec<i32> = (0..4).map(|_| greedy.sample(&row).expect("a row")).collect();
    assert_eq!(tokens, [1, 3, 0, 2]);
    let mut drawn = built(1, &|s| s.add_top_k(4).map(drop));
    let mut seen = [0; 4];
    (0..400).for_each(|_| seen[drawn.sample(&row).expect("a row") as usize] += 1);
    assert!(seen.iter().all(|&n| n > 50), "{seen:?}");
    // A step that is switched off still asks for a draw: k 0 keeps all.
    let mut off = built(1, &|s| s.add_top_k(0).map(drop));
    let tokens: Vec<i32> = (0..40).map(|_| off.sample(&row).expect("a row")).collect();
    assert!(tokens.iter().any(|&t| t != tokens[0]));
}

#[test]
fn draws_follow_the_probabilities() {
    const N: usize = 40_000;
    let probs = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    let row = logits(&probs);
    let mut sampler = built(77, &|s| s.add_temp(1.0).map(drop));
    let mut seen = [0f64; 5];
    (0..N).for_each(|_| seen[sampler.sample(&row).expect("a row") as usize] += 1.0);
    let wanted = probs.map(|p| N as f64 * f64::from(p));
    let chi: f64 = seen.iter().zip(wanted).map(|(n, want)| (n - want) * (n - want) / want).sum();
    // Four degrees of freedom: above 23.5 once in ten thousand seeds.
    assert!(chi < 23.5, "chi squared {chi}, {seen:?}");
}

#[test]
fn parameters_are_checked_and_change_nothing_when_wrong() {
    let bad: &[Build] = &[
        &|s| s.add_logit_bias(&[(1, 0.0), (-1, 0.0)]).map(drop),
        &|s| s.add_logit_bias(&[(1, f32::NAN)]).map(drop),
        &|s| s.add_penalties(-2, 1.0, 0.0, 0.0).map(drop),
        &|s| s.add_penalties(4, 0.0, 0.0, 0.0).map(drop),
        &|s| s.add_penalties(4, f32::NAN, 0.0, 0.0).map(drop),
        &|s| s.add_penalties(4, 1.0, f32::INFINITY, 0.0).map(drop),
        &|s| s.add_penalties(4, 1.0, 0.0, f32::NAN).map(drop),
        &|s| s.add_dry(dry(-1.0, 1.0, 2, 4, &[])).map(drop),
        &|s| s.add_dry(dry(1.0, f32::NAN, 2, 4, &[])).map(drop),
        &|s| s.add_dry(dry(1.0, 1.0, -1, 4, &[])).map(drop),
        &|s| s.add_dry(dry(1.0, 1.0, 2, -2, &[])).map(drop),
        &|s| s.add_dry(dry(1.0, 1.0, 2, 4, &[&[]])).map(drop),
        &|s| s.add_top_p(-0.1, 0).map(drop),
        &|s| s.add_top_p(f32::NAN, 0).map(drop),
        &|s| s.add_min_p(f32::INFINITY, 0).map(drop),
        &|s| s.add_typical(-1.0, 0).map(drop),
        &|s| s.add_top_n_sigma(f32::NAN).map(drop),
        &|s| s.add_xtc(1.1, 0.1, 0).map(drop),
        &|s| s.add_xtc(0.5, f32::NAN, 0).map(drop),
        &|s| s.add_temp(f32::INFINITY).map(drop),
        &|s| s.add_temp_dynamic(1.0, -1.0, 1.0).map(drop),
        &|s| s.add_temp_dynamic(1.0, 1.0, f32::NAN).map(drop),
        &|s| s.add_mirostat_v2(-1.0, 0.1).map(drop),
        &|s| s.add_mirostat_v2(1.0, f32::INFINITY).map(drop),
        &|s| s.accept(-1),
    ];
    let mut s = Sampler::new(0);
    let before = format!("{s:?}");
    for (i, build) in bad.iter().enumerate() {
        let result = build(&mut s);
        assert!(matches!(result, Err(Error::InvalidArgument(_))), "case {i}: {result:?}");
    }
    assert_eq!(format!("{s:?}"), before);
    for _ in 0..256 {
        s.add_top_k(1).expect("room for 256");
    }
    assert!(matches!(s.add_top_k(1), Err(Error::InvalidArgument(_))));
}

#[test]
fn failed_samples_leave_the_sampler_as_it_was() {
    let row = [0.0, 0.1, 0.2, 0.3];
    let broken = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&broken);
    let custom = Arc::new(move |logits: &mut [f32]| {
        if switch.load(Ordering::Relaxed) == 1 {
            logits.fill(f32::NAN);
        }
    });
    let mut a = built(3, &|s| {
        s.add_penalties(-1, 1.1, 0.1, 0.1)?.add_xtc(0.5, 0.1, 1)?.add_mirostat_v2(1.5, 0.1)?;
        s.add_custom(custom.clone()).map(drop)
    });
    a.sample(&row).expect("a row");
    let mut b = a.clone();
    for bad in [&[][..], &[f32::NAN; 4], &[f32::NEG_INFINITY; 4]] {
        let error = a.sample(bad).expect_err("no number");
        assert!(matches!(error, Error::BadModel { .. } | Error::InvalidArgument(_)), "{error}");
    }
    broken.store(1, Ordering::Relaxed);
    assert!(matches!(a.sample(&row), Err(Error::Grammar(_))));
    broken.store(0, Ordering::Relaxed);
    for i in 0..50 {
        assert_eq!(a.sample(&row).expect("a row"), b.sample(&row).expect("a row"), "choice {i}");
    }
    let mut far = built(0, &|s| s.add_logit_bias(&[(4, 1.0)]).map(drop));
    assert!(matches!(far.sample(&row), Err(Error::InvalidArgument(_))));
    let all = [0, 1, 2, 3].map(|id| (id, f32::NEG_INFINITY));
    let mut banned = built(0, &|s| s.add_logit_bias(&all).map(drop));
    assert!(matches!(banned.sample(&row), Err(Error::Grammar(_))));
}

#[test]
fn bias_works_on_the_whole_vocabulary_whatever_the_order() {
    let bias = [(2, f32::INFINITY), (0, f32::NEG_INFINITY)];
    let mut s = built(0, &|s| s.add_top_k(1)?.add_logit_bias(&bias).map(drop));
    assert_eq!(s.sample(&[9.0, 8.0, -9.0]).expect("a row"), 2);
}

#[test]
fn tiny_temperatures_are_greedy_and_never_nan() {
    for t in [f32::MIN_POSITIVE, 1e-45, 1e-30, f32::MAX] {
        let mut s = built(5, &|s| s.add_temp(t).map(drop));
        for _ in 0..20 {
            let token = s.sample(&[1e30, 1.0001e30, f32::NAN, -1e30]).expect("a row");
            assert!(t == f32::MAX || token == 1, "t {t}: {token}");
            assert_ne!(token, 2);
        }
    }
}

#[test]
fn mirostat_holds_the_surprise_near_its_target() {
    const N: usize = 3000;
    let row: Vec<f32> = (1..2000).map(|rank| -(rank as f32).ln()).collect();
    for tau in [2.0, 4.0, 6.0] {
        let mut s = built(8, &|s| s.add_mirostat_v2(tau, 0.1).map(drop));
        let mut sum = 0.0;
        for _ in 0..N {
            s.sample(&row).expect("a row");
            sum -= f64::from(s.logprob()) * std::f64::consts::LOG2_E;
        }
        let mean = sum / N as f64;
        assert!((mean - f64::from(tau)).abs() < 0.1, "tau {tau}: {mean}");
    }
}

#[test]
fn custom_steps_see_a_whole_row_and_are_released_with_the_last_clone() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let released = Arc::new(AtomicUsize::new(0));
    let guard = Guard(Arc::clone(&released));
    let mut a = built(0, &|s| s.add_top_k(2).map(drop));
    a.add_custom(Arc::new(move |logits: &mut [f32]| {
        let _held = &guard;
        assert_eq!(logits, [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY, 2.0]);
        logits.copy_from_slice(&[99.0, f32::NEG_INFINITY, 99.0, 0.0]);
    }))
    .expect("valid");
    let mut b = a.clone();
    drop(a);
    assert_eq!(b.sample(&[1.0, 3.0, 0.0, 2.0]).expect("a row"), 3);
    assert_eq!(released.load(Ordering::Relaxed), 0);
    drop(b);
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

/// Every step at once.
fn full_chain(seed: u64) -> Sampler {
    built(seed, &|s| {
        s.add_logit_bias(&[(3, 0.7), (9, f32::NEG_INFINITY)])?.add_penalties(32, 1.2, 0.05, 0.1)?;
        s.add_dry(dry(0.8, 1.75, 2, -1, &[&[5]]))?.add_top_k(200)?.add_typical(0.98, 2)?;
        s.add_top_n_sigma(2.5)?.add_top_p(0.97, 2)?.add_min_p(0.01, 2)?.add_xtc(0.3, 0.08, 1)?;
        s.add_temp_dynamic(0.9, 0.3, 1.1)?.add_mirostat_v2(6.0, 0.1).map(drop)
    })
}

/// A row with few distinct logits, so that ties are common.
fn noise(rng: &mut fastrand::Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| (rng.f32() * 160.0).round() / 16.0 - 5.0).collect()
}

#[test]
fn same_seed_same_tokens_on_every_system() {
    let mut rng = fastrand::Rng::with_seed(21);
    let rows: Vec<Vec<f32>> = (0..64).map(|_| noise(&mut rng, 3000)).collect();
    let run = |s: &mut Sampler| -> Vec<i32> {
        rows.iter().map(|row| s.sample(row).expect("a row")).collect()
    };
    let mut s = full_chain(0x5eed);
    let tokens = run(&mut s);
    // Computed once on x86-64; other systems must agree to the token.
    let hash = tokens
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, &t| (h ^ t as u64).wrapping_mul(0x100_0000_01b3));
    assert_eq!(hash, PINNED, "{hash:#x}: {tokens:?}");
    s.reset();
    assert_eq!(run(&mut s), tokens);
    assert_ne!(run(&mut full_chain(0x5eee)), tokens);
}
const PINNED: u64 = 0x5e97_42e5_7a78_b966;

/// What a head with screening may give: the best `k` and the exact ids, and no more.
fn screened(s: &mut Sampler, row: &[f32]) -> Option<i32> {
    let screen = s.screen().expect("no grammar")?;
    let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    let mut best: Vec<(i32, f32)> = (0..).zip(row.iter().copied()).collect();
    best.sort_by(|a, b| key(b.1).partial_cmp(&key(a.1)).expect("not NaN").then(a.0.cmp(&b.0)));
    best.truncate(screen.k);
    best.extend(screen.exact.iter().map(|&id| (id, row[id as usize])));
    s.sample_screened(&best, row.len()).expect("a row")
}

#[test]
fn sampling_from_screened_logits_equals_sampling_from_the_row() {
    let mut rng = fastrand::Rng::with_seed(22);
    let edits: Build = &|s| {
        s.add_logit_bias(&[(0, -2.0), (7, 40.0), (8, 40.0)])?;
        s.add_dry(dry(2.0, 2.0, 1, 64, &[]))?.add_top_k(3).map(drop)
    };
    let chains = [
        Sampler::new(4),
        Sampler::recommended(4),
        full_chain(4),
        built(4, &|s| s.add_temp(0.0).map(drop)),
        built(4, &|s| s.add_penalties(16, 1.3, 0.2, 0.2).map(drop)),
        built(4, edits),
    ];
    for (i, mut a) in chains.into_iter().enumerate() {
        let mut b = a.clone();
        for step in 0..200 {
            let row = noise(&mut rng, 500);
            let want = a.sample(&row).expect("a row");
            assert_eq!(screened(&mut b, &row), Some(want), "chain {i}, choice {step}");
        }
    }
}

#[test]
fn chains_that_need_every_logit_are_not_screened() {
    let chains: &[Build] = &[
        &|s| s.add_temp(0.8).map(drop),
        &|s| s.add_top_p(0.9, 1).map(drop),
        &|s| s.add_min_p(0.1, 1)?.add_top_k(4).map(drop),
        &|s| s.add_temp(0.8)?.add_top_k(4).map(drop),
        &|s| s.add_top_k(0).map(drop),
        &|s| s.add_custom(Arc::new(|_: &mut [f32]| {}))?.add_top_k(4).map(drop),
        &|s| s.add_top_k(5000).map(drop),
    ];
    for build in chains {
        let mut s = built(0, build);
        assert_eq!(s.screen().expect("no grammar"), None);
    }
}

#[test]
fn screened_rows_without_a_number_go_back_to_the_whole_row() {
    let mut s = Sampler::new(0);
    assert_eq!(
        s.sample_screened(&[(1, f32::NAN), (0, f32::NEG_INFINITY)], 4).expect("no error"),
        None
    );
    assert!(matches!(s.sample_screened(&[(4, 0.0)], 4), Err(Error::InvalidArgument(_))));
    assert!(matches!(s.sample_screened(&[(-1, 0.0)], 4), Err(Error::InvalidArgument(_))));
}

#[test]
fn random_rows_with_every_oddity_never_panic() {
    let mut rng = fastrand::Rng::with_seed(23);
    let odd = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        -0.0,
        0.0,
        1e-45,
        1.0,
    ];
    for round in 0..300 {
        let mut s = if round % 2 == 0 { full_chain(round) } else { Sampler::recommended(round) };
        for _ in 0..4 {
            let n = rng.usize(10..40);
            let row: Vec<f32> = (0..n).map(|_| odd[rng.usize(..odd.len())]).collect();
            let alive = |i: usize| row[i] > f32::NEG_INFINITY;
            match s.sample(&row) {
                Ok(token) => assert!(alive(token as usize), "{row:?}: {token}"),
                Err(Error::BadModel { .. }) => assert!(!(0..n).any(alive), "{row:?}"),
                // Token 9 is banned by the full chain.
                Err(Error::Grammar(_)) => assert!((0..n).filter(|&i| alive(i)).eq([9]), "{row:?}"),
                Err(other) => panic!("{row:?}: {other}"),
            }
        }
    }
}
