//! A conversation in the terminal; the answer streams, its speed follows on stderr.
//!
//! cargo run --release --example chat -- "Tell me a story about a dog."
//!
//! Flags: -m MODEL.gguf, -s INSTRUCTIONS, -n MAX_TOKENS, -c CONTEXT, -t THREADS, --temp T (0: greedy), --seed S.
//! Without words it asks, line by line.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program may

#[path = "common/args.rs"]
mod args;

use std::{
    error::Error,
    io::{BufRead, Write},
};
use tern::{
    context::ContextOptions,
    model::{LoadOptions, Model},
    sampler::Sampler,
    session::{GenerateOptions, Session, SessionOptions},
    threads::{ThreadPool, ThreadPoolOptions},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = args::Args::new();
    let path = args.value(&["-m", "--model"])?.unwrap_or_else(args::shipped_model);
    let instructions = args.value(&["-s", "--system"])?;
    let max_tokens = args.value(&["-n"])?.unwrap_or(0);
    let n_ctx = args.value(&["-c", "--ctx"])?.unwrap_or(0);
    let threads = args.value(&["-t", "--threads"])?.unwrap_or(0);
    let seed = args.value(&["--seed"])?.unwrap_or(0);
    let sampler = match args.value::<f32>(&["--temp"])? {
        None => Sampler::recommended(seed),
        Some(temp) if temp <= 0.0 => Sampler::new(seed),
        Some(temp) => {
            let mut sampler = Sampler::new(seed);
            sampler.add_top_k(40)?.add_top_p(0.9, 1)?.add_temp(temp)?;
            sampler
        }
    };
    let words = args.words()?;

    let model = Model::open(path, LoadOptions::default())?;
    let pool = ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() })?;
    let context = ContextOptions { n_ctx, pool: Some(pool), ..Default::default() };
    let mut session =
        Session::new(&model, SessionOptions { instructions, context, ..Default::default() })?;
    let mut answer = |question: &str| -> Result<(), Box<dyn Error>> {
        let options =
            GenerateOptions { max_tokens, sampler: Some(sampler.clone()), ..Default::default() };
        let mut out = std::io::stdout().lock();
        session.context().write().map_err(|_| "the context is broken")?.reset_perf();
        session.respond(Some(question), options, |chunk| {
            out.write_all(chunk.text.as_bytes()).and_then(|()| out.flush()).is_ok()
        })?;
        writeln!(out)?;
        let perf = session.context().read().map_err(|_| "the context is broken")?.perf();
        let rate = |tokens: u64, us: u64| tokens as f64 * 1e6 / us.max(1) as f64;
        eprintln!(
            "[{} prompt tokens, {:.0} a second; {} tokens, {:.1} a second; {}]",
            perf.n_prefill,
            rate(perf.n_prefill, perf.prefill_us),
            perf.n_decode,
            rate(perf.n_decode, perf.decode_us + perf.sample_us),
            model.kernels().name(),
        );
        Ok(())
    };
    if !words.is_empty() {
        return answer(&words.join(" "));
    }
    for line in std::io::stdin().lock().lines() {
        answer(&line?)?;
    }
    Ok(())
}
