//! Measured from outside: this program starts itself, and the child does one thing from a cold start.

use super::{
    limits::{Prober, agree},
    measure,
    options::{Choose, Head, Options, Variant, cache_name},
    report::{FirstToken, Memory, Part, Setting, Spread},
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
use tern::{
    context::{Context, ContextOptions, EvalOptions},
    text::Tokenizer,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a child that made a first token says.
#[derive(Deserialize, Serialize)]
struct First {
    load_ms: f64,
    prompt_ms: f64,
    choose_ms: f64,
    setting: Setting,
}

/// The child's side: one line of JSON as soon as the work is done.
pub(crate) fn run(options: &Options, what: &str) -> Result<()> {
    match what {
        "first" => first(options),
        "memory" => memory(options),
        other => Err(format!("--child {other}: first or memory").into()),
    }
}

/// Writes the child's line, before anything is taken down: that is no part of what is measured.
fn say(line: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// A child's model, context and setting; the context has room for `len` tokens.
fn begin(options: &Options, len: usize) -> Result<(Context, Setting)> {
    let path = &options.models[0];
    let variant = &options.variants[0];
    let model = measure::open(path, variant)?;
    let (threads, cache) = (options.threads[0], options.caches[0]);
    let setting = Setting {
        threads,
        batch: options.batches[0],
        cache: cache_name(cache).to_owned(),
        choose: Choose::Greedy.name().to_owned(),
        sequences: 1,
        ..measure::setting(path, &model, variant)?
    };
    let pool = Some(measure::pool(threads)?);
    let options = ContextOptions {
        n_ctx: len,
        n_batch: setting.batch,
        kv_type: cache,
        pool,
        fast_head: variant.head == Head::Fast,
        ..Default::default()
    };
    Ok((Context::new(&model, options)?, setting))
}

fn first(options: &Options) -> Result<()> {
    let len = options.prompts[0];
    let mut ms = {
        let mut last = Instant::now();
        move || {
            let span = last.elapsed();
            last = Instant::now();
            span.as_secs_f64() * 1e3
        }
    };
    let (mut context, setting) = begin(options, len + 1)?;
    let load_ms = ms();
    let prompt = measure::tokens(context.model(), options.text.as_deref(), len)?;
    context.eval(&prompt, EvalOptions::default())?;
    let prompt_ms = ms();
    context.sample(0, &mut measure::sampler(Choose::Greedy, 0)?, None, None)?;
    say(&First { load_ms, prompt_ms, choose_ms: ms(), setting })
}

fn memory(options: &Options) -> Result<()> {
    let len = options.prompts[0].max(2);
    let (mut context, setting) = begin(options, len)?;
    let peak_load = Held::now()?.peak;
    let tokens = measure::tokens(context.model(), options.text.as_deref(), len)?;
    context.eval(&tokens[..len - 1], EvalOptions::default())?;
    let token = context.sample(0, &mut measure::sampler(Choose::Greedy, 0)?, None, None)?;
    context.eval(&[token.ok_or("a choice without an end")?], EvalOptions::default())?;
    let held = Held::now()?;
    let weights = context.model().weights()?;
    let place = |name: &str, bytes: u64, is_mapped: bool| Part {
        name: name.to_owned(),
        own: if is_mapped { 0 } else { bytes },
        mapped: if is_mapped { bytes } else { 0 },
    };
    let mut trunk = Part { name: "trunk".to_owned(), ..Part::default() };
    for matrix in super::trunk::matrices(context.model())? {
        *(if matrix.is_mapped() { &mut trunk.mapped } else { &mut trunk.own }) +=
            matrix.bytes() as u64;
        trunk.own += matrix.scale_bytes() as u64;
    }
    let rows = |name: &str, rows: &tern::model::RowMatrix| {
        place(name, rows.len_bytes() as u64, rows.is_mapped())
    };
    let mut parts = vec![trunk, rows("embedding", &weights.embedding)];
    parts.extend(weights.output.as_ref().map(|output| rows("head", output)));
    if let Some(planes) = &weights.planes {
        let (bytes, is_mapped) = planes.bytes();
        parts.push(place("head's planes", bytes as u64, is_mapped));
        parts.push(place("their bounds", planes.bounds_bytes() as u64, false));
    }
    let norms = weights.layers.iter().flat_map(|layer| {
        let subs = [&layer.attn_sub_norm, &layer.ffn_sub_norm].into_iter().flatten();
        [&layer.attn_norm, &layer.ffn_norm].into_iter().chain(subs)
    });
    let vectors = [&weights.output_norm].into_iter().chain(&weights.rope_factors);
    let floats: usize = norms.chain(vectors).map(Vec::len).sum();
    parts.push(place("other weights", 4 * floats as u64, false));
    parts.push(place("tokenizer", Tokenizer::heap_bytes(context.model().metadata())?, false));
    parts.push(place("cache", context.cache_bytes(), false));
    parts.push(place("scratch", context.scratch_bytes(), false));
    let named: u64 = parts.iter().map(|part| part.own).sum();
    parts.push(place("unnamed", held.anonymous.saturating_sub(named), false));
    say(&Memory {
        context: len,
        setting,
        parts,
        anonymous: held.anonymous,
        file_backed: held.file_backed,
        peak_load,
        peak: held.peak,
    })
}

/// Resident memory, as the system counts it.
struct Held {
    anonymous: u64,
    file_backed: u64,
    /// The most of both together since the process began.
    peak: u64,
}

impl Held {
    /// Of this process.
    #[cfg(target_os = "linux")]
    fn now() -> Result<Self> {
        let field = |path: &str, name: &str| {
            let text = std::fs::read_to_string(path)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number
                .map(|kilobytes| kilobytes << 10)
                .ok_or_else(|| format!("{path} has no {name}").into())
        };
        let rollup = |name| -> Result<u64> { field("/proc/self/smaps_rollup", name) };
        let anonymous = rollup("Anonymous:")?;
        let file_backed = rollup("Rss:")?.saturating_sub(anonymous);
        Ok(Self { anonymous, file_backed, peak: field("/proc/self/status", "VmHWM:")? })
    }

    /// Unknown here.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Result<Self> {
        Err("memory is read from /proc, which only Linux has".into())
    }
}

/// The parent's side: the first token of a process, `-r` times.
pub(crate) fn first_token(
    options: &Options,
    call: &Call<'_>,
    prober: &Prober,
) -> Result<FirstToken> {
    let (mut totals, mut firsts): (Vec<f64>, Vec<First>) = (Vec::new(), Vec::new());
    let before = prober.take(call.threads);
    for _ in 0..options.repetitions {
        let (line, seconds) = call.line("first")?;
        firsts.push(serde_json::from_str(&line)?);
        totals.push(seconds * 1e3);
    }
    let after = prober.take(call.threads);
    let spread = |value: fn(&First) -> f64| Spread::of(firsts.iter().map(value));
    Ok(FirstToken {
        prompt: call.len,
        setting: firsts[0].setting.clone(),
        total_ms: Spread::of(totals.into_iter()),
        load_ms: spread(|first| first.load_ms),
        prompt_ms: spread(|first| first.prompt_ms),
        choose_ms: spread(|first| first.choose_ms),
        before,
        after,
        counts: agree(before, after),
    })
}

/// The parent's side: what a process holds.
pub(crate) fn footprint(call: &Call<'_>) -> Result<Memory> {
    Ok(serde_json::from_str(&call.line("memory")?.0)?)
}

/// A child to be started.
pub(crate) struct Call<'a> {
    pub(crate) model: &'a Path,
    pub(crate) variant: &'a Variant,
    pub(crate) text: Option<&'a Path>,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
    pub(crate) cache: &'static str,
    /// Tokens of the prompt or the context.
    pub(crate) len: usize,
}

impl Call<'_> {
    /// Starts it, and gives its first line and how many seconds after the start that came.
    fn line(&self, what: &str) -> Result<(String, f64)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", what, "--cache", self.cache]).arg("-m").arg(self.model);
        command.args([
            "-p",
            &self.len.to_string(),
            "-t",
            &self.threads.to_string(),
            "-b",
            &self.batch.to_string(),
        ]);
        command.args(self.variant.flags());
        if let Some(text) = self.text {
            command.arg("-f").arg(text);
        }
        let start = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("a child without output")?)
            .read_line(&mut line)?;
        let seconds = start.elapsed().as_secs_f64();
        let status = child.wait()?;
        if status.success() && !line.is_empty() {
            Ok((line, seconds))
        } else {
            Err(format!("the measured process: {status}").into())
        }
    }
}
