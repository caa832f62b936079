//! Runs between probes: which of them count.

use super::{
    probe,
    report::{Limits, Run},
};
use std::{error::Error, time::Instant};

/// How far two probes may differ around a run that counts.
const AGREE: f64 = 0.05;
/// Bytes the read probe goes through.
const PROBE_BYTES: usize = 1 << 30;
/// The probe is the best of so many.
const PROBE_ROUNDS: usize = 5;

/// Takes the probes.
pub(crate) struct Prober(probe::Memory);

impl Prober {
    /// With its memory in place.
    pub(crate) fn new() -> Self {
        Self(probe::Memory::new(PROBE_BYTES))
    }

    /// What `threads` threads can do now.
    pub(crate) fn take(&self, threads: usize) -> Limits {
        Limits {
            read: self.0.read_bandwidth(threads, PROBE_ROUNDS),
            dot: probe::dot_peak(threads, PROBE_ROUNDS).0,
        }
    }

    /// Runs `work` between probes until `wanted` runs count, or `tries` are spent. `work` answers tokens; its
    /// time is taken here, or it gives its own.
    pub(crate) fn runs(
        &self,
        threads: usize,
        (wanted, tries): (usize, usize),
        mut work: impl FnMut() -> Result<(usize, Option<f64>), Box<dyn Error>>,
    ) -> Result<Vec<Run>, Box<dyn Error>> {
        let (mut runs, mut before): (Vec<Run>, _) = (Vec::new(), self.take(threads));
        while runs.len() < tries && runs.iter().filter(|run| run.counts).count() < wanted {
            let start = Instant::now();
            let (tokens, seconds) = work()?;
            let seconds = seconds.unwrap_or_else(|| start.elapsed().as_secs_f64());
            let after = self.take(threads);
            let tokens_per_second = tokens as f64 / seconds;
            runs.push(Run { tokens_per_second, before, after, counts: agree(before, after) });
            before = after;
        }
        Ok(runs)
    }
}

/// Whether both probes came out alike before and after.
pub(crate) fn agree(before: Limits, after: Limits) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= AGREE * a.max(b);
    near(before.read, after.read) && near(before.dot, after.dot)
}
