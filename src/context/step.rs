//! The middle of a layer where every row is the only one of its sequence: one part rotates, stores and attends for one key/value
//! head of one row, so that nobody waits in between, and a thread finds in its caches what it stored.

use super::{
    attention::{Blocks, Run, attend_run, keys_and_values, rotate_queries},
    cache::{Page, store},
    forward::Forward,
    scratch::{Scratch, Slot},
};
use crate::{
    kernels::{BLOCK, PanelRows, Put},
    threads::{Cut, CutEach, Team},
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
    /// Rotates queries and keys, stores keys and values, and attends: what the heads read goes into `queries`.
    pub(super) fn step(&mut self, team: &Team<'_>, layer: usize) {
        let (config, kernels, tokens) = (self.config, self.kernels, self.rows.len());
        let (dim, geometry, all) = (config.head_dim, self.geometry, self.rows);
        let share = config.group() * dim;
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(tokens);
        let mut order: Vec<usize> = (0..tokens).collect();
        order.sort_unstable_by_key(|row| self.rows[*row].sequence);
        let (mut sequences, mut next) = (self.sequences.iter_mut(), 0);
        for row in order {
            let (at, position) = (self.rows[row].sequence, self.rows[row].position as usize);
            let sequence = sequences.nth(at - next).expect("each row has a sequence of its own");
            next = at + 1;
            let (earlier, rest) = sequence.pages.split_at_mut(position / BLOCK);
            let page = Arc::get_mut(&mut rest[0]).expect("reserved pages have one owner");
            let region =
                &mut page.bytes_mut()[layer * geometry.layer_bytes()..][..geometry.layer_bytes()];
            steps.push(Step { row, position, earlier, region });
        }
        steps.sort_unstable_by_key(|step| step.row);
        // Where a row's keys begin: those of the first head, in the first page.
        let first = |step: &Step<'_>| {
            let first = step.earlier.first().map(|page| page.head(geometry, layer, 0));
            first.map_or(step.region.as_ptr().addr(), |first| first.address())
        };
        let starts: Vec<usize> = steps.iter().map(first).collect();
        let (rows, regions): (Vec<_>, Vec<_>) =
            steps.into_iter().map(|step| ((step.position, step.earlier), step.region)).unzip();
        let Scratch { between, queries, angles, slots, panels, .. } = &mut *self.scratch;
        let (heads, panel) = (config.n_head * dim, panels.dense);
        let (keys_at, values_at) = keys_and_values(config, panel);
        let from = PanelRows { values: &*between, panel, tokens };
        team.run_parts(
            config.n_head_kv * tokens,
            CutEach::new(regions, geometry.head_bytes()),
            Cut::new(&mut queries[..tokens * heads], share),
            slots,
            |part, region, out, slot| {
                let (head, row) = (part / tokens, part % tokens);
                let (position, pages) = rows[row];
                let Slot { rows: both, queries, states, .. } = slot;
                let (queries, (key, value)) =
                    (&mut queries[..share], both[..2 * dim].split_at_mut(dim));
                kernels.gather(from, (row, head * share), Put::Over, share, queries);
                kernels.gather(from, (row, keys_at + head * dim), Put::Over, dim, key);
                kernels.gather(from, (row, values_at + head * dim), Put::Over, dim, value);
                let angles = &angles[row * config.rope_dim..][..config.rope_dim];
                rotate_queries(kernels, config, angles, queries);
                kernels.rotate(key, dim, config.rope_pairs, angles);
                store(geometry, region, position % BLOCK, 1, |_| (&*key, &*value));
                let last = Some(geometry.block(region));
                let run = Run { rows: row..row + 1, sequence: all[row].sequence, position };
                let next = ((part + 1) / tokens, (part + 1) % tokens);
                let then = Some(starts[next.1] + next.0 * geometry.head_bytes());
                let blocks = Blocks { pages, last, then, geometry, layer, head };
                attend_run(kernels, queries, &run, blocks, states, out);
            },
        );
    }
}
