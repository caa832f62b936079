//! How fast a model reads and writes, beside what this machine can do in the same minute.
//!
//! ```text
//! cargo run --release --example bench -- -m MODEL.gguf -p 128,512 -n 128 -t 1,2
//! cargo run --release --example bench -- -m MODEL.gguf --first 512 --memory 512 --save bench.json
//! cargo run --release --example bench -- --plot docs/plots bench.json
//! ```
//!
//! Every run stands between two probes of memory and multiplier, and counts only if they agree within
//! 5 per cent: on a shared machine memory changes its speed from one second to the next. `docs/bench.md` says
//! what each column means.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program may

#[path = "../common/args.rs"]
mod args;
mod child;
mod limits;
mod measure;
mod options;
mod plot;
mod probe;
mod report;
mod show;
mod trunk;

use limits::Prober;
use options::{Options, cache_name};
use report::{Machine, Report};
use std::{error::Error, process::ExitCode};

fn main() -> ExitCode {
    if std::env::args().skip(1).any(|word| word == "-h" || word == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    match Options::from_args(args::Args::new()).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(what) = &options.child {
        return child::run(options, what);
    }
    if let Some(folder) = &options.plot {
        for name in plot::draw(&Report::read(&options.files)?, folder)? {
            println!("{}", folder.join(name).display());
        }
        return Ok(());
    }
    if !options.probe.is_empty() {
        let prober = Prober::new();
        for threads in &options.probe {
            let report::Limits { read, dot } = prober.take(*threads);
            println!(
                "{threads} threads: reads {:.2} GB/s, {:.1} G products/s",
                read / 1e9,
                dot / 1e9
            );
        }
        return Ok(());
    }
    let report =
        if options.files.is_empty() { measured(options)? } else { Report::read(&options.files)? };
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(path) = &options.save {
        std::fs::write(path, &json)?;
    }
    if options.json {
        println!("{json}")
    } else {
        print!("{}", show::markdown(&report)?)
    }
    Ok(())
}

/// All that was asked for, model by model. What is done is said on standard error.
fn measured(options: &Options) -> Result<Report, Box<dyn Error>> {
    let mut report = Report { machine: machine()?, ..Report::default() };
    let prober = Prober::new();
    for path in &options.models {
        for variant in &options.variants {
            // The children come first: this process does not hold the model yet.
            for &threads in &options.threads {
                for &batch in &options.batches {
                    for cache in options.caches.iter().map(|cache| cache_name(*cache)) {
                        let call = |len| child::Call {
                            model: path,
                            variant,
                            text: options.text.as_deref(),
                            threads,
                            batch,
                            cache,
                            len,
                        };
                        for &len in &options.first {
                            report.firsts.push(child::first_token(options, &call(len), &prober)?);
                            eprintln!(
                                "{}: first token after {len}, {threads} threads",
                                path.display()
                            );
                        }
                        for &len in &options.memory {
                            report.memories.push(child::footprint(&call(len))?);
                            eprintln!("{}: memory at {len}, {threads} threads", path.display());
                        }
                    }
                }
            }
            if options.prompts.is_empty() && options.decodes.is_empty() && options.trunk.is_empty()
            {
                continue;
            }
            let model = measure::open(path, variant)?;
            measure::figures(options, path, (&model, variant), &prober, |figure| {
                eprintln!(
                    "{}: {}, {} threads: {:.1} tokens/s",
                    path.display(),
                    figure.name(),
                    figure.setting.threads,
                    figure.tokens_per_second.median
                );
                report.figures.push(figure);
            })?;
        }
    }
    Ok(report)
}

fn machine() -> Result<Machine, Box<dyn Error>> {
    let library: serde_json::Value = serde_json::from_str(&tern::system::info())?;
    Ok(Machine {
        cpu: cpu().unwrap_or_else(|| library["build"]["arch"].as_str().unwrap_or("?").to_owned()),
        threads: std::thread::available_parallelism()?.get(),
        library,
    })
}

/// The CPU's name, where the system tells.
fn cpu() -> Option<String> {
    if cfg!(target_os = "macos") {
        let output = std::process::Command::new("sysctl")
            .args(["-n", "machdep.cpu.brand_string"])
            .output()
            .ok()?;
        return Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
            .filter(|name| !name.is_empty());
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
