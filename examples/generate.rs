//! The five steps: load, tokenize, eval, sample, print. The same program exists in every language.
//!
//! cargo run --release --example generate -- -n 40 "Once upon a time"

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program may

#[path = "common/args.rs"]
mod args;

use std::{error::Error, io::Write};
use tern::{
    context::{Context, ContextOptions, EvalOptions},
    model::{LoadOptions, Model},
    sampler::Sampler,
    text::{DecodeOptions, Detok},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = args::Args::new();
    let path = args.value(&["-m"])?.unwrap_or_else(args::shipped_model);
    let n: usize = args.value(&["-n"])?.unwrap_or(64);
    let temp: f32 = args.value(&["--temp"])?.unwrap_or(0.0);
    let seed = args.value(&["--seed"])?.unwrap_or(0);
    let prompt = args.words()?.join(" ");

    let model = Model::open(path, LoadOptions::default())?;
    let tokenizer = model.tokenizer();
    let tokens = tokenizer.encode(&prompt, true, false, None)?;
    let mut context = Context::new(&model, ContextOptions::default())?;
    context.eval(&tokens, EvalOptions::default())?;
    let mut sampler = Sampler::new(seed);
    if temp > 0.0 {
        sampler.add_top_k(40)?.add_temp(temp)?;
    }
    let mut detok = Detok::new(DecodeOptions::default());
    let mut out = std::io::stdout().lock();
    for _ in 0..n {
        let Some(token) = context.sample(0, &mut sampler, None, None)? else { break };
        if tokenizer.is_eog(token)? {
            break;
        }
        out.write_all(detok.push(tokenizer, token)?.as_bytes())?;
        out.flush()?;
        context.eval(&[token], EvalOptions::default())?;
    }
    out.write_all(detok.finish().as_bytes())?;
    writeln!(out)?;
    Ok(())
}
