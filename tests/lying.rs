//! Well-formed files whose keys, tensors or weights contradict each other, or make no sense.

mod common;

use common::tiny::{self, Plan};
use std::sync::Arc;
use tern::{
    Error,
    file::{Gguf, Source, Value},
    model::{LoadOptions, Model},
    tensor::DType,
};

fn load(bytes: Vec<u8>) -> Result<Model, Error> {
    Model::from_source(Source::from_memory(bytes), LoadOptions::default())
}

/// Refused as a model, with a message that names the culprit.
fn refused(case: &str, bytes: Vec<u8>, want: &str) {
    let error = match load(bytes) {
        Ok(_) => panic!("{case}: loads"),
        Err(error) => error,
    };
    let kind = matches!(error, Error::BadModel { .. } | Error::UnsupportedModel { .. });
    assert!(kind && error.to_string().contains(want), "{case}: {error}\nwanted: {want}");
}

fn with(key: &'static str, value: Value<'static>) -> Vec<u8> {
    tiny::bytes(&Plan { extra: vec![(key, value)], ..Plan::default() })
}

#[test]
fn plans_as_they_are_load() {
    let embeddings = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q6_K];
    for ternary in [DType::I2_S, DType::TQ1_0, DType::TQ2_0] {
        for embedding in embeddings {
            for untied in [false, true] {
                let plan = Plan { ternary, embedding, untied, ..Plan::default() };
                load(tiny::bytes(&plan)).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            }
        }
    }
    for arch in ["bitnet-25", "bitnet"] {
        load(tiny::bytes(&Plan { arch, ..Plan::default() })).unwrap();
    }
}

#[test]
fn senseless_sizes_are_refused() {
    let string = Value::String(b"4");
    let wide = Value::U64(1 << 40);
    for (key, values) in [
        (
            "bitnet-b1.58.attention.head_count",
            vec![Value::U32(0), Value::U32(3), string, Value::I32(-4), wide],
        ),
        (
            "bitnet-b1.58.attention.head_count_kv",
            vec![Value::U32(0), Value::U32(3), Value::U32(8), string],
        ),
        (
            "bitnet-b1.58.rope.dimension_count",
            vec![Value::U32(0), Value::U32(63), Value::U32(66), Value::U32(1 << 31)],
        ),
        (
            "bitnet-b1.58.block_count",
            vec![Value::U32(0), Value::U32(3), Value::U32(1 << 31), wide, string],
        ),
        (
            "bitnet-b1.58.embedding_length",
            vec![Value::U32(0), Value::U32(128), Value::U32(512), Value::U32(u32::MAX)],
        ),
        (
            "bitnet-b1.58.feed_forward_length",
            vec![Value::U32(0), Value::U32(256), Value::U32(u32::MAX), string],
        ),
        ("bitnet-b1.58.context_length", vec![Value::U32(0), Value::U32(u32::MAX), string]),
        (
            "bitnet-b1.58.attention.layer_norm_rms_epsilon",
            [0.0, -1e-5, f32::NAN, f32::INFINITY].map(Value::F32).into(),
        ),
        (
            "bitnet-b1.58.rope.freq_base",
            [0.0, -1.0, f32::NAN, f32::INFINITY].map(Value::F32).into(),
        ),
        ("general.architecture", vec![Value::String(b"gpt5"), Value::String(b""), Value::U32(1)]),
    ] {
        for value in values {
            let name = key.trim_start_matches("bitnet-b1.58.");
            // Sizes that contradict a tensor are blamed on the tensor.
            let want = if ["block_count", "embedding_length", "feed_forward_length"].contains(&name)
            {
                ""
            } else {
                name
            };
            refused(&format!("{key} = {value:?}"), with(key, value), want);
        }
    }
    // Any integer type that fits is a size.
    load(with("bitnet-b1.58.attention.head_count", Value::I64(4))).unwrap();
    load(with("bitnet-b1.58.attention.head_count", Value::U8(4))).unwrap();
}

#[test]
fn missing_keys_and_tensors_are_named() {
    for key in [
        "general.architecture",
        "bitnet-b1.58.embedding_length",
        "bitnet-b1.58.block_count",
        "bitnet-b1.58.feed_forward_length",
        "bitnet-b1.58.attention.head_count",
        "bitnet-b1.58.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_k.weight",
        "blk.0.attn_v.weight",
        "blk.1.attn_output.weight",
        "blk.1.attn_sub_norm.weight",
        "blk.0.ffn_norm.weight",
        "blk.0.ffn_gate.weight",
        "blk.1.ffn_up.weight",
        "blk.0.ffn_sub_norm.weight",
        "blk.1.ffn_down.weight",
    ] {
        let bytes = tiny::bytes(&Plan { omit: vec![key], ..Plan::default() });
        refused(&format!("without {key}"), bytes, key);
    }
}

#[test]
fn contradictory_tokenizers_are_refused() {
    for key in ["bos_token_id", "eos_token_id", "eot_token_id"] {
        for id in [512, u32::MAX] {
            let key: &'static str = format!("tokenizer.ggml.{key}").leak();
            refused(&format!("{key} = {id}"), with(key, Value::U32(id)), key);
        }
    }
    for size in [0, 511, 513] {
        let key = "bitnet-b1.58.vocab_size";
        refused(&format!("{key} = {size}"), with(key, Value::U32(size)), key);
    }
    let plan = Plan { vocab: 512, ..Plan::default() };
    refused("511 tokens, 512 rows", tiny::bytes_with(&plan, 511), "tokenizer.ggml.tokens");
    refused("513 tokens, 512 rows", tiny::bytes_with(&plan, 513), "tokenizer.ggml.tokens");
    refused("model", with("tokenizer.ggml.model", Value::String(b"wordpiece")), "'wordpiece'");
    refused("split", with("tokenizer.ggml.pre", Value::String(b"unheard-of")), "'unheard-of'");
    for (key, value) in [
        ("tokenizer.ggml.model", Value::U32(1)),
        ("tokenizer.ggml.tokens", Value::U32(1)),
        ("tokenizer.ggml.token_type", Value::String(b"")),
        ("tokenizer.ggml.merges", Value::F64(1.0)),
    ] {
        refused(&format!("{key} = {value:?}"), with(key, value), key);
    }
}

/// The default model with some bytes of a tensor replaced.
fn spoiled(plan: &Plan, tensor: &str, at: i64, bytes: &[u8]) -> Vec<u8> {
    let mut file = tiny::bytes(plan);
    let gguf = Gguf::parse(Arc::new(Source::copy(&file).unwrap())).unwrap();
    let range = gguf.tensor(tensor).unwrap().range();
    let start = if at < 0 { range.end as i64 + at } else { range.start as i64 + at } as usize;
    file[start..start + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn weights_that_are_none_are_refused() {
    let of = |ternary| Plan { ternary, ..Plan::default() };
    for at in [0, 17, 4095] {
        let bytes = spoiled(&of(DType::I2_S), "blk.1.attn_q.weight", at, &[0b0111_0101]);
        refused(&format!("code 3 in byte {at}"), bytes, "blk.1.attn_q.weight");
        let bytes = spoiled(&of(DType::TQ2_0), "blk.1.attn_q.weight", at / 66 * 66, &[0b0111_0101]);
        refused(&format!("TQ2_0 code 3 in byte {at}"), bytes, "blk.1.attn_q.weight");
    }
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bytes = spoiled(&of(DType::I2_S), "blk.0.ffn_up.weight", -32, &scale.to_le_bytes());
        refused(&format!("I2_S scale {scale}"), bytes, "blk.0.ffn_up.weight");
        let half = half::f16::from_f32(scale).to_le_bytes();
        for (ternary, block) in [(DType::TQ1_0, 54), (DType::TQ2_0, 66)] {
            let bytes = spoiled(&of(ternary), "blk.0.ffn_up.weight", 5 * block - 2, &half);
            refused(&format!("{ternary} scale {scale}"), bytes, "blk.0.ffn_up.weight");
        }
    }
    for norm in ["blk.0.attn_norm.weight", "blk.1.ffn_sub_norm.weight", "output_norm.weight"] {
        for value in [f32::NAN, f32::INFINITY] {
            refused(norm, spoiled(&Plan::default(), norm, 40, &value.to_le_bytes()), norm);
        }
    }
    // The tail after an I2_S scale may be anything, and so may every byte of base-3 digits.
    load(spoiled(&of(DType::I2_S), "blk.0.attn_q.weight", -28, &[0xff; 28])).unwrap();
    let every: Vec<u8> = (208..=255).collect();
    load(spoiled(&of(DType::TQ1_0), "blk.0.attn_q.weight", 0, &every)).unwrap();
}

#[test]
fn an_embedding_of_no_numbers_is_found_when_asked_for() {
    let nan = half::f16::NAN.to_le_bytes();
    let bytes = spoiled(&Plan::default(), "token_embd.weight", 6, &nan);
    load(bytes.clone()).expect("not looked at without being asked");
    let options = LoadOptions { verify: true, ..LoadOptions::default() };
    let error = Model::from_source(Source::from_memory(bytes), options).expect_err("NaN");
    let text = error.to_string();
    assert!(text.contains("token_embd.weight") && text.contains("value 3 of row 0"), "{text}");
    let options = LoadOptions { verify: true, ..LoadOptions::default() };
    Model::from_source(Source::from_memory(tiny::bytes(&Plan::default())), options).expect("sound");
}
