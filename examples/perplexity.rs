//! Perplexity of a text, by the method of llama.cpp's tool, so that figures compare.
//!
//! cargo run --release --example perplexity -- -m MODEL.gguf -f wiki.test.raw [-c 512] [--stride N] [--chunks N] [-t THREADS]
//!
//! The text is cut into chunks of the context's length; each begins with BOS, and the second half of each is scored.
//! With a stride, windows overlap and only the last `stride` tokens of each are scored. For the official 2B4T file
//! bitnet.cpp reports 17.1086 on WikiText-2; tern has not been run on that file by its authors.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program may

#[path = "common/args.rs"]
mod args;

use std::{error::Error, io::Write};
use tern::{
    context::{Context, ContextOptions, EvalOptions, Item},
    model::{LoadOptions, Model},
    sampler::logprobs::log_softmax_at,
    threads::{ThreadPool, ThreadPoolOptions},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = args::Args::new();
    let path = args.value(&["-m", "--model"])?.unwrap_or_else(args::shipped_model);
    let file: String = args.value(&["-f", "--file"])?.ok_or("-f FILE is wanted")?;
    let n_ctx: usize = args.value(&["-c", "--ctx"])?.unwrap_or(512);
    let stride: usize = args.value(&["--stride"])?.unwrap_or(0);
    let most: usize = args.value(&["--chunks"])?.unwrap_or(usize::MAX);
    let threads = args.value(&["-t", "--threads"])?.unwrap_or(0);
    args.words()?;
    if n_ctx < 4 || stride >= n_ctx {
        return Err("a context of at least 4 tokens, and a stride below it".into());
    }

    let model = Model::open(path, LoadOptions::default())?;
    let pool = ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() })?;
    let mut context =
        Context::new(&model, ContextOptions { n_ctx, pool: Some(pool), ..Default::default() })?;
    let tokenizer = model.tokenizer();
    let text = std::fs::read_to_string(&file)?;
    let tokens = tokenizer.encode(&text, true, false, None)?;
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let (step, scored) =
        if stride == 0 { (n_ctx, n_ctx - 1 - n_ctx / 2) } else { (stride, stride) };
    let chunks = ((tokens.len().saturating_sub(n_ctx) / step) + usize::from(tokens.len() >= n_ctx))
        .min(most);
    if chunks == 0 {
        return Err(format!("{} tokens are less than one chunk of {n_ctx}", tokens.len()).into());
    }
    let (mut sum, mut squares, mut count) = (0.0f64, 0.0f64, 0usize);
    for chunk in 0..chunks {
        let mut window = tokens[chunk * step..][..n_ctx].to_vec();
        if let Some(bos) = bos {
            window[0] = bos;
        }
        context.clear(0)?;
        // Row i predicts token i + 1.
        let first = n_ctx - 1 - scored;
        let item =
            |(i, token): (usize, &i32)| Item { token: *token, sequence: 0, want: i >= first };
        let items: Vec<Item> = window[..n_ctx - 1].iter().enumerate().map(item).collect();
        context.eval_items(&items, EvalOptions::default())?;
        for row in 0..scored {
            let loss = -f64::from(log_softmax_at(context.logits(row)?, window[first + row + 1])?);
            sum += loss;
            squares += loss * loss;
            count += 1;
        }
        let mean = sum / count as f64;
        let bar = "#".repeat((chunk + 1) * 30 / chunks);
        eprint!("\r[{bar:.<30}] {}/{chunks}  perplexity {:.4}  ", chunk + 1, mean.exp());
        std::io::stderr().flush()?;
    }
    eprintln!();
    let mean = sum / count as f64;
    let error =
        ((squares / count as f64 - mean * mean).max(0.0) / (count.max(2) - 1) as f64).sqrt();
    println!(
        "perplexity {:.4} +/- {:.4}  ({mean:.4} nats a token over {count} tokens)",
        mean.exp(),
        mean.exp() * error
    );
    Ok(())
}
