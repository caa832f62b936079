//! The made-up models that benchmarks and other tests stand on are what they claim to be.

mod common;

use common::tiny::{self, Plan, Vocabulary};
use std::{collections::HashMap, sync::Arc};
use tern::{
    file::{Gguf, Source},
    tensor::{DType, TensorInfo},
};

fn parse(plan: &Plan) -> Gguf {
    Gguf::parse(Arc::new(Source::from_memory(tiny::bytes(plan)))).unwrap()
}

/// The trits of a tensor, by the formulas of the formats rather than by blocks.
fn trits(tensor: &TensorInfo, bytes: &[u8]) -> Vec<i8> {
    let digit = |byte: u8, n: usize| {
        let shifted = (usize::from(byte) * 3usize.pow(n as u32)) & 255;
        ((shifted * 3) >> 8) as i8
    };
    (0..tensor.shape.elements() as usize)
        .map(|e| match tensor.dtype {
            DType::I2_S => (bytes[e / 128 * 32 + e % 32] >> (6 - 2 * (e % 128 / 32)) & 3) as i8 - 1,
            DType::TQ2_0 => {
                let (block, r) = (&bytes[e / 256 * 66..], e % 256);
                (block[r / 128 * 32 + r % 32] >> (2 * (r % 128 / 32)) & 3) as i8 - 1
            }
            _ => {
                let (block, r) = (&bytes[e / 256 * 54..], e % 256);
                let digit = match r {
                    0..160 => digit(block[r % 32], r / 32),
                    160..240 => digit(block[32 + (r - 160) % 16], (r - 160) / 16),
                    _ => digit(block[48 + (r - 240) % 4], (r - 240) / 4),
                };
                digit - 1
            }
        })
        .collect()
}

#[test]
fn every_ternary_form_holds_the_same_trits() {
    let decoded = [DType::I2_S, DType::TQ1_0, DType::TQ2_0].map(|ternary| {
        let gguf = parse(&Plan { ternary, ..Plan::default() });
        let tensor = gguf.tensor("blk.1.ffn_gate.weight").unwrap();
        assert_eq!(tensor.dtype, ternary);
        trits(tensor, &gguf.tensor_bytes(tensor).unwrap())
    });
    assert_eq!(decoded[0], decoded[1]);
    assert_eq!(decoded[0], decoded[2]);
    let share = |trit: i8| {
        decoded[0].iter().filter(|t| **t == trit).count() as f64 / decoded[0].len() as f64
    };
    // 131072 draws: three deviations are 0.4 %.
    for (trit, want) in [(-1, 0.29), (0, 0.42), (1, 0.29)] {
        assert!((share(trit) - want).abs() < 0.005, "trit {trit}: share {}", share(trit));
    }
}

#[test]
fn a_density_lowers_gates_by_a_steady_stream_and_makes_inputs_loud() {
    let plan = Plan { density: Some([0.68, 0.82]), layers: 3, ..Plan::default() };
    let gguf = parse(&plan);
    let tensor = |name: &str| gguf.tensor(name).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let bytes = gguf.tensor_bytes(tensor(name)).unwrap();
        bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
    };
    let rows = |name: &str| -> Vec<Vec<i8>> {
        let tensor = tensor(name);
        let trits = trits(tensor, &gguf.tensor_bytes(tensor).unwrap());
        trits.chunks_exact(tensor.shape.columns() as usize).map(<[i8]>::to_vec).collect()
    };
    let mut gain = 0.0;
    for layer in 0..3 {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        assert!(rows(&name("ffn_gate")).iter().all(|row| row[..32].iter().all(|t| *t == -1)));
        for part in ["ffn_down", "attn_output"] {
            let steady =
                rows(&name(part)).iter().take_while(|row| row.iter().all(|t| *t == 0)).count();
            assert_eq!(steady, 32, "{part}");
        }
        let gains = floats(&name("ffn_norm"));
        assert!(
            gains[..32].iter().all(|g| *g == gains[0]) && gains[32..].iter().all(|g| *g == 1.0)
        );
        assert!(
            gains[0] > gain,
            "the stream grows, and so must what is steady in it: {}",
            gains[0]
        );
        gain = gains[0];
        let loud = floats(&name("ffn_sub_norm"));
        assert!(loud.iter().enumerate().all(|(i, g)| (*g > 1.0) == (i % 8 == 0)), "{loud:?}");
    }
    let embedding = gguf.tensor_bytes(tensor("token_embd.weight")).unwrap().into_owned();
    let tenth = half::f16::from_f32(0.1).to_le_bytes();
    assert!(embedding.chunks_exact(512).all(|row| row[..64].chunks_exact(2).all(|x| x == tenth)));
}

#[test]
fn every_embedding_form_is_near_the_floats() {
    let of = |embedding: DType| {
        let gguf = parse(&Plan { embedding, ..Plan::default() });
        let tensor = gguf.tensor("token_embd.weight").unwrap();
        gguf.tensor_bytes(tensor).unwrap().into_owned()
    };
    let f16 = |bytes: &[u8]| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    let exact: Vec<f32> =
        of(DType::F32).chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    let deviation = (exact.iter().map(|x| x * x).sum::<f32>() / exact.len() as f32).sqrt();
    assert!((deviation - 0.1).abs() < 0.001, "deviation {deviation}");

    let halves: Vec<f32> = of(DType::F16).chunks_exact(2).map(f16).collect();
    let brains: Vec<f32> = of(DType::BF16)
        .chunks_exact(2)
        .map(|x| half::bf16::from_le_bytes([x[0], x[1]]).to_f32())
        .collect();
    let bytes = of(DType::Q8_0);
    let eighths: Vec<f32> = bytes
        .chunks_exact(34)
        .flat_map(|b| b[2..].iter().map(|q| f16(b) * f32::from(*q as i8)))
        .collect();
    let bytes = of(DType::Q6_K);
    let sixths: Vec<f32> = bytes
        .chunks_exact(210)
        .flat_map(|b| {
            (0..256).map(move |e| {
                let (half, quarter, l) = (e / 128, e % 128 / 32, e % 32);
                let low = b[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let high = b[128 + 32 * half + l] >> (2 * quarter) & 3;
                let scale = f32::from(b[192 + e / 16] as i8);
                f16(&b[208..]) * scale * f32::from((low | high << 4) as i8 - 32)
            })
        })
        .collect();
    // The largest value is 0.35: half a step of each form, and the rounding of its scales.
    for (name, values, most) in [
        ("F16", halves, 1.3e-4),
        ("BF16", brains, 1.1e-3),
        ("Q8_0", eighths, 1.6e-3),
        ("Q6_K", sixths, 8e-3),
    ] {
        assert_eq!(values.len(), exact.len(), "{name}");
        let worst = values.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < most, "{name}: off by {worst}");
    }
}

#[test]
fn the_twin_has_the_official_size_and_counts() {
    let vocabulary = Vocabulary::made_up(128_256);
    let second = Plan::official(2).header(&vocabulary).unwrap();
    assert_eq!(second.lengths(), (8_351_360, 1_187_801_280));
    assert_eq!(second.tensors().len(), 332);
    let first = Plan::official(1).header(&vocabulary).unwrap();
    let of = |kind: DType| first.tensors().iter().filter(|tensor| tensor.dtype == kind).count();
    assert_eq!((of(DType::F32), of(DType::F16), of(DType::I2_S)), (121, 2, 210));
}

#[test]
fn a_made_up_vocabulary_is_consistent() {
    for size in [259, 260, 512, 1000, 3000, 32_000, 128_256] {
        let vocabulary = Vocabulary::made_up(size);
        let texts: Vec<String> = vocabulary.texts().collect();
        let ids: HashMap<&str, usize> =
            texts.iter().enumerate().map(|(id, text)| (&text[..], id)).collect();
        assert_eq!((texts.len(), ids.len()), (size, size), "a text is there twice");
        let mut made = vec![false; size];
        for merge in vocabulary.merges() {
            let (left, right) = merge.split_once(' ').unwrap();
            let id = ids[format!("{left}{right}").as_str()];
            assert!(ids[left] < id && ids[right] < id, "size {size}: {merge}");
            made[id] = true;
        }
        let specials = vocabulary.types().filter(|kind| *kind == 3).count();
        assert!(
            made[256..size - specials].iter().all(|made| *made),
            "size {size}: a token has no merge"
        );
        for name in ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"] {
            assert_eq!(texts[vocabulary.special(name).unwrap() as usize], name);
        }
    }
    let large = Vocabulary::made_up(128_256);
    assert_eq!(large.merges().len(), 280_147);
    assert_eq!(large.special("<|eot_id|>"), Some(128_009));
}

#[test]
fn ranks_become_tokens_and_merges() {
    // "a", "b", " ", "ab", " ab"
    let text = "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\nIGFi 4\n";
    let vocabulary = Vocabulary::from_ranks(text).unwrap();
    assert_eq!(vocabulary.texts().take(5).collect::<Vec<_>>(), ["a", "b", "Ġ", "ab", "Ġab"]);
    assert_eq!(vocabulary.merges().collect::<Vec<_>>(), ["a b", "Ġ ab"]);
    assert!(Vocabulary::from_ranks("YQ== 1\n").is_err());
    assert!(Vocabulary::from_ranks("Y!== 0\n").is_err());
}
