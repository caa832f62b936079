//! The middle of a layer where every row is the only one of its sequence: one part rotates, stores and attends for some key/value
//! heads of a row, so that nobody waits in between, and a thread finds in its caches what it stored.
//!
//! Where a few rows are long, a part takes spans of them, and the leader merges. Each part rotates its queries itself: that
//! costs less than to wait for somebody who did.

use super::{
    Row,
    attention::{Blocks, Run, attend_run, attend_span, keys_and_values, rotate_queries},
    cache::{Geometry, Page, Sequence, store},
    forward::Forward,
    reading::{Piece, Reading},
    scratch::{Scratch, Slot},
};
use crate::{
    kernels::{BLOCK, PanelRows, Put, SPAN},
    threads::{CutAt, Team},
};
use std::{ops::Range, sync::Arc};

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

    /// Rotates queries and keys, stores keys and values, and attends: what the heads read goes into `queries`, row by row.
    pub(super) fn step(&mut self, team: &Team<'_>, layer: usize, reading: &Reading) {
        let (config, kernels, tokens) = (self.config, self.kernels, self.rows.len());
        let (dim, geometry, all) = (config.head_dim, self.geometry, self.rows);
        let (group, share, heads) = (config.group(), config.group() * dim, config.n_head_kv);
        let bounds = reading.bounds();
        let mut regions: Vec<Option<&mut [u8]>> = (0..reading.units()).map(|_| None).collect();
        let mut rows = Vec::with_capacity(tokens);
        for step in Self::steps((all, self.sequences), geometry, layer) {
            rows.push((step.position, step.earlier, step.region.as_ptr().addr()));
            let own = &mut regions[reading.own(step.row)..][..heads];
            let parts = step.region.chunks_exact_mut(geometry.head_bytes());
            own.iter_mut().zip(parts).for_each(|(region, part)| *region = Some(part));
        }
        // Where the keys lie that some units read first.
        let first_keys = |units: Range<usize>| {
            let Piece { row, span, heads, .. } = reading.pieces(units).next()?;
            let (_, earlier, written) = rows[row];
            Some(match earlier.get(span * SPAN / BLOCK) {
                Some(page) => page.heads(geometry, layer, heads).as_ptr().addr(),
                None => written + heads.start * geometry.head_bytes(),
            })
        };
        let Scratch { between, queries, angles, slots, panels, partial, .. } = &mut *self.scratch;
        let panel = panels.dense;
        let (keys_at, values_at) = keys_and_values(config, panel);
        let from = PanelRows { values: &*between, panel, tokens };
        let (out, out_share) = if reading.is_cut() {
            partial.resize(reading.units() * (share + 2 * group), 0.0);
            (&mut partial[..], share + 2 * group)
        } else {
            (&mut queries[..tokens * heads * share], share)
        };
        let cuts = (CutAt::new(&mut regions, bounds, 1), CutAt::new(out, bounds, out_share));
        team.run_parts(reading.parts(), cuts.0, cuts.1, slots, |part, regions, out, slot| {
            let Slot { rows: both, queries, states, .. } = slot;
            for Piece { units, row, span, heads } in reading.pieces(reading.part(part)) {
                let at = units.start - bounds[part];
                let regions = &mut regions[at..][..heads.len()];
                let out = &mut out[at * out_share..][..heads.len() * out_share];
                let queries = &mut queries[..heads.len() * share];
                let (key, value) = both[..2 * dim].split_at_mut(dim);
                let (position, pages, _) = rows[row];
                let angles = &angles[row * config.rope_dim..][..config.rope_dim];
                kernels.gather(from, (row, heads.start * share), Put::Over, queries.len(), queries);
                rotate_queries(kernels, config, angles, queries);
                for (head, region) in heads.clone().zip(&mut *regions) {
                    let Some(region) = region.as_deref_mut() else { continue };
                    kernels.gather(from, (row, keys_at + head * dim), Put::Over, dim, key);
                    kernels.gather(from, (row, values_at + head * dim), Put::Over, dim, value);
                    kernels.rotate(key, dim, config.rope_pairs, angles);
                    store(geometry, region, position % BLOCK, 1, |_| (&*key, &*value));
                }
                let run = Run { rows: row..row + 1, sequence: all[row].sequence, position };
                let (head, heads) = (heads.start, heads.len());
                let then = first_keys(units.end..reading.units());
                let blocks = Blocks { pages, last: regions, then, geometry, layer, head, heads };
                if reading.is_cut() {
                    attend_span(kernels, queries, &run, blocks, span, &mut states[0]);
                    states[0].put(group, dim, out);
                } else {
                    attend_run(kernels, queries, &run, blocks, states, out);
                }
            }
        });
        if reading.is_cut() {
            let place = |row: usize, head: usize| (row * heads + head) * share;
            reading.merge(kernels, (group, dim), partial, place, queries);
        }
    }
}
