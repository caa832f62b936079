//! How the threads share what a few rows read of the cache.
//!
//! A unit is one key/value head of one row, over one span if the rows are cut by spans. Units lie in the order `[row][span][kv head]`:
//! the heads of a page are neighbours in memory, and a thread that reads them block after block, all its heads of a block
//! before the next, reads long pieces of it. Part by part the same chains are worked out whatever the order.

use super::Row;
use crate::{
    kernels::{BLOCK, Kernels, SPAN, finish},
    threads::Team,
};
use std::{collections::HashSet, ops::Range};

/// Rows up to this many are cut by spans when their sequences are long.
const FEW_ROWS: usize = 4;

/// What some rows read.
pub(super) struct Reading {
    /// Of each row.
    positions: Vec<usize>,
    heads: usize,
    /// The most that a row has; one where rows are not cut.
    spans: usize,
    cut: bool,
    /// Where parts of the work begin, and the end, in units.
    bounds: Vec<usize>,
}

/// Neighbouring heads of one row and span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its units.
    pub units: Range<usize>,
    pub row: usize,
    pub span: usize,
    pub heads: Range<usize>,
}

impl Reading {
    /// The spans of the longest sequence, if there are so few rows that the work is cut by them.
    pub(super) fn spans(rows: &[Row], team: &Team<'_>) -> Option<usize> {
        let spans = |row: &Row| (row.position as usize + 1).div_ceil(SPAN);
        let spans = rows.iter().map(spans).max().unwrap_or(0);
        (rows.len() <= FEW_ROWS && spans > 1 && team.threads() > 1).then_some(spans)
    }

    /// Of rows each of which is the only one of its sequence; none if they are not.
    pub(super) fn alone(rows: &[Row], heads: usize, team: &Team<'_>) -> Option<Self> {
        let mut seen = HashSet::new();
        let alone = rows.iter().all(|row| seen.insert(row.sequence));
        alone.then(|| Self::new(rows, heads, Self::spans(rows, team), team))
    }

    /// Of rows, cut by spans up to `spans`, or not at all.
    pub(super) fn new(rows: &[Row], heads: usize, spans: Option<usize>, team: &Team<'_>) -> Self {
        let positions = rows.iter().map(|row| row.position as usize).collect();
        let (cut, spans) = (spans.is_some(), spans.unwrap_or(1));
        let mut reading = Self { positions, heads, spans, cut, bounds: Vec::new() };
        reading.bounds = reading.cuts(team);
        reading
    }

    /// Parts of the work.
    pub(super) fn parts(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Where the parts begin, and the end, in units.
    pub(super) fn bounds(&self) -> &[usize] {
        &self.bounds
    }

    /// The units of a part.
    pub(super) fn part(&self, part: usize) -> Range<usize> {
        self.bounds[part]..self.bounds[part + 1]
    }

    /// Whether rows are cut by spans.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn units(&self) -> usize {
        self.positions.len() * self.spans * self.heads
    }

    /// The first unit of the span in which a row's own position lies.
    pub(super) fn own(&self, row: usize) -> usize {
        let span = if self.cut { self.positions[row] / SPAN } else { 0 };
        (row * self.spans + span) * self.heads
    }

    /// Blocks that each head of a row reads in a span.
    fn blocks(&self, row: usize, span: usize) -> usize {
        let end = self.positions[row] + 1;
        if !self.cut {
            return end.div_ceil(BLOCK);
        }
        end.saturating_sub(span * SPAN).min(SPAN).div_ceil(BLOCK)
    }

    /// Cuts the work as a [`stream`](Team::stream) of blocks, so that each thread has one long part and short ones after it, to
    /// the nearest unit.
    fn cuts(&self, team: &Team<'_>) -> Vec<usize> {
        let mut middles = Vec::with_capacity(self.units());
        let mut end = 0;
        for row in 0..self.positions.len() {
            for span in 0..self.spans {
                let blocks = self.blocks(row, span);
                for _ in 0..self.heads {
                    // Twice the middle.
                    middles.push(2 * end + blocks);
                    end += blocks;
                }
            }
        }
        let nearest = |bound: usize| middles.partition_point(|middle| *middle < 2 * bound);
        team.stream(end).into_iter().map(nearest).collect()
    }

    /// What some units are, in order; spans that a row does not reach are left out.
    pub(super) fn pieces(&self, units: Range<usize>) -> impl Iterator<Item = Piece> + '_ {
        let groups = units.start / self.heads..units.end.div_ceil(self.heads);
        groups
            .map(move |group| {
                let first = group * self.heads;
                let units = units.start.max(first)..units.end.min(first + self.heads);
                let heads = units.start - first..units.end - first;
                Piece { units, row: group / self.spans, span: group % self.spans, heads }
            })
            .filter(|piece| self.blocks(piece.row, piece.span) > 0 && !piece.units.is_empty())
    }

    /// Merges states of spans, `[row][span][kv head]` as [`OnlineBuffer::put`](super::scratch::OnlineBuffer::put) wrote them: what
    /// the queries `[group][head_dim]` of a row and a head read goes to `place(row, head)`.
    pub(super) fn merge(
        &self,
        kernels: &Kernels,
        (group, dim): (usize, usize),
        partial: &mut [f32],
        place: impl Fn(usize, usize) -> usize,
        out: &mut [f32],
    ) {
        let state = group * (dim + 2);
        let rows = partial.chunks_exact_mut(self.spans * self.heads * state);
        for (row, (states, position)) in rows.zip(&self.positions).enumerate() {
            let (first, rest) = states.split_at_mut(self.heads * state);
            for (head, first) in first.chunks_exact_mut(state).enumerate() {
                let (max, first) = first.split_at_mut(group);
                let (sum, acc) = first.split_at_mut(group);
                for later in rest.chunks_exact(self.heads * state).take(position / SPAN) {
                    let later = &later[head * state..][..state];
                    for i in 0..group {
                        let acc2 = &later[2 * group + i * dim..][..dim];
                        let acc = &mut acc[i * dim..][..dim];
                        let (max2, sum2) = (later[i], later[group + i]);
                        kernels.merge(&mut max[i], &mut sum[i], acc, max2, sum2, acc2);
                    }
                }
                for (values, sum) in acc.chunks_exact_mut(dim).zip(sum) {
                    finish(values, *sum);
                }
                out[place(row, head)..][..group * dim].copy_from_slice(acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::{ThreadPool, ThreadPoolOptions};

    fn rows(positions: &[u32]) -> Vec<Row> {
        let row = |(sequence, position): (usize, &u32)| Row {
            token: 0,
            sequence,
            position: *position,
            want: true,
            new: true,
        };
        positions.iter().enumerate().map(row).collect()
    }

    #[test]
    fn every_head_of_every_span_is_read_once_and_in_order() {
        for threads in 1..=3 {
            let options = ThreadPoolOptions { threads, ..ThreadPoolOptions::default() };
            let pool = ThreadPool::new(&options).expect("a pool");
            for positions in
                [&[0][..], &[511], &[512], &[2100], &[70, 1500], &[600, 3, 0, 1030], &[9; 8]]
            {
                let rows = rows(positions);
                pool.enter(|team| {
                    let spans = Reading::spans(&rows, team);
                    let reading = Reading::new(&rows, 5, spans, team);
                    let mut want = Vec::new();
                    for (row, position) in positions.iter().enumerate() {
                        let last = if reading.is_cut() { *position as usize / SPAN } else { 0 };
                        want.extend(
                            (0..=last).flat_map(|span| (0..5).map(move |head| (row, span, head))),
                        );
                        assert_eq!(reading.own(row) % 5, 0, "the first head");
                    }
                    let parts =
                        (0..reading.parts()).flat_map(|part| reading.pieces(reading.part(part)));
                    let seen: Vec<_> = parts
                        .flat_map(|Piece { units, row, span, heads }| {
                            assert_eq!(units.len(), heads.len());
                            assert_eq!(units.start % 5, heads.start);
                            units.zip(heads).map(move |(unit, head)| {
                                assert_eq!(unit / 5, row * reading.spans + span);
                                (row, span, head)
                            })
                        })
                        .collect();
                    assert_eq!(seen, want, "{threads} threads, {positions:?}");
                });
            }
        }
    }

    #[test]
    fn one_thread_takes_a_row_in_one_go_and_blocks_end_with_it() {
        let by_one_thread = |positions: &[u32], spans| {
            let options = ThreadPoolOptions { threads: 1, ..ThreadPoolOptions::default() };
            let pool = ThreadPool::new(&options).expect("a pool");
            pool.enter(|team| Reading::new(&rows(positions), 5, spans, team))
        };
        // One thread takes all of a row in one go.
        let reading = by_one_thread(&[2100], None);
        let pieces: Vec<_> = reading.pieces(reading.part(0)).collect();
        assert_eq!(pieces, [Piece { units: 0..5, row: 0, span: 0, heads: 0..5 }]);
        // 33 blocks a head: four spans of eight, and one.
        let reading = by_one_thread(&[2100], Some(5));
        assert_eq!(
            (0..6).map(|span| reading.blocks(0, span)).collect::<Vec<_>>(),
            [8, 8, 8, 8, 1, 0]
        );
    }
}
