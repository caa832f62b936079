//! Writes a model of random weights, for benchmarks and for shapes that no real model has.
//!
//! ```text
//! cargo run --release --example synth -- twin.gguf --preset 2b4t --generation 2
//! cargo run --release --example synth -- odd.gguf --layers 3 --width 384 --heads 3 --kv-heads 1 --embedding q8_0
//! cargo run --release --example synth -- sparse.gguf --preset 2b4t --density 0.68,0.82
//! ```
//!
//! `--density GATES,INPUTS` makes weights that lower a share of the gates to zero or below and leave a share of the
//! inputs of `down` at exactly 0 in eight bits, and counts the shares it reached.
//!
//! The same options give the same bytes on every machine. `--vocab FILE` takes
//! a `tokenizer.model` of LLaMA-3; without it the vocabulary is made up.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program says what it does")]

mod fill;
mod model;
mod vocab;
mod zeros;

use model::Plan;
use std::{error::Error, fs::File, io::BufWriter, path::PathBuf, str::FromStr};
use tern::tensor::DType;
use vocab::Vocabulary;

const USAGE: &str = "usage: synth FILE [--preset 2b4t] [--generation 1|2] [--seed N]
    [--layers N] [--width N] [--ffn N] [--heads N] [--kv-heads N] [--vocab-size N] [--context N]
    [--weights I2_S|TQ1_0|TQ2_0] [--embedding F32|F16|BF16|Q8_0|Q6_K] [--untied] [--zeros SHARE] [--vocab FILE]
    [--density GATES,INPUTS]";

/// Tokens that are run to count the zeros of a model made for them.
const COUNTED: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let (path, plan, vocabulary) = arguments()?;
    let file = File::create(&path)?;
    let mut shown = 0;
    plan.write(BufWriter::with_capacity(1 << 20, file), &vocabulary, |done, total| {
        if done == total || done >= shown + total / 100 {
            shown = done;
            eprint!("\r{}: {} of {} MB", path.display(), done / 1_000_000, total / 1_000_000);
        }
    })?;
    eprintln!();
    if plan.density.is_some() {
        let zeros::Reached { gates, inputs, apart } = zeros::count(&path, COUNTED)?;
        println!(
            "{:.1} % of the gates are at or below zero, {:.1} % of the inputs of down are 0 ({COUNTED} tokens, all layers)",
            100.0 * gates,
            100.0 * inputs,
        );
        if !(apart <= 0.1) {
            return Err(format!(
                "the library's final states differ from those counted here by {apart}"
            )
            .into());
        }
    }
    Ok(())
}

fn arguments() -> Result<(PathBuf, Plan, Vocabulary), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().position(|argument| argument == name);
    // A preset is what the other options start from, wherever it stands.
    let mut plan = match given("--preset").map(|at| arguments.get(at + 1).map(String::as_str)) {
        None => Plan::default(),
        Some(Some("2b4t")) => Plan::official(match given("--generation") {
            None => 2,
            Some(at) => number(arguments.get(at + 1))?,
        }),
        Some(_) => return Err(USAGE.into()),
    };
    let (mut path, mut vocabulary) = (None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--preset" | "--generation" => drop(rest.next()),
            "--seed" => plan.seed = number(rest.next())?,
            "--layers" => plan.layers = number(rest.next())?,
            "--width" => plan.width = number(rest.next())?,
            "--ffn" => plan.ffn = number(rest.next())?,
            "--heads" => plan.heads = number(rest.next())?,
            "--kv-heads" => plan.kv_heads = number(rest.next())?,
            "--vocab-size" => plan.vocab = number(rest.next())?,
            "--context" => plan.context = number(rest.next())?,
            "--zeros" => plan.zeros = number(rest.next())?,
            "--density" => {
                let (gates, inputs) =
                    rest.next().and_then(|text| text.split_once(',')).ok_or(USAGE)?;
                plan.density =
                    Some([number(Some(&gates.to_owned()))?, number(Some(&inputs.to_owned()))?]);
            }
            "--untied" => plan.untied = true,
            "--weights" => plan.ternary = kind(rest.next())?,
            "--embedding" => plan.embedding = kind(rest.next())?,
            "--vocab" => vocabulary = Some(std::fs::read_to_string(rest.next().ok_or(USAGE)?)?),
            name if !name.starts_with('-') && path.is_none() => path = Some(PathBuf::from(name)),
            _ => return Err(USAGE.into()),
        }
    }
    let embeddings = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q6_K];
    if !plan.ternary.is_ternary() || !embeddings.contains(&plan.embedding) {
        return Err(USAGE.into());
    }
    if plan.heads == 0 || plan.vocab < 259 || !(0.0..=1.0).contains(&plan.zeros) {
        return Err("heads must be 1 or more, the vocabulary 259 or more, zeros a share".into());
    }
    if let Some([gates, inputs]) = plan.density {
        if !(0.5..0.99).contains(&gates) || !(gates..0.99).contains(&inputs) {
            return Err(
                "density: at least half of the gates, at least as many inputs, and less than 0.99"
                    .into(),
            );
        }
        if plan.ternary != DType::I2_S || plan.width < 256 || plan.zeros > 0.9 {
            return Err(
                "density: I2_S weights, a width of 256 or more and zeros of at most 0.9 are wanted"
                    .into(),
            );
        }
    }
    let vocabulary = match vocabulary {
        Some(text) => Vocabulary::from_ranks(&text)?,
        None => Vocabulary::made_up(plan.vocab as usize),
    };
    plan.vocab = u32::try_from(vocabulary.len())?;
    if !plan.has_tensors_of(&Plan::official(2)) {
        plan.file_bytes = None;
    }
    Ok((path.ok_or(USAGE)?, plan, vocabulary))
}

fn number<T: FromStr>(text: Option<&String>) -> Result<T, Box<dyn Error>> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| USAGE.into())
}

fn kind(text: Option<&String>) -> Result<DType, Box<dyn Error>> {
    let text = text.ok_or(USAGE)?;
    DType::all().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or_else(|| USAGE.into())
}
