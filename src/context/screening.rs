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
    survivors::{Survivor, Survivors, Terms, allowed, places},
};
use crate::{
    error::{Result, try_zeroed},
    kernels::screen::{Basis, Split},
    sampler::Screen,
    tensor::Lines,
    threads::{Cut, Team},
};

/// States that are bounded together.
pub(super) const STATES: usize = 8;
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
    survivors: Survivors,
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
            + self.survivors.bytes()
            + 8 * self.top.capacity()
    }

    /// What [`bytes`](Self::bytes) is for one state of a model, without the survivors.
    pub(super) fn planned_bytes(vocab: usize, width: usize) -> usize {
        8 * vocab + 24 * vocab.div_ceil(GROUP) + 2 * width
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
            // All of it or nothing: what is half there would fit the next state.
            *self = Self::default();
            let codes = || Lines::zeroed(states.len(), "terms of a state");
            *self = Self {
                limits: Lines::zeroed(2 * count * vocab, "bounds of logits")?,
                greatest: try_zeroed(count * vocab.div_ceil(GROUP), "bounds of logits")?,
                best: try_zeroed(vocab.div_ceil(GROUP), "bounds of logits")?,
                codes: [codes()?, codes()?],
                splits: try_zeroed(count, "terms of a state")?,
                ..Self::default()
            };
        }
        let [p, q] = &mut self.codes;
        let terms = (Cut::new(p, width), Cut::new(q, width));
        let (splits, mut slots) = (Cut::new(&mut self.splits, 1), vec![(); team.threads()]);
        team.run_parts(count, terms, splits, &mut slots, |i, (p, q), split, ()| {
            split[0] = Split::new(&states[i * width..][..width], p, q);
        });
        Ok(())
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
        let (vocab, width, at) = (head.planes.rows(), head.planes.k(), i - first);
        let Self { limits, greatest, codes, splits, survivors, top, best, .. } = self;
        let groups = Groups { vocab, count, state: at, limits, greatest };
        let codes = codes.each_ref().map(|codes| &codes[at * width..][..width]);
        let terms = Terms { codes, split: &splits[at] };
        survivors.make_room(head, team)?;
        // k logits that are likely to be the best: the k best are not below the least of these.
        prospects(groups, screen, best, &mut survivors.likely);
        let threshold = survivors.threshold(screen.k, state, head, team);
        survivors.find(groups, (screen, threshold), (terms, basis), head, team)?;
        survivors.retain(threshold);
        if basis == Basis::FirstTerm {
            survivors.refine_second(terms, head, team);
            survivors.retain(threshold);
        }
        if survivors.list.len() > vocab / MANY {
            return Ok(false);
        }
        let named = screen.exact.iter().filter_map(|id| u32::try_from(*id).ok());
        let named = named.filter(|row| (*row as usize) < vocab);
        survivors.list.extend(named.map(Survivor::new));
        top.clear();
        top.extend(survivors.rescore(state, head, team));
        Ok(true)
    }
}

/// The likeliest rows, at most as many as a sampler asks for: at most one of each group.
fn prospects(
    groups: Groups<'_>,
    screen: &Screen<'_>,
    best: &mut [(f32, u32)],
    out: &mut Vec<Survivor>,
) {
    for (group, best) in best.iter_mut().enumerate() {
        let most = match screen.allowed {
            None => groups.greatest(group)[0],
            of => {
                let scores = groups.limits(group).0;
                let scores = places(allowed(of, group)).filter_map(|row| scores.get(row));
                scores.fold(f32::NEG_INFINITY, |most, score| most.max(*score))
            }
        };
        *best = (most, group as u32);
    }
    let k = screen.k.min(best.len());
    if k < best.len() {
        best.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0));
    }
    out.clear();
    for (most, group) in best[..k].iter().filter(|best| best.0 > f32::NEG_INFINITY) {
        let group = *group as usize;
        let scores = groups.limits(group).0;
        let row = places(allowed(screen.allowed, group)).find(|row| scores.get(*row) == Some(most));
        out.extend(row.map(|row| Survivor::new((group * GROUP + row) as u32)));
    }
}
