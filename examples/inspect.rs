//! What is in a model file: keys, tensors, sizes by kind, and known defects.
//!
//! ```text
//! cargo run --release --example inspect -- examples/models/seed-s.gguf
//! ```

#![allow(clippy::print_stderr, reason = "a program says why it failed")]

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, BufWriter, Write},
    process::ExitCode,
    sync::Arc,
};
use tern::{
    file::{Gguf, Metadata, OpenOptions, Source},
    tensor::{DType, TensorInfo},
};

fn main() -> ExitCode {
    match std::env::args()
        .nth(1)
        .ok_or("usage: inspect MODEL.gguf".into())
        .and_then(|path| run(&path))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str) -> Result<(), Box<dyn Error>> {
    let gguf = Gguf::parse(Arc::new(Source::open(path, OpenOptions::default())?))?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{path}: GGUF version {}, {} bytes", gguf.version, gguf.source().len())?;

    writeln!(out, "\nkeys")?;
    for (key, value) in gguf.metadata.iter() {
        writeln!(out, "  {:48} {}", line(key), line(&value.to_string()))?;
    }
    writeln!(out, "\ntensors, from byte {} on", gguf.data_start)?;
    for TensorInfo { name, dtype, shape, bytes, .. } in &gguf.tensors {
        writeln!(
            out,
            "  {:32} {:6} {:16} {bytes:>11} bytes",
            line(name),
            dtype.name(),
            shape.to_string()
        )?;
    }

    writeln!(out, "\nsizes by kind")?;
    let mut kinds: BTreeMap<&str, (usize, u64, u64)> = BTreeMap::new();
    for tensor in &gguf.tensors {
        let (count, weights, bytes) = kinds.entry(tensor.dtype.name()).or_default();
        *count += 1;
        *weights = weights.saturating_add(tensor.shape.elements());
        *bytes += tensor.bytes;
    }
    for (kind, (count, weights, bytes)) in kinds {
        let bits = 8.0 * bytes as f64 / weights as f64;
        writeln!(
            out,
            "  {kind:6} {count:>4} tensors {weights:>13} weights {bytes:>13} bytes {bits:>6.3} bits each"
        )?;
    }

    writeln!(out, "\ndefects")?;
    let defects = defects(&gguf)?;
    for defect in &defects {
        writeln!(out, "  {defect}")?;
    }
    if defects.is_empty() {
        writeln!(out, "  none known")?;
    }
    Ok(out.flush()?)
}

/// Text of a file on one line: not too long, and without what would steer a terminal.
fn line(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut line = String::new();
    for letter in text.chars().take(LONGEST) {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    if text.chars().nth(LONGEST).is_some() {
        line += &format!("… ({} bytes)", text.len());
    }
    line
}

/// What this file lacks or says wrongly, among what real files are known for.
fn defects(gguf: &Gguf) -> Result<Vec<String>, tern::Error> {
    let meta = &gguf.metadata;
    let mut found = Vec::new();
    let arch = meta.str("general.architecture")?;
    if arch.starts_with("bitnet") && meta.get(&format!("{arch}.hidden_activation")).is_none() {
        found.push(format!(
            "no key {arch}.hidden_activation: the activation follows from architecture and shape"
        ));
    }
    let model = meta.opt_str("tokenizer.ggml.model")?.unwrap_or("none");
    if model == "gpt2" && meta.get("tokenizer.ggml.pre").is_none() {
        found.push(
            "no key tokenizer.ggml.pre: how text is split must be guessed from the vocabulary"
                .into(),
        );
    }
    match meta.opt_str("tokenizer.chat_template")? {
        None => found.push("no chat template".into()),
        Some(text) if text.contains("BITNETAssistant") => {
            found.push(
                "the chat template is a converter's placeholder, not the one of the training"
                    .into(),
            );
        }
        Some(_) => {}
    }
    found.extend(token_defects(meta)?);
    for tensor in gguf.tensors.iter().filter(|tensor| tensor.dtype == DType::I2_S) {
        // The scale follows the codes; 32 bytes are kept for it.
        let at = tensor.range().end - 32;
        let bytes = gguf.source().bytes(at..at + 4)?;
        let scale = bytes.first_chunk().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
        if !(scale.is_finite() && scale > 0.0) {
            found.push(format!("tensor {} has the scale {scale}", tensor.name));
        }
    }
    Ok(found)
}

/// What is wrong with the special tokens.
fn token_defects(meta: &Metadata) -> Result<Vec<String>, tern::Error> {
    let mut found = Vec::new();
    let tokens = meta.opt_array("tokenizer.ggml.tokens")?;
    let Some(texts) = tokens.and_then(|tokens| tokens.strings()) else { return Ok(found) };
    let texts: Vec<&[u8]> = texts.collect();
    let text = |id: Option<u32>| id.and_then(|id| texts.get(id as usize).copied());
    let eos = meta.opt_u32("tokenizer.ggml.eos_token_id")?;
    let bos = text(meta.opt_u32("tokenizer.ggml.bos_token_id")?);
    let turn = texts.iter().position(|text| *text == b"<|eot_id|>");
    if let (Some(turn), None) = (turn, meta.get("tokenizer.ggml.eot_token_id")) {
        let eos = eos.map_or("none".into(), |id| id.to_string());
        found.push(format!(
            "turns end with token {turn}, <|eot_id|>; the file names only the end of text, {eos}"
        ));
    }
    let mangled =
        |text: &&&[u8]| bos.is_some_and(|bos| text.len() > bos.len() && text.starts_with(bos));
    let mangled = texts.iter().filter(mangled).count();
    if bos.is_some_and(|bos| bos.starts_with(b"<|")) && mangled > 0 {
        found.push(format!(
            "{mangled} special tokens are spelt with the begin-of-text token before them"
        ));
    }
    Ok(found)
}
