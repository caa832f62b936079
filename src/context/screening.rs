//! A choice from few full-precision logits: every row is bounded from eight bits a weight, and those that may matter are computed.
//!
//! ```text
//! state ─▶ bounds of every row ─▶ the k-th best lower bound ─▶ rows not below it ─▶ their logits ─▶ sampler
//!          (kept for this state)     (what the sampler needs)     (full precision)
//! ```
//!
//! The first step depends on the state alone; it can be interrupted and is shared by every sampler that asks.

use super::{
    eval::{Poll, Status},
    head::{PART_ROWS, POLL_ROWS},
};
use crate::{
    error::{Result, try_zeroed},
    kernels::{
        Kernels,
        screen::{PlaneOf, Split},
    },
    model::{Planes, RowMatrix},
    sampler::Screen,
    threads::{Cut, Team},
};
use std::{cmp::Ordering, ops::Range};

/// Rows that share a best lower bound. A multiple of the mask's words.
const GROUP: usize = 64;
/// Rows that are bounded at a time: long stretches of one plane, then of the other.
const STRETCH: usize = 4 * GROUP;
/// Rows of full precision in one part of the work.
const RESCORE: usize = 16;
/// A share of the vocabulary that survives above this, one in so many, and the full head is as cheap.
const MANY: usize = 8;
/// The rows of a stretch, for a kernel that takes a list.
const ALL: [u32; STRETCH] = {
    let mut all = [0; STRETCH];
    let mut i = 0;
    while i < STRETCH {
        all[i] = i as u32;
        i += 1;
    }
    all
};

/// Bounds on the logits of one state.
#[derive(Debug, Default)]
pub(super) struct Screening {
    /// Which state they are of, whether they are likely rather than sure, and how many rows are done.
    progress: Option<(usize, bool, usize)>,
    /// `[n_vocab]` each.
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// The state in two terms, `[n_embd]` each.
    terms: [Vec<i8>; 2],
    survivors: Vec<u32>,
    /// Sure bounds of the survivors of likely ones.
    refined: Vec<(f32, f32)>,
    logits: Vec<f32>,
    /// Ids with their logits: what the sampler gets.
    pub top: Vec<(i32, f32)>,
    /// Best lower bounds of the groups, and room to select among them.
    best: Vec<f32>,
}

impl Screening {
    pub(super) fn forget(&mut self) {
        self.progress = None;
    }

    pub(super) fn bytes(&self) -> usize {
        let floats = [&self.lower, &self.upper, &self.logits, &self.best];
        floats.iter().map(|floats| 4 * floats.capacity()).sum::<usize>()
            + self.terms.iter().map(Vec::capacity).sum::<usize>()
            + 4 * self.survivors.capacity()
            + 8 * (self.top.capacity() + self.refined.capacity())
    }

    /// What [`bytes`](Self::bytes) is for a model, without the survivors.
    pub(super) fn planned_bytes(vocab: usize, width: usize) -> usize {
        8 * vocab + 4 * vocab.div_ceil(GROUP) + 2 * width
    }

    /// Bounds every row of the vocabulary for state `i`; `Some` if it stopped on the way.
    pub(super) fn bound(
        &mut self,
        i: usize,
        state: &[f32],
        model: (&Planes, &Kernels),
        fast: bool,
        team: &Team<'_>,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Status>> {
        let (planes, kernels) = model;
        let (vocab, width) = (planes.rows(), planes.k());
        if self.upper.len() != vocab || self.terms[0].len() != width {
            self.lower = try_zeroed(vocab, "bounds of logits")?;
            self.upper = try_zeroed(vocab, "bounds of logits")?;
            self.best = try_zeroed(vocab.div_ceil(GROUP), "bounds of logits")?;
            self.terms =
                [try_zeroed(width, "terms of a state")?, try_zeroed(width, "terms of a state")?];
            self.progress = None;
        }
        let mut done = match self.progress {
            Some((of, was_fast, done)) if (of, was_fast) == (i, fast) => done,
            _ => 0,
        };
        let [first, second] = &mut self.terms;
        let split = Split::new(state, first, second);
        let mut slots = vec![(); team.threads()];
        let mut stopped = None;
        while done < vocab {
            stopped = poll.stop();
            if stopped.is_some() {
                break;
            }
            let end = vocab.min(done + POLL_ROWS);
            let lower = Cut::new(&mut self.lower[done..end], PART_ROWS);
            let upper = Cut::new(&mut self.upper[done..end], PART_ROWS);
            let parts = (end - done).div_ceil(PART_ROWS);
            team.run_parts(parts, lower, upper, &mut slots, |part, lower, upper, ()| {
                let stretches = lower.chunks_mut(STRETCH).zip(upper.chunks_mut(STRETCH));
                for (n, (lower, upper)) in stretches.enumerate() {
                    let first = done + part * PART_ROWS + n * STRETCH;
                    let rows = first..first + lower.len();
                    bound_rows(kernels, planes, &split, rows, fast, lower, upper);
                }
            });
            done = end;
        }
        self.progress = Some((i, fast, done));
        Ok(stopped)
    }

    /// The rows that the screen's `k` best may be among; false if they are too many.
    fn survive(&mut self, screen: &Screen<'_>) -> bool {
        let vocab = self.upper.len();
        let allowed = |group: usize| Allowed { mask: screen.allowed, first: group * GROUP };
        for (group, (best, lower)) in self.best.iter_mut().zip(self.lower.chunks(GROUP)).enumerate()
        {
            *best = allowed(group).best(lower);
        }
        // k groups whose best is at least this: k rows are not below it.
        let Some(last) = screen.k.checked_sub(1).filter(|last| *last < self.best.len()) else {
            return false;
        };
        let (_, threshold, _) = self.best.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
        let threshold = *threshold;
        self.survivors.clear();
        for (group, upper) in self.upper.chunks(GROUP).enumerate() {
            // Counted, not searched: that runs wide.
            if upper.iter().map(|upper| u32::from(stays(*upper, threshold))).sum::<u32>() == 0 {
                continue;
            }
            let allowed = allowed(group);
            for (row, upper) in upper.iter().enumerate() {
                if stays(*upper, threshold) && allowed.has(row) {
                    self.survivors.push((group * GROUP + row) as u32);
                }
            }
            if self.survivors.len() > vocab / MANY {
                return false;
            }
        }
        true
    }

    /// Reads the low nibbles of what survived likely bounds, and keeps what survives sure ones.
    fn refine(
        &mut self,
        state: &[f32],
        (planes, kernels): (&Planes, &Kernels),
        k: usize,
        team: &Team<'_>,
    ) -> Result<()> {
        let count = self.survivors.len();
        if self.refined.len() < count {
            self.refined = Vec::new();
            self.refined = try_zeroed(count.next_power_of_two(), "bounds of logits")?;
        }
        let [first, second] = &mut self.terms;
        let split = Split::new(state, first, second);
        let (survivors, all) = (&self.survivors, 0..planes.rows());
        let mut slots = vec![(); team.threads()];
        let refined = Cut::new(&mut self.refined[..count], GROUP);
        team.run_parts(
            count.div_ceil(GROUP),
            refined,
            Cut::none(),
            &mut slots,
            |part, out, (), ()| {
                let live = &survivors[part * GROUP..][..out.len()];
                let mut sums = [[[0i32; 2]; GROUP]; 2];
                for (rows, sums) in
                    [planes.high(all.clone()), planes.low(all.clone())].into_iter().zip(&mut sums)
                {
                    let plane = PlaneOf { rows, k: planes.k(), codes: split.codes };
                    kernels.nibbles(plane, live, &mut sums[..live.len()]);
                }
                for ((out, row), (high, low)) in
                    out.iter_mut().zip(live).zip(sums[0].iter().zip(&sums[1]))
                {
                    *out = split.interval(&planes.bounds()[*row as usize], *high, *low);
                }
            },
        );
        let refined = &self.refined[..count];
        let mut lower: Vec<f32> = try_zeroed(count, "bounds of logits")?;
        for (lower, bounds) in lower.iter_mut().zip(refined) {
            *lower = if bounds.0.is_nan() { f32::NEG_INFINITY } else { bounds.0 };
        }
        if let Some(last) = k.checked_sub(1).filter(|last| *last < count) {
            let (_, threshold, _) = lower.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
            let mut bounds = refined.iter();
            self.survivors
                .retain(|_| bounds.next().is_none_or(|bounds| stays(bounds.1, *threshold)));
        }
        Ok(())
    }

    /// The logits that a sampler asks for, into `top`; false if the full head is as cheap.
    pub(super) fn choose(
        &mut self,
        state: &[f32],
        (matrix, planes, kernels): (&RowMatrix, &Planes, &Kernels),
        screen: &Screen<'_>,
        team: &Team<'_>,
    ) -> Result<bool> {
        if !self.survive(screen) {
            return Ok(false);
        }
        if self.progress.is_some_and(|(_, fast, _)| fast) {
            self.refine(state, (planes, kernels), screen.k, team)?;
        }
        let named = screen.exact.iter().filter_map(|id| u32::try_from(*id).ok());
        self.survivors.extend(named.filter(|id| (*id as usize) < planes.rows()));
        self.survivors.sort_unstable();
        self.survivors.dedup();
        self.rescore(state, matrix, kernels, team)?;
        Ok(true)
    }

    /// The survivors' logits, in full precision.
    fn rescore(
        &mut self,
        state: &[f32],
        matrix: &RowMatrix,
        kernels: &Kernels,
        team: &Team<'_>,
    ) -> Result<()> {
        let count = self.survivors.len();
        if self.logits.len() < count {
            self.logits = Vec::new();
            self.logits = try_zeroed(count.next_power_of_two(), "logits")?;
        }
        let survivors = &self.survivors;
        let mut slots = vec![(); team.threads()];
        let logits = Cut::new(&mut self.logits[..count], RESCORE);
        let parts = count.div_ceil(RESCORE);
        team.run_parts(parts, logits, Cut::none(), &mut slots, |part, logits, (), ()| {
            for (row, logit) in survivors[part * RESCORE..].iter().zip(logits) {
                let row = *row as usize;
                let rows = matrix.row_range(row..row + 1);
                kernels.row_dots(
                    rows,
                    matrix.kind(),
                    state,
                    state.len(),
                    std::slice::from_mut(logit),
                );
            }
        });
        self.top.clear();
        self.top
            .extend(survivors.iter().zip(&self.logits).map(|(row, logit)| (*row as i32, *logit)));
        Ok(())
    }
}

/// Whether a row may be among the best: an upper bound that is no number is not below anything.
fn stays(upper: f32, threshold: f32) -> bool {
    !matches!(upper.partial_cmp(&threshold), Some(Ordering::Less))
}

/// The rows of a group that grammars allow.
struct Allowed<'a> {
    mask: Option<&'a [u32]>,
    first: usize,
}

impl Allowed<'_> {
    fn has(&self, row: usize) -> bool {
        let row = self.first + row;
        self.mask
            .is_none_or(|mask| mask.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1))
    }

    /// The best of the allowed, minus infinity if there is none.
    fn best(&self, lower: &[f32]) -> f32 {
        let best = |best: f32, lower: f32| if lower > best { lower } else { best };
        match self.mask {
            None => {
                // In lanes, so that they can be wide.
                let mut lanes = [f32::NEG_INFINITY; 16];
                for lower in lower.chunks(16) {
                    for (lane, lower) in lanes.iter_mut().zip(lower) {
                        *lane = best(*lane, *lower);
                    }
                }
                lanes.into_iter().fold(f32::NEG_INFINITY, best)
            }
            Some(_) => {
                let rows = lower.iter().enumerate().filter(|(row, _)| self.has(*row));
                rows.fold(f32::NEG_INFINITY, |a, (_, lower)| best(a, *lower))
            }
        }
    }
}

/// Bounds of at most [`STRETCH`] rows.
fn bound_rows(
    kernels: &Kernels,
    planes: &Planes,
    split: &Split<'_>,
    rows: Range<usize>,
    fast: bool,
    lower: &mut [f32],
    upper: &mut [f32],
) {
    let live = &ALL[..rows.len()];
    let mut sums = [[[0i32; 2]; STRETCH]; 2];
    let [high, low] = &mut sums;
    let plane = |rows| PlaneOf { rows, k: planes.k(), codes: split.codes };
    kernels.nibbles(plane(planes.high(rows.clone())), live, &mut high[..live.len()]);
    if !fast {
        kernels.nibbles(plane(planes.low(rows.clone())), live, &mut low[..live.len()]);
    }
    let bounds = &planes.bounds()[rows];
    let out = lower.iter_mut().zip(upper.iter_mut());
    for (((lower, upper), bounds), (high, low)) in out.zip(bounds).zip(high.iter().zip(&*low)) {
        (*lower, *upper) = if fast {
            split.likely_interval(bounds, *high)
        } else {
            split.interval(bounds, *high, *low)
        };
    }
}
