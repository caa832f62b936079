//! Writes a model in the packed form once, so that it maps in milliseconds and processes share its memory.
//!
//! cargo run --release --example convert -- IN.gguf OUT.gguf [--form auto|bits2|base3] [--skip auto|yes|no] [--screen auto|yes|no]
//!
//! The file opens on every CPU; `docs/formats.md` draws it. `--form` says how dense weights lie (`auto` takes what a short
//! timing finds faster here), `--skip` whether what zeros make irrelevant can be left out, `--screen` whether the head is
//! held in eight bits too. None of them changes a result.

#![allow(clippy::print_stderr)] // a program may

#[path = "common/args.rs"]
mod args;

use std::{error::Error, io::Write, path::Path, process::ExitCode, time::Instant};
use tern::{
    kernels::Code,
    model::{LoadOptions, Model, Packing},
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = args::Args::new();
    let code = choice(&mut args, "--form", &[("bits2", Code::Bits2), ("base3", Code::Base3)])?;
    let skip = choice(&mut args, "--skip", &[("yes", true), ("no", false)])?;
    let screen = choice(&mut args, "--screen", &[("yes", true), ("no", false)])?;
    let words = args.words()?;
    let [from, to] = &words[..] else {
        return Err(
            format!("two files are wanted: convert {} packed.gguf", args::shipped_model()).into()
        );
    };
    let start = Instant::now();
    let mut told = bar("packing");
    let packing = Packing { code, skip, screen };
    let load = LoadOptions { packing, progress: Some(&mut told), ..LoadOptions::default() };
    let model = Model::open(from, load)?;
    let mut told = bar("writing");
    model.convert(to, Some(&mut told), None)?;
    let bytes = |path: &Path| std::fs::metadata(path).map(|file| file.len() as f64 / 1e6);
    let (before, after) = (bytes(Path::new(from))?, bytes(Path::new(to))?);
    eprintln!(
        "{to}: {after:.1} MB, from {before:.1} MB, in {:.1} s, by kernels {}",
        start.elapsed().as_secs_f64(),
        model.kernels().name()
    );
    Ok(())
}

/// The value of a flag among named ones; `None` for `auto`, and without the flag.
fn choice<T: Copy>(
    args: &mut args::Args,
    flag: &str,
    named: &[(&str, T)],
) -> Result<Option<T>, String> {
    let Some(text) = args.value::<String>(&[flag])?.filter(|text| text != "auto") else {
        return Ok(None);
    };
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let found = named.iter().find(|(name, _)| *name == text).map(|(_, value)| Some(*value));
    found.ok_or_else(|| format!("{flag} {text}: auto, {} are possible", names.join(", ")))
}

/// Shows a fraction as it grows, a line for each kind of work.
fn bar(what: &'static str) -> impl FnMut(f32) -> bool {
    let mut shown = -1;
    move |fraction| {
        let percent = (100.0 * fraction) as i32;
        if percent > shown {
            shown = percent;
            let end = if percent >= 100 { "\n" } else { "" };
            eprint!("\r{what} {percent} %{end}");
            // What is shown is no part of the work: a closed terminal must not stop it.
            let _ = std::io::stderr().flush();
        }
        true
    }
}
