//! The cases of llama.cpp's tests/test-sampling.cpp, so that a chain tuned there means the same here.

use crate::{Build, built, dry, logits};
use tern::sampler::{Candidates, Dry, Sampler};

/// Runs a chain over `probs` after accepting `history`; the probabilities left, in list order.
fn after(probs: &[f32], history: &[i32], normalise: bool, build: Build) -> Vec<f64> {
    let mut sampler = built(0, build);
    history.iter().for_each(|&token| sampler.accept(token).expect("a token"));
    let mut list = Candidates::from_logits(&logits(probs));
    sampler.apply(&mut list).expect("applies");
    if normalise {
        list.softmax();
    }
    list.as_slice().iter().map(|c| c.p).collect()
}

fn check(name: &str, got: &[f64], want: &[f32]) {
    let close = got.len() == want.len()
        && got.iter().zip(want).all(|(g, w)| (g - f64::from(*w)).abs() < 1e-5);
    assert!(close, "{name}: {got:?}, want {want:?}");
}

const RISING: [f32; 4] = [0.1, 0.2, 0.3, 0.4];
const FALLING: [f32; 4] = [0.4, 0.3, 0.2, 0.1];
const EVEN: [f32; 5] = [0.2; 5];

#[test]
fn truncations_agree_with_llama_cpp() {
    let cases: &[(&str, Build, &[f32])] = &[
        ("temp 1", &|s| s.add_temp(1.0).map(drop), &RISING),
        ("temp 0", &|s| s.add_temp(0.0).map(drop), &[0.0, 0.0, 0.0, 1.0]),
        ("temp_dynamic 1 0 1", &|s| s.add_temp_dynamic(1.0, 0.0, 1.0).map(drop), &RISING),
        (
            "temp_dynamic 0 0 1",
            &|s| s.add_temp_dynamic(0.0, 0.0, 1.0).map(drop),
            &[0.0, 0.0, 0.0, 1.0],
        ),
        ("top_k 1", &|s| s.add_top_k(1).map(drop), &[1.0]),
        ("top_k 3", &|s| s.add_top_k(3).map(drop), &[0.44444, 0.33333, 0.22222]),
        ("top_k 4", &|s| s.add_top_k(4).map(drop), &FALLING),
        ("top_k 0", &|s| s.add_top_k(0).map(drop), &RISING),
        ("top_p 0", &|s| s.add_top_p(0.0, 0).map(drop), &[1.0]),
        ("top_p 0.7", &|s| s.add_top_p(0.7, 0).map(drop), &[0.571429, 0.428571]),
        ("top_p 0.8", &|s| s.add_top_p(0.8, 0).map(drop), &[0.44444, 0.33333, 0.22222]),
        ("top_p 1", &|s| s.add_top_p(1.0, 0).map(drop), &RISING),
        ("min_p 0", &|s| s.add_min_p(0.0, 0).map(drop), &RISING),
        ("min_p 0.24", &|s| s.add_min_p(0.24, 0).map(drop), &RISING),
        ("min_p 0.26", &|s| s.add_min_p(0.26, 0).map(drop), &[0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        ("min_p 0.49", &|s| s.add_min_p(0.49, 0).map(drop), &[0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        ("min_p 0.51", &|s| s.add_min_p(0.51, 0).map(drop), &[0.3 / 0.7, 0.4 / 0.7]),
        ("min_p 0.74", &|s| s.add_min_p(0.74, 0).map(drop), &[0.3 / 0.7, 0.4 / 0.7]),
        ("min_p 0.76", &|s| s.add_min_p(0.76, 0).map(drop), &[1.0]),
        ("min_p 1", &|s| s.add_min_p(1.0, 0).map(drop), &[1.0]),
        ("min_p 1.05", &|s| s.add_min_p(1.05, 0).map(drop), &[1.0]),
        ("top_n_sigma 1", &|s| s.add_top_n_sigma(1.0).map(drop), &[0.0, 0.0, 0.428571, 0.571429]),
        ("top_n_sigma 0", &|s| s.add_top_n_sigma(0.0).map(drop), &RISING),
        ("top_n_sigma 3", &|s| s.add_top_n_sigma(3.0).map(drop), &RISING),
    ];
    for (name, build, want) in cases {
        check(name, &after(&RISING, &[], true, build), want);
    }
    // These two are read as the step left them, without a softmax after it.
    // XTC is certain here; llama.cpp's 0.99 leaves it to its seed.
    for (threshold, left) in [(0.09, 1), (0.19, 2), (0.29, 3), (0.39, 4)] {
        let got = after(&FALLING, &[], false, &|s| s.add_xtc(1.0, threshold, 0).map(drop));
        check(&format!("xtc {threshold}"), &got, &FALLING[4 - left..]);
    }
    check("xtc off", &after(&FALLING, &[], true, &|s| s.add_xtc(0.0, 0.09, 0).map(drop)), &FALLING);
    let typical: Build = &|s| s.add_typical(0.5, 0).map(drop);
    check("typical", &after(&[0.97, 0.01, 0.01, 0.01], &[], false, typical), &[0.97]);
    check("typical", &after(&[0.4, 0.2, 0.2, 0.2], &[], false, typical), &[0.2, 0.2, 0.2]);
}

#[test]
fn penalties_agree_with_llama_cpp() {
    let cases: &[(&[i32], [f32; 3], [f32; 5])] = &[
        (&[0], [50.0, 0.0, 0.0], [0.0, 0.25, 0.25, 0.25, 0.25]),
        (&[0, 1, 2], [50.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5]),
        (&[0, 1, 2, 0, 0], [50.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5]),
        (&[0], [1.0, 5.0, 5.0], [0.000011, 0.249997, 0.249997, 0.249997, 0.249997]),
        (&[0, 1, 2], [1.0, 5.0, 5.0], [0.000023, 0.000023, 0.000023, 0.499966, 0.499966]),
        (&[0, 1, 2, 0, 0], [1.0, 5.0, 5.0], [0.0, 0.000023, 0.000023, 0.499977, 0.499977]),
    ];
    for (history, [repeat, freq, present], want) in cases {
        let last_n = history.len() as i32;
        let got = after(&EVEN, history, true, &|s| {
            s.add_penalties(last_n, *repeat, *freq, *present).map(drop)
        });
        check(&format!("{history:?} {repeat} {freq} {present}"), &got, want);
    }
    let quarter = [0.25; 4];
    type Case<'a> = (&'a [f32], &'a [i32], Dry, &'a [f32]);
    let cases: &[Case] = &[
        (&quarter, &[0, 1], dry(1.0, 1.1, 2, 4, &[]), &quarter),
        (
            &quarter,
            &[0, 1, 2, 0, 1],
            dry(1.0, 1.1, 2, 5, &[]),
            &[0.296923, 0.296923, 0.109232, 0.296923],
        ),
        (&EVEN, &[0, 1, 3, 4, 0, 1], dry(1.0, 1.1, 2, 6, &[&[3]]), &EVEN),
        (
            &EVEN,
            &[0, 1, 2, 0, 1],
            dry(2.0, 1.1, 2, 5, &[]),
            &[0.241818, 0.241818, 0.032727, 0.241818, 0.241818],
        ),
        (&EVEN, &[0, 1, 2, 3, 4, 0, 1], dry(1.0, 1.1, 4, 7, &[]), &EVEN),
    ];
    for (probs, history, dry, want) in cases {
        let got = after(probs, history, true, &|s| s.add_dry(dry.clone()).map(drop));
        check(&format!("{history:?} {dry:?}"), &got, want);
    }
}

/// Ten thousand tokens, token i with probability proportional to i, through chains of truncations.
#[test]
fn chains_agree_with_llama_cpp() {
    const N: usize = 10_000;
    let cases = [
        ("k", 10000, 1.0, 1.0),
        ("k", 1, 1.0, 1.0),
        ("p", 10000, 1.0, 1.0),
        ("p", 10000, 0.0, 1.0),
        ("m", 10000, 1.0, 1.0),
        ("m", 10000, 1.0, 1e-12),
        ("k", 100, 1.0, 1.0),
        ("p", 10000, 0.0003, 1.0),
        ("p", 10000, 0.8, 1.0),
        ("m", 10000, 1.0, 9997.9 / 9999.0),
        ("m", 10000, 1.0, 0.1),
        ("kp", 100, 0.8, 0.1),
        ("km", 100, 0.8, 0.1),
        ("pk", 100, 0.8, 0.1),
        ("pm", 100, 0.8, 0.1),
        ("mk", 100, 0.8, 0.1),
        ("mp", 100, 0.8, 9997.9 / 9999.0),
        ("mp", 100, 0.8, 0.1),
        ("kpm", 100, 0.8, 0.1),
        ("kmp", 100, 0.8, 0.1),
        ("pkm", 100, 0.8, 0.1),
        ("pmk", 100, 0.8, 0.1),
        ("mkp", 100, 0.8, 0.1),
        ("mpk", 100, 0.8, 0.1),
    ];
    let row: Vec<f32> = (0..N).map(|id| (id as f32).ln()).collect();
    for (chain, k, p, min_p) in cases {
        let mut list = Candidates::from_logits(&row);
        // The lowest id that should be left; all above it are.
        let mut lowest = 0usize;
        for step in chain.chars() {
            let mut sampler = Sampler::new(0);
            match step {
                'k' => {
                    sampler.add_top_k(k).expect("valid");
                    lowest = lowest.max(N - k as usize);
                }
                'p' => {
                    sampler.add_top_p(p, 1).expect("valid");
                    if p < 1.0 {
                        let total = (N * (N - 1) - lowest * lowest.saturating_sub(1)) / 2;
                        let target = (p * total as f32).ceil() as usize;
                        let (mut sum, mut id) = (0, N);
                        while sum < target || id == N {
                            id -= 1;
                            sum += id;
                        }
                        lowest = id;
                    }
                }
                _ => {
                    sampler.add_min_p(min_p, 1).expect("valid");
                    // Token 0 has probability 0.
                    lowest = lowest.max(((min_p * N as f32).floor() as usize).clamp(1, N - 1));
                }
            }
            sampler.apply(&mut list).expect("applies");
            let mut ids: Vec<usize> = list.as_slice().iter().map(|c| c.id as usize).collect();
            ids.sort_unstable();
            let as_wanted = ids.iter().copied().eq(lowest..N);
            let (len, first) = (ids.len(), ids.first());
            assert!(
                as_wanted,
                "{chain} at {step}, k {k}, p {p}, min_p {min_p}: {len} left from {first:?}, want {lowest}"
            );
        }
    }
}
