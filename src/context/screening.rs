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
    bounds::{GROUP, Groups, HeadOf, bound_rows},
    eval::{Poll, Status},
    head::PART_ROWS,
};
use crate::{
    error::{Error, Result, try_zeroed},
    kernels::screen::{Basis, PairsOf, PlaneOf, ROWS, Split},
    model::{FEW, Pairs},
    sampler::Screen,
    tensor::Lines,
    threads::{Cut, Team},
};
use std::cmp::Ordering;

/// States that are bounded together.
pub(super) const STATES: usize = 8;
/// Rows of full precision in one part of the work.
const RESCORE: usize = 16;
/// A share of the vocabulary that survives above this, one in so many, and the full head is as cheap.
const MANY: usize = 8;

/// Which states were bounded, and how far.
#[derive(Clone, Copy, Debug)]
struct Progress {
    first: usize,
    count: usize,
    /// What the bounds are from.
    basis: Basis,
    /// Rows done.
    done: usize,
}

impl Progress {
    /// Whether state `i` is one of them.
    fn has(self, i: usize, fast: bool) -> bool {
        (self.basis == Basis::Nibbles) == fast && (self.first..self.first + self.count).contains(&i)
    }
}

/// A row that may be among the best.
#[derive(Clone, Copy, Debug, Default)]
struct Survivor {
    row: u32,
    /// About what the logit is: first, and by now.
    first: f32,
    score: f32,
    /// What it is at most.
    upper: f32,
    logit: f32,
}

/// Bounds on the logits of some states.
#[derive(Debug, Default)]
pub(super) struct Screening {
    progress: Option<Progress>,
    /// About what the logits are, and what they are at most: parts of [`PART_ROWS`] rows, `[part][state][score, upper][row]`.
    limits: Lines<f32>,
    /// The greatest score of each group, and the greatest upper bound, infinity if one is no number: `[part][state][group]`.
    greatest: Vec<[f32; 2]>,
    /// The states in two terms: their codes, `[state][n_embd]` each, and the rest.
    codes: [Lines<i8>; 2],
    splits: Vec<Split>,
    survivors: Vec<Survivor>,
    /// A row of the head, or the pairs of few, as the file holds them, for each thread.
    rows: Vec<Vec<u8>>,
    /// Ids with their logits: what the sampler gets.
    pub top: Vec<(i32, f32)>,
    /// The best score of each group, and the group: room to select among them.
    best: Vec<(f32, u32)>,
}

impl Screening {
    pub(super) fn forget(&mut self) {
        self.progress = None;
    }

    pub(super) fn bytes(&self) -> usize {
        self.limits.bytes()
            + 8 * (self.greatest.capacity() + self.best.capacity())
            + self.codes.iter().map(Lines::bytes).sum::<usize>()
            + size_of::<Survivor>() * self.survivors.capacity()
            + self.rows.iter().map(Vec::capacity).sum::<usize>()
            + 8 * self.top.capacity()
    }

    /// What [`bytes`](Self::bytes) is for one state of a model, without the survivors.
    pub(super) fn planned_bytes(vocab: usize, width: usize) -> usize {
        8 * vocab + 16 * vocab.div_ceil(GROUP) + 2 * width
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
        let (vocab, width) = (head.planes.rows(), head.planes.k());
        let mut progress = match self.progress.filter(|of| of.has(i, fast)) {
            Some(progress) => progress,
            None => {
                let count = (states.len() / width - i).min(STATES);
                self.progress = None;
                self.split(&states[i * width..][..count * width], vocab, width, team)?;
                let sure = || head.kernels.sure_basis(&self.splits);
                let basis = if fast { Basis::Nibbles } else { sure() };
                Progress { first: i, count, basis, done: 0 }
            }
        };
        let Progress { count, basis, .. } = progress;
        let Self { limits, greatest, codes, splits, .. } = self;
        let (codes, splits) = ([&codes[0][..], &codes[1]], &splits[..]);
        // What a thread works in; made when there is work.
        let mut slots = Vec::new();
        let mut stopped = None;
        while progress.done < vocab {
            stopped = poll.stop();
            if stopped.is_some() {
                break;
            }
            if slots.is_empty() {
                let sums = || try_zeroed(count * PART_ROWS, "sums of a head's rows");
                slots = (0..team.threads()).map(|_| sums()).collect::<Result<_>>()?;
            }
            let end = |from: usize| vocab.min(from.saturating_add(poll.rows()));
            let (from, to) = (progress.done, end(progress.done));
            let groups = from / GROUP * count..to.div_ceil(GROUP) * count;
            let limits =
                Cut::new(&mut limits[2 * from * count..2 * to * count], 2 * PART_ROWS * count);
            let greatest = Cut::new(&mut greatest[groups], PART_ROWS / GROUP * count);
            let parts = (to - from).div_ceil(PART_ROWS);
            let next = (end(to) - to).div_ceil(PART_ROWS);
            team.read_ahead(|slot| match next {
                0 => [&[], &[], &[]],
                _ => {
                    let first = to + team.first_part(next, slot) * PART_ROWS;
                    [head.planes.high(first..vocab), &[], &[]]
                }
            });
            team.run_parts(parts, limits, greatest, &mut slots, |part, limits, greatest, sums| {
                let first = from + part * PART_ROWS;
                let rows = first..first + limits.len() / (2 * count);
                bound_rows(head, (codes, splits), rows, basis, sums, limits, greatest);
            });
            progress.done = to;
        }
        self.progress = Some(progress);
        Ok(stopped)
    }

    /// Splits states, in room that is theirs.
    fn split(&mut self, states: &[f32], vocab: usize, width: usize, team: &Team<'_>) -> Result<()> {
        let count = states.len() / width;
        if self.limits.len() != 2 * count * vocab || self.codes[0].len() != states.len() {
            *self = Self::default();
            self.limits = Lines::zeroed(2 * count * vocab, "bounds of logits")?;
            self.greatest = try_zeroed(count * vocab.div_ceil(GROUP), "bounds of logits")?;
            self.best = try_zeroed(vocab.div_ceil(GROUP), "bounds of logits")?;
            let codes = || Lines::zeroed(states.len(), "terms of a state");
            self.codes = [codes()?, codes()?];
            self.splits = try_zeroed(count, "terms of a state")?;
        }
        let [p, q] = &mut self.codes;
        let terms = (Cut::new(p, width), Cut::new(q, width));
        let (splits, mut slots) = (Cut::new(&mut self.splits, 1), vec![(); team.threads()]);
        team.run_parts(count, terms, splits, &mut slots, |i, (p, q), split, ()| {
            split[0] = Split::new(&states[i * width..][..width], p, q);
        });
        Ok(())
    }

    /// Room for a row of the head, or for the pairs of few, in each thread.
    fn make_rows(&mut self, bytes: usize, threads: usize) -> Result<()> {
        if self.rows.len() < threads || self.rows.iter().any(|row| row.len() != bytes) {
            let row = || try_zeroed(bytes, "rows of the head");
            self.rows = (0..threads).map(|_| row()).collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// The likeliest rows, at most `k`: at most one of each group.
    fn prospects(&mut self, of: Groups, screen: &Screen<'_>) {
        let Self { limits, greatest, best, survivors, .. } = self;
        for (group, best) in best.iter_mut().enumerate() {
            let allowed = Allowed { mask: screen.allowed, first: group * GROUP };
            let greatest = || of.greatest(greatest, group)[0];
            *best = (allowed.best(greatest, of.limits(limits, group).0), group as u32);
        }
        let k = screen.k.min(best.len());
        if k < best.len() {
            best.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0));
        }
        survivors.clear();
        for (most, group) in best[..k].iter().filter(|best| best.0 > f32::NEG_INFINITY) {
            let first = *group as usize * GROUP;
            let allowed = Allowed { mask: screen.allowed, first };
            let mut scores = of.limits(limits, *group as usize).0.iter().enumerate();
            let row = scores.find(|(row, score)| *score == most && allowed.has(*row));
            survivors.extend(
                row.map(|(row, _)| Survivor { row: (first + row) as u32, ..Survivor::default() }),
            );
        }
    }

    /// The rows that may not be below a threshold.
    fn survive(&mut self, of: Groups, screen: &Screen<'_>, threshold: f32) -> Result<()> {
        let Self { limits, greatest, best, survivors, .. } = self;
        survivors.clear();
        for group in 0..best.len() {
            if !stays(of.greatest(greatest, group)[1], threshold) {
                continue;
            }
            let more = survivors.try_reserve(GROUP);
            more.map_err(|_| Error::OutOfMemory {
                what: "rows of the head",
                bytes: (survivors.len() * size_of::<Survivor>()) as u64,
            })?;
            let first = group * GROUP;
            let allowed = Allowed { mask: screen.allowed, first };
            let (score, upper) = of.limits(limits, group);
            // Which stay, without a branch for each.
            let mut stay = [false; GROUP];
            for (stay, upper) in stay.iter_mut().zip(upper) {
                *stay = stays(*upper, threshold);
            }
            for (eight, stay) in stay.as_chunks::<8>().0.iter().enumerate() {
                if *stay == [false; 8] {
                    continue;
                }
                for (row, stay) in (8 * eight..).zip(stay) {
                    if *stay && allowed.has(row) {
                        let (score, upper, row) = (score[row], upper[row], (first + row) as u32);
                        survivors.push(Survivor { row, first: score, score, upper, logit: 0.0 });
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads what the first bounds left out of the survivors: finer bounds, and sure ones.
    fn refine(&mut self, state: usize, basis: Basis, head: HeadOf<'_>, team: &Team<'_>) {
        let HeadOf { planes, kernels, .. } = head;
        let (width, split) = (planes.k(), &self.splits[state]);
        let codes = &self.codes[0][state * width..][..width];
        let parts = self.survivors.len().div_ceil(GROUP);
        let survivors = Cut::new(&mut self.survivors, GROUP);
        team.run_parts(parts, survivors, Cut::none(), &mut self.rows, |_, survivors, (), room| {
            let mut live = [0; GROUP];
            live.iter_mut().zip(&*survivors).for_each(|(live, survivor)| *live = survivor.row);
            let live = &live[..survivors.len()];
            let mut sums = |pairs| {
                let mut sums = [0; GROUP];
                let (rows, live) = planes.pairs(pairs, live, room);
                let of = PairsOf { rows, k: width, codes };
                kernels.pairs(of, live, &mut sums[..live.len()]);
                sums
            };
            let low = sums(Pairs::Low);
            let middle = if basis == Basis::Nibbles { sums(Pairs::Middle) } else { [0; GROUP] };
            for ((survivor, low), middle) in survivors.iter_mut().zip(low).zip(middle) {
                let (bounds, known) = (&planes.bounds()[survivor.row as usize], survivor.first);
                (survivor.score, survivor.upper) = match basis {
                    Basis::Nibbles => split.refine_nibbles(bounds, known, middle, low),
                    Basis::BothTerms => split.refine_both_terms(bounds, known, low),
                    Basis::FirstTerm => split.refine_first_term(bounds, known, low),
                }
            }
        });
    }

    /// The second term of the state too, where it was left out.
    fn refine_second(&mut self, state: usize, head: HeadOf<'_>, team: &Team<'_>) {
        let HeadOf { planes, kernels, .. } = head;
        let (k, split) = (planes.k(), &self.splits[state]);
        let codes = self.codes.each_ref().map(|codes| &codes[state * k..][..k]);
        let parts = self.survivors.len().div_ceil(RESCORE);
        let survivors = Cut::new(&mut self.survivors, RESCORE);
        team.run_parts(parts, survivors, Cut::none(), &mut self.rows, |_, survivors, (), room| {
            for survivors in survivors.chunks_mut(ROWS) {
                // A whole group: the last one again where there are fewer.
                let rows = |i: usize| survivors[i.min(survivors.len() - 1)].row as usize;
                let rows = planes.group(std::array::from_fn(rows), room);
                let mut sums = [[0; 2]; ROWS];
                kernels.nibbles(PlaneOf { rows, k, codes }, &mut sums);
                for (survivor, [_, second]) in survivors.iter_mut().zip(sums) {
                    let bounds = &planes.bounds()[survivor.row as usize];
                    let scores = [survivor.first, survivor.score];
                    (survivor.score, survivor.upper) =
                        split.refine_second_term(bounds, scores, second);
                }
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
        let Some(Progress { first, count, basis, .. }) = self.progress else { return Ok(false) };
        let vocab = head.planes.rows();
        let groups = Groups { vocab, count, state: i - first };
        let room = head.matrix.row_bytes().max(FEW * head.planes.k() / 4);
        self.make_rows(room, team.threads())?;
        // k logits that are likely to be the best: the k best are not below the least of these.
        self.prospects(groups, screen);
        let mut threshold = f32::NEG_INFINITY;
        if self.survivors.len() >= screen.k {
            rescore(&mut self.survivors, &mut self.rows, state, head, team);
            threshold = self.survivors.iter().fold(f32::INFINITY, |least, survivor| match survivor
                .logit
                .partial_cmp(&least)
            {
                Some(Ordering::Greater | Ordering::Equal) => least,
                Some(Ordering::Less) => survivor.logit,
                None => f32::NEG_INFINITY,
            });
        }
        self.survive(groups, screen, threshold)?;
        self.refine(i - first, basis, head, team);
        self.survivors.retain(|survivor| stays(survivor.upper, threshold));
        if basis == Basis::FirstTerm {
            self.refine_second(i - first, head, team);
            self.survivors.retain(|survivor| stays(survivor.upper, threshold));
        }
        if self.survivors.len() > vocab / MANY {
            return Ok(false);
        }
        let named = screen.exact.iter().filter_map(|id| u32::try_from(*id).ok());
        let named = named.filter(|row| (*row as usize) < vocab);
        self.survivors.extend(named.map(|row| Survivor { row, ..Survivor::default() }));
        rescore(&mut self.survivors, &mut self.rows, state, head, team);
        self.top.clear();
        let logits = self.survivors.iter().map(|survivor| (survivor.row as i32, survivor.logit));
        self.top.extend(logits);
        Ok(true)
    }
}

/// The logits of some rows, in full precision.
fn rescore(
    survivors: &mut [Survivor],
    rows: &mut [Vec<u8>],
    state: &[f32],
    head: HeadOf<'_>,
    team: &Team<'_>,
) {
    let HeadOf { matrix, kernels, .. } = head;
    let parts = survivors.len().div_ceil(RESCORE);
    let survivors = Cut::new(survivors, RESCORE);
    team.run_parts(parts, survivors, Cut::none(), rows, |_, survivors, (), room| {
        for survivor in survivors {
            let row = matrix.row(survivor.row as usize, room);
            let logit = std::slice::from_mut(&mut survivor.logit);
            kernels.row_dots(row, matrix.kind(), state, state.len(), logit);
        }
    });
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

    /// The best of the allowed, minus infinity if there is none; `greatest` is that of all.
    fn best(&self, greatest: impl Fn() -> f32, scores: &[f32]) -> f32 {
        match self.mask {
            None => greatest(),
            Some(_) => {
                let rows = scores.iter().enumerate().filter(|(row, _)| self.has(*row));
                rows.fold(
                    f32::NEG_INFINITY,
                    |best, (_, score)| {
                        if *score > best { *score } else { best }
                    },
                )
            }
        }
    }
}
