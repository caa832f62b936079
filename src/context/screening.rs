//! A choice from few full-precision logits: every row is bounded from six bits a weight, those that may matter from eight, and
//! those that still may are computed.
//!
//! ```text
//! states ─▶ about what every row is, and at most ─▶ logits of k good ones ─▶ rows that may be above the least of these ─▶ finer bounds
//!           (kept for these states)                   (what the sampler needs)                                                 │
//!                                                     sampler ◀─ logits of the rest (full precision) ◀────────────────────────┘
//! ```
//!
//! The first step depends on the states alone; it can be interrupted and is shared by every sampler that asks. It reads the
//! planes once for all states that are bounded together.

use super::{
    eval::{Poll, Status},
    head::{PART_ROWS, POLL_ROWS},
};
use crate::{
    error::{Error, Result, try_zeroed},
    kernels::{
        Kernels,
        screen::{PairsOf, PlaneOf, RowSums, Split},
    },
    model::{Planes, RowMatrix},
    sampler::Screen,
    threads::{Cut, Team},
};
use std::{cmp::Ordering, ops::Range};

/// States that are bounded together.
pub(super) const STATES: usize = 8;
/// Rows of which the likeliest is looked for. A multiple of the mask's words.
const GROUP: usize = 64;
/// Rows of full precision in one part of the work.
const RESCORE: usize = 16;
/// A share of the vocabulary that survives above this, one in so many, and the full head is as cheap.
const MANY: usize = 8;
/// The rows of a part, for a kernel that takes a list.
const ALL: [u32; PART_ROWS] = {
    let mut all = [0; PART_ROWS];
    let mut i = 0;
    while i < PART_ROWS {
        all[i] = i as u32;
        i += 1;
    }
    all
};

/// Which states were bounded, and how far.
#[derive(Clone, Copy, Debug)]
struct Progress {
    first: usize,
    count: usize,
    /// Likely bounds rather than sure ones.
    fast: bool,
    /// Rows done.
    done: usize,
}

/// A row that may be among the best.
#[derive(Clone, Copy, Debug, Default)]
struct Survivor {
    row: u32,
    /// About what the logit is.
    score: f32,
    /// What it is at most.
    upper: f32,
    logit: f32,
}

/// Bounds on the logits of some states.
#[derive(Debug, Default)]
pub(super) struct Screening {
    progress: Option<Progress>,
    /// About what the logits are, and what they are at most: parts of [`PART_ROWS`] rows, `[part][state][row]`.
    score: Vec<f32>,
    upper: Vec<f32>,
    /// The states in two terms, `[state][n_embd]` each.
    terms: [Vec<i8>; 2],
    survivors: Vec<Survivor>,
    /// Ids with their logits: what the sampler gets.
    pub top: Vec<(i32, f32)>,
    /// The best score of each group, and the group: room to select among them.
    best: Vec<(f32, u32)>,
}

/// What a screening reads: the planes, the full rows, and the table.
#[derive(Clone, Copy)]
pub(super) struct HeadOf<'a> {
    pub planes: &'a Planes,
    pub matrix: &'a RowMatrix,
    pub kernels: &'a Kernels,
}

impl Screening {
    pub(super) fn forget(&mut self) {
        self.progress = None;
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.score.capacity() + self.upper.capacity())
            + 8 * self.best.capacity()
            + self.terms.iter().map(Vec::capacity).sum::<usize>()
            + size_of::<Survivor>() * self.survivors.capacity()
            + 8 * self.top.capacity()
    }

    /// What [`bytes`](Self::bytes) is for one state of a model, without the survivors.
    pub(super) fn planned_bytes(vocab: usize, width: usize) -> usize {
        8 * vocab + 8 * vocab.div_ceil(GROUP) + 2 * width
    }

    /// Bounds every row of the vocabulary for state `i` of `states`, and for those behind it; `Some` if it stopped on the way.
    pub(super) fn bound(
        &mut self,
        i: usize,
        states: &[f32],
        head: HeadOf<'_>,
        fast: bool,
        team: &Team<'_>,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Status>> {
        let (planes, kernels) = (head.planes, head.kernels);
        let (vocab, width) = (planes.rows(), planes.k());
        let known = |of: &Progress| of.fast == fast && (of.first..of.first + of.count).contains(&i);
        let mut progress = match self.progress.filter(known) {
            Some(progress) => progress,
            None => {
                let count = (states.len() / width - i).min(STATES);
                self.progress = None;
                self.resize(count, vocab, width)?;
                Progress { first: i, count, fast, done: 0 }
            }
        };
        let (first, count) = (progress.first, progress.count);
        let [p, q] = &mut self.terms;
        let states = states[first * width..].chunks_exact(width);
        let terms = p.chunks_exact_mut(width).zip(q.chunks_exact_mut(width));
        let splits: Vec<Split<'_>> = (states.zip(terms).take(count))
            .map(|(state, (p, q))| Split::new(state, p, q))
            .collect();
        let mut slots = vec![(); team.threads()];
        let mut stopped = None;
        while progress.done < vocab {
            stopped = poll.stop();
            if stopped.is_some() {
                break;
            }
            let (from, to) = (progress.done, vocab.min(progress.done + POLL_ROWS));
            let score = Cut::new(&mut self.score[from * count..to * count], PART_ROWS * count);
            let upper = Cut::new(&mut self.upper[from * count..to * count], PART_ROWS * count);
            let parts = (to - from).div_ceil(PART_ROWS);
            team.run_parts(parts, score, upper, &mut slots, |part, score, upper, ()| {
                let first = from + part * PART_ROWS;
                let rows = first..first + score.len() / count;
                bound_rows(kernels, planes, &splits, rows, fast, score, upper);
            });
            progress.done = to;
        }
        self.progress = Some(progress);
        Ok(stopped)
    }

    /// Room for some states.
    fn resize(&mut self, count: usize, vocab: usize, width: usize) -> Result<()> {
        if self.score.len() != count * vocab || self.terms[0].len() != count * width {
            *self = Self::default();
            self.score = try_zeroed(count * vocab, "bounds of logits")?;
            self.upper = try_zeroed(count * vocab, "bounds of logits")?;
            self.best = try_zeroed(vocab.div_ceil(GROUP), "bounds of logits")?;
            let terms = || try_zeroed(count * width, "terms of a state");
            self.terms = [terms()?, terms()?];
        }
        Ok(())
    }

    /// The likeliest rows, at most `k`: at most one of each group.
    fn prospects(&mut self, scores: Groups, screen: &Screen<'_>) {
        let Self { score, best, survivors, .. } = self;
        for (group, best) in best.iter_mut().enumerate() {
            let allowed = Allowed { mask: screen.allowed, first: group * GROUP };
            *best = (allowed.best(scores.group(score, group)), group as u32);
        }
        let k = screen.k.min(best.len());
        if k < best.len() {
            best.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0));
        }
        survivors.clear();
        for (most, group) in best[..k].iter().filter(|best| best.0 > f32::NEG_INFINITY) {
            let first = *group as usize * GROUP;
            let allowed = Allowed { mask: screen.allowed, first };
            let scores = scores.group(score, *group as usize).iter().enumerate();
            let row = scores.into_iter().find(|(row, score)| *score == most && allowed.has(*row));
            survivors.extend(
                row.map(|(row, _)| Survivor { row: (first + row) as u32, ..Survivor::default() }),
            );
        }
    }

    /// The rows that may not be below a threshold.
    fn survive(&mut self, scores: Groups, screen: &Screen<'_>, threshold: f32) -> Result<()> {
        let Self { score, upper, best, survivors, .. } = self;
        survivors.clear();
        for group in 0..best.len() {
            let (score, upper) = (scores.group(score, group), scores.group(upper, group));
            // Counted, not searched: that runs wide.
            let count = upper.iter().map(|upper| u32::from(stays(*upper, threshold))).sum::<u32>();
            if count == 0 {
                continue;
            }
            let more = survivors.try_reserve(count as usize);
            more.map_err(|_| Error::OutOfMemory {
                what: "rows of the head",
                bytes: (survivors.len() * size_of::<Survivor>()) as u64,
            })?;
            let first = group * GROUP;
            let allowed = Allowed { mask: screen.allowed, first };
            for (row, (upper, score)) in upper.iter().zip(score).enumerate() {
                if stays(*upper, threshold) && allowed.has(row) {
                    let row = (first + row) as u32;
                    survivors.push(Survivor { row, score: *score, upper: *upper, logit: 0.0 });
                }
            }
        }
        Ok(())
    }

    /// Reads what the first bounds left out of the survivors: finer bounds, and sure ones.
    fn refine(
        &mut self,
        state: &[f32],
        (first, end): (usize, usize),
        fast: bool,
        head: HeadOf<'_>,
        team: &Team<'_>,
    ) {
        let HeadOf { planes, kernels, .. } = head;
        let width = planes.k();
        let [p, q] = &mut self.terms;
        let split = Split::new(state, &mut p[first..end], &mut q[first..end]);
        let parts = self.survivors.len().div_ceil(GROUP);
        let survivors = Cut::new(&mut self.survivors, GROUP);
        let mut slots = vec![(); team.threads()];
        team.run_parts(parts, survivors, Cut::none(), &mut slots, |_, survivors, (), ()| {
            let mut live = [0; GROUP];
            live.iter_mut().zip(&*survivors).for_each(|(live, survivor)| *live = survivor.row);
            let live = &live[..survivors.len()];
            let sums = |plane| {
                let mut sums = [0; GROUP];
                let of = PairsOf { rows: plane, k: width, codes: split.codes[0] };
                kernels.pairs(of, live, &mut sums[..live.len()]);
                sums
            };
            let all = 0..planes.rows();
            let low = sums(planes.low(all.clone()));
            let middle = if fast { sums(planes.middle(all)) } else { [0; GROUP] };
            for ((survivor, low), middle) in survivors.iter_mut().zip(low).zip(middle) {
                let (bounds, known) = (&planes.bounds()[survivor.row as usize], survivor.score);
                (survivor.score, survivor.upper) = if fast {
                    split.refine_likely(bounds, known, middle, low)
                } else {
                    split.refine_coarse(bounds, known, low)
                };
            }
        });
    }

    /// The logits that a sampler asks for of state `i`, into `top`; false if the full head is as cheap.
    pub(super) fn choose(
        &mut self,
        (i, state): (usize, &[f32]),
        head: HeadOf<'_>,
        screen: &Screen<'_>,
        team: &Team<'_>,
    ) -> Result<bool> {
        let Some(Progress { first, count, fast, .. }) = self.progress else { return Ok(false) };
        let (vocab, width) = (head.planes.rows(), head.planes.k());
        let scores = Groups { vocab, count, state: i - first };
        // k logits that are likely to be the best: the k best are not below the least of these.
        self.prospects(scores, screen);
        let mut threshold = f32::NEG_INFINITY;
        if self.survivors.len() >= screen.k {
            rescore(&mut self.survivors, state, head, team);
            threshold = self.survivors.iter().fold(f32::INFINITY, |least, survivor| match survivor
                .logit
                .partial_cmp(&least)
            {
                Some(Ordering::Greater | Ordering::Equal) => least,
                Some(Ordering::Less) => survivor.logit,
                None => f32::NEG_INFINITY,
            });
        }
        self.survive(scores, screen, threshold)?;
        let terms = ((i - first) * width, (i - first + 1) * width);
        self.refine(state, terms, fast, head, team);
        self.survivors.retain(|survivor| stays(survivor.upper, threshold));
        if self.survivors.len() > vocab / MANY {
            return Ok(false);
        }
        let named = screen.exact.iter().filter_map(|id| u32::try_from(*id).ok());
        let named = named.filter(|row| (*row as usize) < vocab);
        self.survivors.extend(named.map(|row| Survivor { row, ..Survivor::default() }));
        rescore(&mut self.survivors, state, head, team);
        self.top.clear();
        let logits = self.survivors.iter().map(|survivor| (survivor.row as i32, survivor.logit));
        self.top.extend(logits);
        Ok(true)
    }
}

/// The logits of some rows, in full precision.
fn rescore(survivors: &mut [Survivor], state: &[f32], head: HeadOf<'_>, team: &Team<'_>) {
    let HeadOf { matrix, kernels, .. } = head;
    let parts = survivors.len().div_ceil(RESCORE);
    let mut slots = vec![(); team.threads()];
    let survivors = Cut::new(survivors, RESCORE);
    team.run_parts(parts, survivors, Cut::none(), &mut slots, |_, survivors, (), ()| {
        for survivor in survivors {
            let row = survivor.row as usize;
            let logit = std::slice::from_mut(&mut survivor.logit);
            kernels.row_dots(
                matrix.row_range(row..row + 1),
                matrix.kind(),
                state,
                state.len(),
                logit,
            );
        }
    });
}

/// Where the values of one state lie among those of several.
#[derive(Clone, Copy)]
struct Groups {
    vocab: usize,
    count: usize,
    state: usize,
}

impl Groups {
    /// Those of one group of rows.
    fn group(self, values: &[f32], group: usize) -> &[f32] {
        let row = group * GROUP;
        let part = row - row % PART_ROWS;
        let rows = PART_ROWS.min(self.vocab - part);
        let values = &values[part * self.count + self.state * rows..][..rows];
        &values[row - part..rows.min(row - part + GROUP)]
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
    fn best(&self, scores: &[f32]) -> f32 {
        let best = |best: f32, score: f32| if score > best { score } else { best };
        match self.mask {
            None => {
                // In lanes, so that they can be wide.
                let mut lanes = [f32::NEG_INFINITY; 16];
                for scores in scores.chunks(16) {
                    for (lane, score) in lanes.iter_mut().zip(scores) {
                        *lane = best(*lane, *score);
                    }
                }
                lanes.into_iter().fold(f32::NEG_INFINITY, best)
            }
            Some(_) => {
                let rows = scores.iter().enumerate().filter(|(row, _)| self.has(*row));
                rows.fold(f32::NEG_INFINITY, |a, (_, score)| best(a, *score))
            }
        }
    }
}

/// Bounds of at most [`PART_ROWS`] rows for each state, `[state][row]`.
fn bound_rows(
    kernels: &Kernels,
    planes: &Planes,
    splits: &[Split<'_>],
    rows: Range<usize>,
    fast: bool,
    score: &mut [f32],
    upper: &mut [f32],
) {
    let (n, k) = (rows.len(), planes.k());
    let live = &ALL[..n];
    let mut high = [[0; 2]; PART_ROWS];
    let mut middle = [0; PART_ROWS];
    let out = score.chunks_exact_mut(n).zip(upper.chunks_exact_mut(n));
    for (split, (score, upper)) in splits.iter().zip(out) {
        // A long stretch of one plane, then of the other.
        let of = PlaneOf { rows: planes.high(rows.clone()), k, codes: split.codes };
        kernels.nibbles(of, &mut high[..n]);
        if !fast {
            let of = PairsOf { rows: planes.middle(rows.clone()), k, codes: split.codes[0] };
            kernels.pairs(of, live, &mut middle[..n]);
        }
        let sums = RowSums {
            bounds: &planes.bounds()[rows.clone()],
            high: &high[..n],
            middle: (!fast).then_some(&middle[..n]),
        };
        kernels.limits(split, sums, score, upper);
    }
}
