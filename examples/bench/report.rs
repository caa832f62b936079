//! Results: what JSON holds and tables and plots show.

use serde::{Deserialize, Serialize};
use std::{error::Error, path::Path};

/// Everything one call measured.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    pub(crate) firsts: Vec<FirstToken>,
    pub(crate) memories: Vec<Memory>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// The CPU's name, as the system gives it.
    pub(crate) cpu: String,
    /// Threads the process may use at once.
    pub(crate) threads: usize,
    /// What the library says of itself: version, build, features, tables.
    pub(crate) library: serde_json::Value,
}

/// Under which options a figure was taken.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// The model's file, without its folder.
    pub(crate) model: String,
    pub(crate) file_bytes: u64,
    /// The kernel table.
    pub(crate) table: String,
    /// The forms of the layers' matrices.
    pub(crate) form: String,
    /// Whether decoding leaves out what zeros make irrelevant.
    pub(crate) skip: bool,
    /// How the head's rows are stored.
    pub(crate) head_rows: String,
    /// How it is read for a choice that few rows decide: `full`, `exact` or `fast`.
    pub(crate) head: String,
    pub(crate) threads: usize,
    /// Tokens of one pass.
    pub(crate) batch: usize,
    /// Tokens in the context before.
    pub(crate) depth: usize,
    /// Sequences together.
    pub(crate) sequences: usize,
    /// How tokens are chosen; empty where none are.
    pub(crate) choose: String,
    pub(crate) cache: String,
}

/// What a token costs, of which the probes say how fast it could be had.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Work {
    /// Bytes of layer matrices with their scales, as if nothing was left out.
    pub(crate) trunk_bytes: f64,
    /// Bytes of the head, or of its planes; not those of the few rows that are computed in full.
    pub(crate) head_bytes: f64,
    /// Bytes of keys and values, on average over the run.
    pub(crate) cache_bytes: f64,
    /// Products of layer matrices.
    pub(crate) macs: f64,
}

impl Work {
    /// Bytes read from memory.
    pub(crate) fn bytes(&self) -> f64 {
        self.trunk_bytes + self.head_bytes + self.cache_bytes
    }
}

/// What the machine could do at one moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Bytes read each second.
    pub(crate) read: f64,
    /// Eight-bit products each second.
    pub(crate) dot: f64,
}

/// One run between two probes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    pub(crate) tokens_per_second: f64,
    pub(crate) before: Limits,
    pub(crate) after: Limits,
    /// Whether the probes agree.
    pub(crate) counts: bool,
}

/// A median with its bounds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            (values[half - 1] + values[half]) / 2.0
        };
        Self { median, min: *min, max: *max }
    }
}

/// One figure: a test under a setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    /// `prefill`, `decode`, or `trunk`: the ternary products alone.
    pub(crate) test: String,
    /// Tokens of each run, in each sequence.
    pub(crate) tokens: usize,
    pub(crate) setting: Setting,
    pub(crate) work: Work,
    pub(crate) tokens_per_second: Spread,
    /// Bytes read a second by the probe, around the same runs.
    pub(crate) read: Spread,
    /// Products a second by the probe, around the same runs.
    pub(crate) dot: Spread,
    /// `work.bytes()` a token, as a share of what the probe read.
    pub(crate) share_of_read: f64,
    /// `work.macs` a token, as a share of what the probe did.
    pub(crate) share_of_dot: f64,
    /// Whether as many runs counted as were asked for.
    pub(crate) counts: bool,
    pub(crate) runs: Vec<Run>,
}

impl Figure {
    /// From its runs: those that count, or all if too few do.
    pub(crate) fn new(
        test: &str,
        tokens: usize,
        setting: Setting,
        work: Work,
        runs: Vec<Run>,
        wanted: usize,
    ) -> Self {
        let good = runs.iter().filter(|run| run.counts).count();
        let counts = good >= wanted;
        let used: Vec<&Run> = runs.iter().filter(|run| !counts || run.counts).collect();
        let mean = |a: f64, b: f64| (a + b) / 2.0;
        let read = |run: &Run| mean(run.before.read, run.after.read);
        let dot = |run: &Run| mean(run.before.dot, run.after.dot);
        let share = |work: f64, limit: &dyn Fn(&Run) -> f64| {
            let shares = used.iter().filter(|run| limit(run) > 0.0);
            Spread::of(shares.map(|run| run.tokens_per_second * work / limit(run))).median
        };
        Self {
            test: test.to_owned(),
            tokens,
            tokens_per_second: Spread::of(used.iter().map(|run| run.tokens_per_second)),
            read: Spread::of(used.iter().map(|run| read(run))),
            dot: Spread::of(used.iter().map(|run| dot(run))),
            share_of_read: share(work.bytes(), &read),
            share_of_dot: share(work.macs, &dot),
            setting,
            work,
            counts,
            runs,
        }
    }

    /// What llama-bench would call it.
    pub(crate) fn name(&self) -> String {
        let short = match self.test.as_str() {
            "prefill" => "pp",
            "decode" => "tg",
            other => other,
        };
        format!("{short}{}", self.tokens)
    }
}

/// The first token of a process that has just begun; milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct FirstToken {
    pub(crate) prompt: usize,
    pub(crate) setting: Setting,
    /// From the start of the process to the token on a pipe.
    pub(crate) total_ms: Spread,
    /// The model's load.
    pub(crate) load_ms: Spread,
    /// The prompt.
    pub(crate) prompt_ms: Spread,
    /// The head and the choice.
    pub(crate) choose_ms: Spread,
    pub(crate) before: Limits,
    pub(crate) after: Limits,
    pub(crate) counts: bool,
}

/// What a process holds, in bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) context: usize,
    pub(crate) setting: Setting,
    /// By purpose: trunk, head, tokenizer, cache, scratch; each in memory of its own and in the mapped file.
    pub(crate) parts: Vec<Part>,
    /// As the system counts it, after the context was filled.
    pub(crate) anonymous: u64,
    pub(crate) file_backed: u64,
    /// The most of both together: while loading, and in all.
    pub(crate) peak_load: u64,
    pub(crate) peak: u64,
}

/// Bytes for one purpose.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) own: u64,
    pub(crate) mapped: u64,
}

impl Report {
    /// What is in several files, the later ones last.
    pub(crate) fn read(files: &[impl AsRef<Path>]) -> Result<Self, Box<dyn Error>> {
        let mut all = Self::default();
        for path in files.iter().map(AsRef::as_ref) {
            let what = |why: &dyn Error| format!("{}: {why}", path.display());
            let text = std::fs::read_to_string(path).map_err(|why| what(&why))?;
            let report: Self = serde_json::from_str(&text).map_err(|why| what(&why))?;
            if !all.machine.cpu.is_empty() && all.machine.cpu != report.machine.cpu {
                return Err(format!(
                    "{}: measured on another CPU than the files before it",
                    path.display()
                )
                .into());
            }
            all.machine = report.machine;
            all.figures.extend(report.figures);
            all.firsts.extend(report.firsts);
            all.memories.extend(report.memories);
        }
        Ok(all)
    }
}
