//! First bounds of the head's rows for some states, and where they lie.

use super::head::PART_ROWS;
use crate::{
    kernels::{
        Kernels,
        screen::{Basis, FirstTermsOf, PlaneOf, RowSums, Split, StatesOf},
    },
    model::{Planes, RowMatrix},
    threads::{ask, ask_start},
};
use std::ops::Range;

/// Rows of which the likeliest is looked for. A multiple of the mask's words.
pub(super) const GROUP: usize = 64;

/// What a screening reads: the planes, the full rows, and the table.
#[derive(Clone, Copy)]
pub(super) struct HeadOf<'a> {
    pub planes: &'a Planes,
    pub matrix: &'a RowMatrix,
    pub kernels: &'a Kernels,
}

/// The bounds of one state among those of several.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub vocab: usize,
    pub count: usize,
    pub state: usize,
    /// As [`bound_rows`] writes them for each part: `[part][state][score, upper][row]`.
    pub limits: &'a [f32],
    /// `[part][state][group]`
    pub greatest: &'a [[f32; 2]],
}

impl<'a> Groups<'a> {
    /// The first row of the part of a group, its rows, and the group's among them.
    fn part(self, group: usize) -> (usize, usize, Range<usize>) {
        let row = group * GROUP;
        let part = row - row % PART_ROWS;
        let rows = PART_ROWS.min(self.vocab - part);
        (part, rows, row - part..rows.min(row - part + GROUP))
    }

    /// The scores and the upper bounds of one group of rows.
    pub(super) fn limits(self, group: usize) -> (&'a [f32], &'a [f32]) {
        let (part, rows, place) = self.part(group);
        let limits = &self.limits[2 * (part * self.count + self.state * rows)..][..2 * rows];
        let (score, upper) = limits.split_at(rows);
        (&score[place.clone()], &upper[place])
    }

    /// The greatest of both.
    pub(super) fn greatest(self, group: usize) -> [f32; 2] {
        let (part, rows, place) = self.part(group);
        let groups = rows.div_ceil(GROUP);
        self.greatest[part / GROUP * self.count + self.state * groups + place.start / GROUP]
    }
}

/// Bounds of at most [`PART_ROWS`] rows for each state, and the greatest of each group.
pub(super) fn bound_rows(
    head: HeadOf<'_>,
    (codes, splits): ([&[i8]; 2], &[Split]),
    rows: Range<usize>,
    basis: Basis,
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
    let middle = || {
        let middle = planes.middle(rows.clone());
        ask_start(middle);
        middle
    };
    match basis {
        Basis::Nibbles => {
            let terms = codes[0].chunks_exact(k).zip(codes[1].chunks_exact(k));
            for ((p, q), sums) in terms.zip(sums.chunks_exact_mut(n)) {
                kernels.nibbles(PlaneOf { rows: high, k, codes: [p, q] }, sums);
            }
        }
        Basis::BothTerms => kernels.states(StatesOf { high, middle: middle(), k, codes }, sums),
        Basis::FirstTerm => {
            let of = FirstTermsOf { high, middle: middle(), k, codes: codes[0] };
            kernels.first_terms(of, sums);
        }
    }
    let groups = greatest.chunks_exact_mut(n.div_ceil(GROUP));
    let out = limits.chunks_exact_mut(2 * n).zip(groups).zip(sums.chunks_exact(n));
    for (split, ((limits, greatest), sums)) in splits.iter().zip(out) {
        let (score, upper) = limits.split_at_mut(n);
        kernels.limits(split, RowSums { bounds, sums, basis }, score, upper);
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
