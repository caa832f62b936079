//! The middle of a layer where every row is the only one of its sequence: one part rotates, stores and attends for one key/value
//! head of one row, so that nobody waits in between, and a thread finds in its caches what it stored.
//!
//! Where a few rows are long, a part is a span of that, and the leader merges. Each part rotates its queries itself: that
//! costs less than to wait for somebody who did.

use super::{
    Row,
    attention::{
        Blocks, Run, attend_run, attend_span, keys_and_values, merge_spans, rotate_queries,
    },
    cache::{Geometry, Page, Sequence, store},
    forward::Forward,
    scratch::{Scratch, Slot},
};
use crate::{
    kernels::{BLOCK, PanelRows, Put, SPAN},
    threads::{Cut, Team},
};
use std::sync::Arc;

/// A row, and its sequence's part of the cache.
struct Step<'a> {
    row: usize,
    position: usize,
    /// The pages before the one that is written.
    earlier: &'a [Arc<Page>],
    /// One layer of the page that is written.
    region: &'a mut [u8],
}

impl Forward<'_> {
    /// What each row has of the cache, row after row.
    fn steps<'s>(
        (rows, sequences): (&[Row], &'s mut [Sequence]),
        geometry: Geometry,
        layer: usize,
    ) -> Vec<Step<'s>> {
        let mut steps = Vec::with_capacity(rows.len());
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|row| rows[*row].sequence);
        let (mut sequences, mut next) = (sequences.iter_mut(), 0);
        for row in order {
            let (at, position) = (rows[row].sequence, rows[row].position as usize);
            let sequence = sequences.nth(at - next).expect("each row has a sequence of its own");
            next = at + 1;
            let (earlier, rest) = sequence.pages.split_at_mut(position / BLOCK);
            let page = Arc::get_mut(&mut rest[0]).expect("reserved pages have one owner");
            let region =
                &mut page.bytes_mut()[layer * geometry.layer_bytes()..][..geometry.layer_bytes()];
            steps.push(Step { row, position, earlier, region });
        }
        steps.sort_unstable_by_key(|step| step.row);
        steps
    }

    /// Rotates queries and keys, stores keys and values, and attends: what the heads read goes into `queries`.
    pub(super) fn step(&mut self, team: &Team<'_>, layer: usize) {
        let (config, kernels, tokens) = (self.config, self.kernels, self.rows.len());
        let (dim, geometry, all) = (config.head_dim, self.geometry, self.rows);
        let (group, share) = (config.group(), config.group() * dim);
        let cut = self.cut_by_spans(team);
        let spans = cut.unwrap_or(1);
        // The span that a row's own key lies in: a part of the work for all of them, if they are not cut.
        let own_span = |position: usize| if cut.is_some() { position / SPAN } else { 0 };
        let parts = config.n_head_kv * tokens * spans;
        let place = |part: usize| (part / spans / tokens, part / spans % tokens, part % spans);
        let mut regions: Vec<Option<&mut [u8]>> = (0..parts).map(|_| None).collect();
        let mut rows = Vec::with_capacity(tokens);
        for step in Self::steps((all, self.sequences), geometry, layer) {
            rows.push((step.position, step.earlier, step.region.as_ptr().addr()));
            let heads = step.region.chunks_exact_mut(geometry.head_bytes());
            for (head, region) in heads.enumerate() {
                regions[(head * tokens + step.row) * spans + own_span(step.position)] =
                    Some(region);
            }
        }
        // Where the keys lie that a part reads first.
        let first_keys = |part: usize| {
            let (head, row, span) = place(part);
            let (_, earlier, written) = rows[row];
            let block = earlier.get(span * SPAN / BLOCK);
            block.map_or(written + head * geometry.head_bytes(), |page| {
                page.head(geometry, layer, head).address()
            })
        };
        let Scratch { between, queries, angles, slots, panels, partial, .. } = &mut *self.scratch;
        let (heads, panel) = (config.n_head * dim, panels.dense);
        let (keys_at, values_at) = keys_and_values(config, panel);
        let from = PanelRows { values: &*between, panel, tokens };
        let state = share + 2 * group;
        let out = match cut {
            Some(_) => {
                partial.resize(parts * state, 0.0);
                Cut::new(&mut partial[..], state)
            }
            None => Cut::new(&mut queries[..tokens * heads], share),
        };
        team.run_parts(parts, Cut::new(&mut regions, 1), out, slots, |part, region, out, slot| {
            let (head, row, span) = place(part);
            let (position, pages, _) = rows[row];
            if span > own_span(position) {
                return;
            }
            let Slot { rows: both, queries, states, .. } = slot;
            let (queries, (key, value)) =
                (&mut queries[..share], both[..2 * dim].split_at_mut(dim));
            let angles = &angles[row * config.rope_dim..][..config.rope_dim];
            kernels.gather(from, (row, head * share), Put::Over, share, queries);
            rotate_queries(kernels, config, angles, queries);
            let region = region[0].as_deref_mut();
            let last = region.map(|region| {
                kernels.gather(from, (row, keys_at + head * dim), Put::Over, dim, key);
                kernels.gather(from, (row, values_at + head * dim), Put::Over, dim, value);
                kernels.rotate(key, dim, config.rope_pairs, angles);
                store(geometry, region, position % BLOCK, 1, |_| (&*key, &*value));
                geometry.block(region)
            });
            let run = Run { rows: row..row + 1, sequence: all[row].sequence, position };
            let then = Some(first_keys((part + 1) % parts));
            let blocks = Blocks { pages, last, then, geometry, layer, head };
            if cut.is_some() {
                attend_span(kernels, queries, &run, blocks, span, &mut states[0]);
                states[0].put(group, dim, out);
            } else {
                attend_run(kernels, queries, &run, blocks, states, out);
            }
        });
        if cut.is_some() {
            let rows = rows.iter().map(|(position, ..)| *position);
            merge_spans(kernels, (group, dim), partial, spans, rows, queries);
        }
    }
}
