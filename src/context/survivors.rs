//! Rows of the head that may be among the best: found by their first bounds, bounded again, and computed.

use super::bounds::{GROUP, Groups, HeadOf};
use crate::{
    error::{Error, Result, try_zeroed},
    kernels::screen::{Basis, PairsOf, PlaneOf, ROWS, Split},
    model::{FEW, Pairs},
    sampler::Screen,
    threads::{Cut, CutAt, Team, ask},
};
use std::cmp::Ordering;

/// Groups that are looked through in one part of the work.
const LOOK: usize = 64;
/// Groups whose bounds are asked for ahead.
const AHEAD: usize = 8;
/// Rows that are bounded together.
const BATCH: usize = 256;
/// The first rows of a part are asked for while it is looked through: for those behind them the kernels ask.
const START: usize = 12;
/// Rows in one part of the work: with the second term, and in full precision.
const SECOND: usize = 16;
const WHOLE: usize = 4;

/// A row that may be among the best.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survivor {
    pub row: u32,
    /// About what the logit is: first, and by now.
    pub first: f32,
    pub score: f32,
    /// What it is at most.
    pub upper: f32,
    pub logit: f32,
}

impl Survivor {
    /// A row of which nothing is known.
    pub(super) fn new(row: u32) -> Self {
        Self { row, ..Self::default() }
    }
}

/// The terms of one state: its codes, and the rest.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub codes: [&'a [i8]; 2],
    pub split: &'a Split,
}

/// All such rows of one state, in order; and what is needed to find them.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    pub list: Vec<Survivor>,
    /// Likely ones, of which a threshold is made.
    pub likely: Vec<Survivor>,
    /// Which rows of each group.
    masks: Vec<u64>,
    /// How many of them come before each part of the work.
    bounds: Vec<usize>,
    /// A row of the head, or the pairs of few, as the file holds them, for each thread.
    rooms: Vec<Vec<u8>>,
}

impl Survivors {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Survivor>() * (self.list.capacity() + self.likely.capacity())
            + 8 * (self.masks.capacity() + self.bounds.capacity())
            + self.rooms.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Room for what the threads do with the rows of a head.
    pub(super) fn make_room(&mut self, head: HeadOf<'_>, team: &Team<'_>) -> Result<()> {
        let bytes = head.matrix.row_bytes().max(FEW * head.planes.k() / 4);
        let (threads, groups) = (team.threads(), head.planes.rows().div_ceil(GROUP));
        if self.rooms.len() < threads || self.rooms.iter().any(|room| room.len() != bytes) {
            let room = || try_zeroed(bytes, "rows of the head");
            self.rooms = (0..threads).map(|_| room()).collect::<Result<_>>()?;
        }
        if self.masks.len() != groups {
            let masks = try_zeroed(groups, "rows of the head")?;
            self.bounds = try_zeroed(groups.div_ceil(LOOK) + 1, "rows of the head")?;
            self.masks = masks;
        }
        Ok(())
    }

    /// Finds the rows whose first bounds are not below a threshold, and reads what these left out: finer bounds, and sure ones.
    pub(super) fn find(
        &mut self,
        groups: Groups<'_>,
        (screen, threshold): (&Screen<'_>, f32),
        of: (Terms<'_>, Basis),
        head: HeadOf<'_>,
        team: &Team<'_>,
    ) -> Result<()> {
        let found = self.look(groups, (screen, threshold), team);
        let Self { list, masks, bounds, rooms, .. } = self;
        list.clear();
        list.try_reserve(found).map_err(|_| Error::OutOfMemory {
            what: "rows of the head",
            bytes: (found * size_of::<Survivor>()) as u64,
        })?;
        list.resize(found, Survivor::default());
        let (planes, few) = (head.planes, found <= FEW);
        // Few are one part, which needs no other thread.
        let whole = [0, found];
        let (bounds, look) = if few { (&whole[..], masks.len()) } else { (&bounds[..], LOOK) };
        let (parts, cut) = (bounds.len() - 1, CutAt::new(list, bounds, 1));
        team.run_parts(parts, cut, Cut::none(), rooms, |part, survivors, (), room| {
            let mut out = survivors.iter_mut().enumerate();
            let marked = masks.iter().enumerate().skip(part * look).take(look);
            for (group, mask) in marked.filter(|(_, mask)| **mask != 0) {
                if masks.get(group + AHEAD).is_some_and(|mask| *mask != 0) {
                    ask(groups.limits(group + AHEAD).0);
                }
                let scores = groups.limits(group).0;
                for (i, (n, survivor)) in places(*mask).zip(&mut out) {
                    let row = group * GROUP + i;
                    ask(&planes.bounds()[row..=row]);
                    if n < START && !few {
                        ask(planes.low(row..row + 1));
                    }
                    *survivor = Survivor { first: scores[i], ..Survivor::new(row as u32) };
                }
            }
            let room = if few { room } else { &mut [][..] };
            survivors.chunks_mut(BATCH).for_each(|batch| refine(batch, of, head, room));
        });
        Ok(())
    }

    /// Marks the rows whose first bounds are not below a threshold, and says how many there are.
    fn look(
        &mut self,
        groups: Groups<'_>,
        (screen, threshold): (&Screen<'_>, f32),
        team: &Team<'_>,
    ) -> usize {
        let Self { masks, bounds, rooms, .. } = self;
        let (parts, count) = (bounds.len() - 1, masks.len());
        let any = |group| stays(groups.greatest(group)[1], threshold);
        let looks = Cut::new(masks, LOOK);
        team.run_parts(parts, looks, Cut::none(), rooms, |part, masks, (), _| {
            for (group, mask) in (part * LOOK..).zip(masks) {
                if group + AHEAD < count && any(group + AHEAD) {
                    ask(groups.limits(group + AHEAD).1);
                }
                *mask = if any(group) {
                    staying(groups.limits(group).1, threshold) & allowed(screen.allowed, group)
                } else {
                    0
                };
            }
        });
        let mut found = 0;
        for (bound, masks) in bounds[1..].iter_mut().zip(masks.chunks(LOOK)) {
            found += masks.iter().map(|mask| mask.count_ones() as usize).sum::<usize>();
            *bound = found;
        }
        found
    }

    /// The second term of the state too, where it was left out.
    pub(super) fn refine_second(&mut self, of: Terms<'_>, head: HeadOf<'_>, team: &Team<'_>) {
        let HeadOf { planes, kernels, .. } = head;
        let Terms { codes, split } = of;
        let parts = self.list.len().div_ceil(SECOND);
        let survivors = Cut::new(&mut self.list, SECOND);
        team.run_parts(parts, survivors, Cut::none(), &mut self.rooms, |_, survivors, (), room| {
            for survivors in survivors.chunks_mut(ROWS) {
                // A whole group: the last one again where there are fewer.
                let rows = |i: usize| survivors[i.min(survivors.len() - 1)].row as usize;
                let rows = planes.group(std::array::from_fn(rows), room);
                let mut sums = [[0; 2]; ROWS];
                kernels.nibbles(PlaneOf { rows, k: planes.k(), codes }, &mut sums);
                for (survivor, [_, second]) in survivors.iter_mut().zip(sums) {
                    let bounds = &planes.bounds()[survivor.row as usize];
                    let scores = [survivor.first, survivor.score];
                    (survivor.score, survivor.upper) =
                        split.refine_second_term(bounds, scores, second);
                }
            }
        });
    }

    /// Leaves those whose bounds are not below a threshold.
    pub(super) fn retain(&mut self, threshold: f32) {
        self.list.retain(|survivor| stays(survivor.upper, threshold));
    }

    /// Computes the likely rows: so many of the best are not below the least of their logits. Minus infinity, and no likely
    /// rows, if there are fewer.
    pub(super) fn threshold(
        &mut self,
        many: usize,
        state: &[f32],
        head: HeadOf<'_>,
        team: &Team<'_>,
    ) -> f32 {
        if self.likely.len() < many {
            self.likely.clear();
            return f32::NEG_INFINITY;
        }
        rescore(&mut self.likely, &mut self.rooms, state, head, team);
        self.likely.sort_unstable_by_key(|likely| likely.row);
        self.likely.iter().fold(f32::INFINITY, |least, likely| {
            match likely.logit.partial_cmp(&least) {
                Some(Ordering::Greater | Ordering::Equal) => least,
                Some(Ordering::Less) => likely.logit,
                None => f32::NEG_INFINITY,
            }
        })
    }

    /// The logits of all of them, and of the likely rows, which have theirs.
    pub(super) fn rescore(
        &mut self,
        state: &[f32],
        head: HeadOf<'_>,
        team: &Team<'_>,
    ) -> impl Iterator<Item = (i32, f32)> {
        let Self { list, likely, rooms, .. } = self;
        list.retain(|survivor| likely.binary_search_by_key(&survivor.row, |of| of.row).is_err());
        rescore(list, rooms, state, head, team);
        list.iter().chain(&*likely).map(|survivor| (survivor.row as i32, survivor.logit))
    }
}

/// The logits of some rows, in full precision.
fn rescore(
    survivors: &mut [Survivor],
    rooms: &mut [Vec<u8>],
    state: &[f32],
    head: HeadOf<'_>,
    team: &Team<'_>,
) {
    let HeadOf { matrix, kernels, .. } = head;
    let parts = survivors.len().div_ceil(WHOLE);
    let survivors = Cut::new(survivors, WHOLE);
    team.run_parts(parts, survivors, Cut::none(), rooms, |_, survivors, (), room| {
        for survivor in survivors {
            let row = matrix.row(survivor.row as usize, room);
            let logit = std::slice::from_mut(&mut survivor.logit);
            kernels.row_dots(row, matrix.kind(), state, state.len(), logit);
        }
    });
}

/// Finer bounds of at most [`BATCH`] rows. Few are read past a map, if there is room for them.
fn refine(
    survivors: &mut [Survivor],
    (of, basis): (Terms<'_>, Basis),
    head: HeadOf<'_>,
    room: &mut [u8],
) {
    let HeadOf { planes, kernels, .. } = head;
    let Terms { codes: [codes, _], split } = of;
    let mut live = [0; BATCH];
    live.iter_mut().zip(&*survivors).for_each(|(live, survivor)| *live = survivor.row);
    let live = &live[..survivors.len()];
    let mut sums = |pairs| {
        let mut sums = [0; BATCH];
        let (rows, live) = planes.pairs(pairs, live, room);
        kernels.pairs(PairsOf { rows, k: planes.k(), codes }, live, &mut sums[..live.len()]);
        sums
    };
    let low = sums(Pairs::Low);
    let middle = if basis == Basis::Nibbles { sums(Pairs::Middle) } else { [0; BATCH] };
    for ((survivor, low), middle) in survivors.iter_mut().zip(low).zip(middle) {
        let (bounds, known) = (&planes.bounds()[survivor.row as usize], survivor.first);
        (survivor.score, survivor.upper) = match basis {
            Basis::Nibbles => split.refine_nibbles(bounds, known, middle, low),
            Basis::BothTerms => split.refine_both_terms(bounds, known, low),
            Basis::FirstTerm => split.refine_first_term(bounds, known, low),
        }
    }
}

/// Whether a row may be among the best: an upper bound that is no number is not below anything.
fn stays(upper: f32, threshold: f32) -> bool {
    !matches!(upper.partial_cmp(&threshold), Some(Ordering::Less))
}

/// Which rows of a group stay.
fn staying(upper: &[f32], threshold: f32) -> u64 {
    // Without a branch for each, so that it can be wide.
    let mut stay = [0u8; GROUP];
    for (stay, upper) in stay.iter_mut().zip(upper) {
        *stay = u8::from(stays(*upper, threshold));
    }
    let eights = stay.as_chunks::<8>().0.iter().map(|eight| {
        // The lowest bit of each byte, the first lowest.
        u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56
    });
    eights.enumerate().fold(0, |mask, (i, eight)| mask | eight << (8 * i))
}

/// The rows of a group that grammars allow.
pub(super) fn allowed(mask: Option<&[u32]>, group: usize) -> u64 {
    let word = |of: &[u32], i| of.get(i).map_or(0, |word| u64::from(*word));
    mask.map_or(u64::MAX, |of| word(of, 2 * group) | word(of, 2 * group + 1) << 32)
}

/// The places of a mask's bits, the first lowest.
pub(super) fn places(mask: u64) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(mask), |mask| Some(mask & mask.wrapping_sub(1)))
        .take_while(|mask| *mask != 0)
        .map(|mask| mask.trailing_zeros() as usize)
}

const _: () = assert!(GROUP == 64, "a mask has a bit for each row");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_row_that_stays() {
        let mut rng = fastrand::Rng::with_seed(4);
        for len in [0, 1, 7, 8, 33, 63, 64] {
            let mut upper: Vec<f32> = (0..len).map(|_| rng.f32()).collect();
            if len > 8 {
                (upper[3], upper[8]) = (f32::NAN, f32::INFINITY);
            }
            for threshold in [f32::NEG_INFINITY, -1.0, 0.25, 0.5, 2.0] {
                let mask = staying(&upper, threshold);
                let want: Vec<_> = (0..len).filter(|i| stays(upper[*i], threshold)).collect();
                assert_eq!(places(mask).collect::<Vec<_>>(), want, "{len} rows, {threshold}");
            }
        }
    }

    #[test]
    fn a_grammar_allows_whole_groups_of_its_words() {
        assert_eq!(allowed(None, 7), u64::MAX);
        let words = [1, 2, 3];
        assert_eq!(allowed(Some(&words), 0), 2 << 32 | 1);
        assert_eq!(allowed(Some(&words), 1), 3);
        assert_eq!(allowed(Some(&words), 2), 0);
    }
}
