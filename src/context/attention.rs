//! The middle of a layer: rotate queries and keys, store keys and values, attend.
//!
//! What the heads read is `[kv head][tokens][query heads of it * head_dim]`. A part of the work is one key/value
//! head and up to eight consecutive rows of one sequence; a few rows over a long
//! sequence are cut by spans instead, and their states merged afterwards.

use super::{
    cache::{Geometry, Page, store},
    forward::Forward,
    reading::Reading,
    scratch::{GROUP_ROWS, OnlineBuffer, Scratch, Slot},
};
use crate::{
    kernels::{BLOCK, Kernels, Online, PanelRows, Put, SPAN, finish},
    model::Config,
    threads::{Cut, CutAt, Team},
};
use std::{ops::Range, sync::Arc};

/// Consecutive rows of one sequence.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub rows: Range<usize>,
    pub sequence: usize,
    /// Position of the first row.
    pub position: usize,
}

impl Forward<'_> {
    /// Cuts the rows into runs of one sequence with at most `most` rows; `fits` may end a run earlier.
    fn runs(&self, most: usize, by_page: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (i, row) in self.rows.iter().enumerate() {
            let position = row.position as usize;
            match runs.last_mut() {
                Some(run)
                    if run.sequence == row.sequence
                        && run.rows.len() < most
                        && run.position + run.rows.len() == position
                        && !(by_page && position.is_multiple_of(BLOCK)) =>
                {
                    run.rows.end = i + 1;
                }
                _ => runs.push(Run { rows: i..i + 1, sequence: row.sequence, position }),
            }
        }
        runs
    }

    /// Rotates queries and keys; queries take the softmax scale, values are copied.
    pub(super) fn rotate(&mut self, team: &Team<'_>) {
        let (config, kernels, tokens) = (self.config, self.kernels, self.rows.len());
        let (heads, kv) = (config.n_head * config.head_dim, config.n_head_kv * config.head_dim);
        let Scratch { between, queries, keys_values, angles, slots, panels, .. } =
            &mut *self.scratch;
        let (qkv, angles, panel) = (&*between, &*angles, panels.dense);
        let (keys_at, values_at) = keys_and_values(config, panel);
        let side = kernels.layout().width(tokens).min(tokens.div_ceil(team.threads()));
        team.run_parts(
            tokens.div_ceil(side),
            Cut::new(&mut queries[..tokens * heads], side * heads),
            Cut::new(&mut keys_values[..tokens * 2 * kv], side * 2 * kv),
            slots,
            |block, queries, keys_values, slot| {
                let first = block * side;
                let from = PanelRows { values: qkv, panel, tokens };
                kernels.gather(from, (first, 0), Put::Over, heads, queries);
                let both = &mut slot.rows[..keys_values.len()];
                let (keys, values) = both.split_at_mut(keys_values.len() / 2);
                kernels.gather(from, (first, keys_at), Put::Over, kv, keys);
                kernels.gather(from, (first, values_at), Put::Over, kv, values);
                let rows = keys.chunks_exact_mut(kv).zip(values.chunks_exact(kv));
                let rows = rows.zip(queries.chunks_exact_mut(heads));
                for (i, (((keys, values), queries), out)) in
                    rows.zip(keys_values.chunks_exact_mut(2 * kv)).enumerate()
                {
                    let angles = &angles[(first + i) * config.rope_dim..][..config.rope_dim];
                    rotate_queries(kernels, config, angles, queries);
                    kernels.rotate(keys, config.head_dim, config.rope_pairs, angles);
                    out[..kv].copy_from_slice(keys);
                    out[kv..].copy_from_slice(values);
                }
            },
        );
    }

    /// Stores keys and values of every row; the pages were reserved.
    pub(super) fn store(&mut self, team: &Team<'_>, layer: usize) {
        let (geometry, dim) = (self.geometry, self.config.head_dim);
        let kv = self.config.n_head_kv * dim;
        for run in self.runs(BLOCK, true) {
            let page = &mut self.sequences[run.sequence].pages[run.position / BLOCK];
            let page = Arc::get_mut(page).expect("reserved pages have one owner");
            let region =
                &mut page.bytes_mut()[layer * geometry.layer_bytes()..][..geometry.layer_bytes()];
            let Scratch { keys_values, slots, .. } = &mut *self.scratch;
            let keys_values = &keys_values[run.rows.start * 2 * kv..run.rows.end * 2 * kv];
            let one_head = |head: usize, region: &mut [u8]| {
                store(geometry, region, run.position % BLOCK, run.rows.len(), |i| {
                    let row = &keys_values[i * 2 * kv..][..2 * kv];
                    (&row[head * dim..][..dim], &row[kv + head * dim..][..dim])
                });
            };
            if run.rows.len() < GROUP_ROWS {
                for (head, region) in region.chunks_exact_mut(geometry.head_bytes()).enumerate() {
                    one_head(head, region);
                }
            } else {
                let cut = Cut::new(region, geometry.head_bytes());
                team.run_parts(
                    geometry.kv_heads,
                    cut,
                    Cut::none(),
                    slots,
                    |head, region, (), _| one_head(head, region),
                );
            }
        }
    }

    /// Softmax over the cache for every row and head, into `between`.
    pub(super) fn attend(&mut self, team: &Team<'_>, layer: usize) {
        match Reading::spans(self.rows, team) {
            Some(spans) => self.attend_by_span(team, layer, spans),
            None => self.attend_by_run(team, layer),
        }
    }

    /// One part for each kv head and run: all spans, merged in place.
    fn attend_by_run(&mut self, team: &Team<'_>, layer: usize) {
        let (config, tokens) = (self.config, self.rows.len());
        let share = config.group() * config.head_dim;
        let runs = self.runs(GROUP_ROWS, false);
        // Runs cover the rows in order, so each head's parts follow each other.
        let starts =
            |head: usize| runs.iter().map(move |run| (head * tokens + run.rows.start) * share);
        let mut bounds: Vec<usize> = (0..config.n_head_kv).flat_map(starts).collect();
        bounds.push(config.n_head_kv * tokens * share);
        let cache = Cache { sequences: self.sequences, geometry: self.geometry, layer };
        let Scratch { queries, between, slots, .. } = &mut *self.scratch;
        let (queries, kernels) = (&*queries, self.kernels);
        team.run_parts(
            bounds.len() - 1,
            CutAt::new(between, &bounds, 1),
            Cut::none(),
            slots,
            |part, out, (), slot| {
                let (head, run) = (part / runs.len(), &runs[part % runs.len()]);
                let Slot { queries: own, states, .. } = slot;
                let own = &mut own[..run.rows.len() * share];
                collect_queries(queries, config, head, run, own);
                let blocks = cache.heads(run.sequence, &(head..head + 1));
                attend_run(kernels, own, run, blocks, states, out);
            },
        );
    }

    /// A part takes some heads of a row and a span; the leader merges.
    fn attend_by_span(&mut self, team: &Team<'_>, layer: usize, spans: usize) {
        let (config, tokens) = (self.config, self.rows.len());
        let (group, dim, heads) = (config.group(), config.head_dim, config.n_head_kv);
        let (share, state) = (group * dim, group * (dim + 2));
        let runs = self.runs(1, false);
        let cache = Cache { sequences: self.sequences, geometry: self.geometry, layer };
        let reading = Reading::new(self.rows, heads, Some(spans), team);
        let Scratch { queries, between, slots, partial, .. } = &mut *self.scratch;
        let (queries, kernels) = (&*queries, self.kernels);
        partial.resize(reading.units() * state, 0.0);
        team.run_parts(
            reading.parts(),
            CutAt::new(partial, reading.bounds(), state),
            Cut::none(),
            slots,
            |part, out, (), Slot { states: [first, _], .. }| {
                for piece in reading.pieces(reading.part(part)) {
                    let run = &runs[piece.row];
                    let row = &queries[piece.row * heads * share..][..heads * share];
                    let own = &row[piece.heads.start * share..piece.heads.end * share];
                    let blocks = cache.heads(run.sequence, &piece.heads);
                    attend_span(kernels, own, run, blocks, piece.span, first);
                    let at = (piece.units.start - reading.part(part).start) * state;
                    first.put(group, dim, &mut out[at..][..piece.heads.len() * state]);
                }
            },
        );
        let place = |row: usize, head: usize| (head * tokens + row) * share;
        reading.merge(kernels, (group, dim), partial, place, between);
    }
}

impl OnlineBuffer {
    /// Writes what the queries of some heads of one row came to, head after head: `[group]` maxima, `[group]` sums,
    /// `[group][head_dim]` values.
    pub(super) fn put(&self, group: usize, dim: usize, out: &mut [f32]) {
        for (head, out) in out.chunks_exact_mut(group * (dim + 2)).enumerate() {
            out[..group].copy_from_slice(&self.max[head * group..][..group]);
            out[group..2 * group].copy_from_slice(&self.sum[head * group..][..group]);
            out[2 * group..].copy_from_slice(&self.acc[head * group * dim..][..group * dim]);
        }
    }
}

/// Where keys and values begin among the products: behind whole panels of what comes before.
pub(super) fn keys_and_values(config: &Config, panel: usize) -> (usize, usize) {
    let keys = (config.n_head * config.head_dim).next_multiple_of(panel);
    (keys, keys + (config.n_head_kv * config.head_dim).next_multiple_of(panel))
}

/// Rotates queries of one row; they take the softmax scale.
pub(super) fn rotate_queries(
    kernels: &Kernels,
    config: &Config,
    angles: &[f32],
    queries: &mut [f32],
) {
    kernels.rotate(queries, config.head_dim, config.rope_pairs, angles);
    let scale = 1.0 / (config.head_dim as f32).sqrt();
    queries.iter_mut().for_each(|query| *query *= scale);
}

/// Queries of one kv head for the rows of a run: `[rows][group][head_dim]`.
fn collect_queries(queries: &[f32], config: &Config, head: usize, run: &Run, out: &mut [f32]) {
    let share = config.group() * config.head_dim;
    for (row, out) in run.rows.clone().zip(out.chunks_exact_mut(share)) {
        out.copy_from_slice(&queries[(row * config.n_head_kv + head) * share..][..share]);
    }
}

/// What the queries of a run read, all its spans merged: `queries` and `out` are `[heads][rows][group][head_dim]`.
pub(super) fn attend_run(
    kernels: &Kernels,
    queries: &[f32],
    run: &Run,
    blocks: Blocks<'_>,
    [first, later]: &mut [OnlineBuffer; 2],
    out: &mut [f32],
) {
    let dim = blocks.geometry.head_dim;
    let count = queries.len() / dim;
    let group = count / blocks.heads / run.rows.len();
    let spans = (run.position + run.rows.len()).div_ceil(SPAN);
    let until = |span: usize| {
        let next = (span + 1 < spans).then(|| blocks.address((span + 1) * SPAN / BLOCK, 0));
        Blocks { then: next.flatten().or(blocks.then), ..blocks }
    };
    attend_span(kernels, queries, run, until(0), 0, first);
    for span in 1..spans {
        attend_span(kernels, queries, run, until(span), span, later);
        for i in 0..count {
            // A row that ends before this span has nothing to merge.
            if run.position + i / group % run.rows.len() >= span * SPAN {
                merge(kernels, first, later, i, dim);
            }
        }
    }
    let values = &mut first.acc[..count * dim];
    for (values, sum) in values.chunks_exact_mut(dim).zip(&*first.sum) {
        finish(values, *sum);
    }
    out.copy_from_slice(values);
}

/// Merges query `i` of a later span.
fn merge(kernels: &Kernels, first: &mut OnlineBuffer, later: &OnlineBuffer, i: usize, dim: usize) {
    let acc = &mut first.acc[i * dim..][..dim];
    let acc2 = &later.acc[i * dim..][..dim];
    kernels.merge(&mut first.max[i], &mut first.sum[i], acc, later.max[i], later.sum[i], acc2);
}

/// The cache of one layer, as the parts of a phase read it.
struct Cache<'a> {
    sequences: &'a [super::cache::Sequence],
    geometry: Geometry,
    layer: usize,
}

impl<'a> Cache<'a> {
    fn heads(&self, sequence: usize, heads: &Range<usize>) -> Blocks<'a> {
        let pages = &self.sequences[sequence].pages[..];
        let (head, heads) = (heads.start, heads.len());
        let Self { geometry, layer, .. } = *self;
        Blocks { pages, last: &[], then: None, geometry, layer, head, heads }
    }
}

/// Neighbouring heads of one layer of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub pages: &'a [Arc<Page>],
    /// The block behind those of the pages: for each head its part of the page that is written.
    pub last: &'a [Option<&'a mut [u8]>],
    /// Where the keys lie that are read after those of a span.
    pub then: Option<usize>,
    pub geometry: Geometry,
    pub layer: usize,
    /// The first, and how many.
    pub head: usize,
    pub heads: usize,
}

impl<'a> Blocks<'a> {
    /// The bytes of a head's block, keys first.
    fn region(&self, block: usize, head: usize) -> Option<&'a [u8]> {
        match self.pages.get(block) {
            Some(page) => {
                let head = self.head + head;
                Some(page.heads(self.geometry, self.layer, head..head + 1))
            }
            None if block == self.pages.len() => self.last.get(head)?.as_deref(),
            None => None,
        }
    }

    /// Where that lies.
    fn address(&self, block: usize, head: usize) -> Option<usize> {
        self.region(block, head).map(|region| region.as_ptr().addr())
    }
}

/// The state of a run's queries after one span, from the start of the span: `queries` is `[heads][rows][group][head_dim]`. All
/// heads read a block, one behind the other in memory, before the next.
pub(super) fn attend_span(
    kernels: &Kernels,
    queries: &[f32],
    run: &Run,
    blocks: Blocks<'_>,
    span: usize,
    state: &mut OnlineBuffer,
) {
    let (dim, heads) = (blocks.geometry.head_dim, blocks.heads);
    let all = queries.len() / dim;
    let count = all / heads;
    let group = count / run.rows.len();
    state.max[..all].fill(f32::NEG_INFINITY);
    state.sum[..all].fill(0.0);
    state.acc[..all * dim].fill(0.0);
    let last = run.position + run.rows.len();
    let mut lens = [0; MAX_QUERIES];
    let mut per_head;
    let lens = if count <= MAX_QUERIES {
        &mut lens[..count]
    } else {
        per_head = vec![0; count];
        &mut per_head[..]
    };
    let end = last.min((span + 1) * SPAN).div_ceil(BLOCK);
    for block in span * SPAN / BLOCK..end {
        for (i, len) in lens.iter_mut().enumerate() {
            *len = (run.position + i / group + 1).saturating_sub(block * BLOCK).min(BLOCK);
        }
        for head in 0..heads {
            let region = blocks.region(block, head).expect("the pages of a run were reserved");
            let next = match head + 1 < heads {
                true => blocks.address(block, head + 1),
                false if block + 1 < end => blocks.address(block + 1, 0),
                false => None,
            };
            let next = next.or(blocks.then);
            let queries = &queries[head * count * dim..][..count * dim];
            let mut online = Online {
                max: &mut state.max[head * count..][..count],
                sum: &mut state.sum[head * count..][..count],
                acc: &mut state.acc[head * count * dim..][..count * dim],
                next: next.map_or(0, |next| next.wrapping_sub(region.as_ptr().addr()) as isize),
            };
            kernels.attend(queries, blocks.geometry.block(region), lens, &mut online);
        }
    }
}

/// Queries whose lengths fit on the stack: eight rows of up to sixteen heads.
const MAX_QUERIES: usize = 128;
