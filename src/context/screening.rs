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
    head::PART_ROWS,
};
use crate::{
    error::{Error, Result, try_zeroed},
    kernels::{
        Kernels,
        screen::{PairsOf, PlaneOf, RowSums, Split, StatesOf},
    },
    model::{FEW, Pairs, Planes, RowMatrix},
    sampler::Screen,
    tensor::Lines,
    threads::{Cut, Team, ask, ask_start},
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

impl Progress {
    /// Whether state `i` is one of them.
    fn has(self, i: usize, fast: bool) -> bool {
        self.fast == fast && (self.first..self.first + self.count).contains(&i)
    }
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
                Progress { first: i, count, fast, done: 0 }
            }
        };
        let count = progress.count;
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
                bound_rows(head, (codes, splits), rows, fast, sums, limits, greatest);
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
    fn refine(&mut self, state: usize, fast: bool, head: HeadOf<'_>, team: &Team<'_>) {
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
            let middle = if fast { sums(Pairs::Middle) } else { [0; GROUP] };
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
        self.refine(i - first, fast, head, team);
        self.survivors.retain(|survivor| stays(survivor.upper, threshold));
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

/// Where the values of one state lie among those of several.
#[derive(Clone, Copy)]
struct Groups {
    vocab: usize,
    count: usize,
    state: usize,
}

impl Groups {
    /// The first row of the part of a group, its rows, and the group's among them.
    fn part(self, group: usize) -> (usize, usize, Range<usize>) {
        let row = group * GROUP;
        let part = row - row % PART_ROWS;
        let rows = PART_ROWS.min(self.vocab - part);
        (part, rows, row - part..rows.min(row - part + GROUP))
    }

    /// The scores and the upper bounds of one group of rows.
    fn limits(self, limits: &[f32], group: usize) -> (&[f32], &[f32]) {
        let (part, rows, place) = self.part(group);
        let limits = &limits[2 * (part * self.count + self.state * rows)..][..2 * rows];
        let (score, upper) = limits.split_at(rows);
        (&score[place.clone()], &upper[place])
    }

    /// The greatest of both.
    fn greatest(self, greatest: &[[f32; 2]], group: usize) -> [f32; 2] {
        let (part, rows, place) = self.part(group);
        let groups = rows.div_ceil(GROUP);
        greatest[part / GROUP * self.count + self.state * groups + place.start / GROUP]
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

/// Bounds of at most [`PART_ROWS`] rows for each state, and the greatest of each group.
fn bound_rows(
    head: HeadOf<'_>,
    (codes, splits): ([&[i8]; 2], &[Split]),
    rows: Range<usize>,
    fast: bool,
    sums: &mut [[i32; 2]],
    limits: &mut [f32],
    greatest: &mut [[f32; 2]],
) {
    let HeadOf { planes, kernels, .. } = head;
    let (n, k) = (rows.len(), planes.k());
    let sums = &mut sums[..splits.len() * n];
    let (high, bounds) = (planes.high(rows.clone()), &planes.bounds()[rows.clone()]);
    // What is needed once the sums are there.
    ask(bounds);
    ask(limits);
    if !fast {
        ask_start(planes.middle(rows.clone()));
    }
    if fast {
        let terms = codes[0].chunks_exact(k).zip(codes[1].chunks_exact(k));
        for ((p, q), sums) in terms.zip(sums.chunks_exact_mut(n)) {
            kernels.nibbles(PlaneOf { rows: high, k, codes: [p, q] }, sums);
        }
    } else {
        kernels.states(StatesOf { high, middle: planes.middle(rows), k, codes }, sums);
    }
    let groups = greatest.chunks_exact_mut(n.div_ceil(GROUP));
    let out = limits.chunks_exact_mut(2 * n).zip(groups).zip(sums.chunks_exact(n));
    for (split, ((limits, greatest), sums)) in splits.iter().zip(out) {
        let (score, upper) = limits.split_at_mut(n);
        kernels.limits(split, RowSums { bounds, sums, likely: fast }, score, upper);
        for (greatest, (score, upper)) in
            greatest.iter_mut().zip(score.chunks(GROUP).zip(upper.chunks(GROUP)))
        {
            let upper = most(upper, |upper| if upper.is_nan() { f32::INFINITY } else { upper });
            *greatest = [most(score, |score| score), upper];
        }
    }
}

/// The greatest of some values, in lanes so that they can be wide; what is no number is left out.
fn most(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let greater = |most: f32, value: f32| if value > most { value } else { most };
    let mut lanes = [f32::NEG_INFINITY; 16];
    for values in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = greater(*lane, of(*value));
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, greater)
}
