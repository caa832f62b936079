//! Every buffer of a pass, allocated once, its shape in its doc.
//!
//! Products are laid out panel by panel, `[panel][tokens][panel rows]`, so that a
//! part of the work writes one piece of memory. [`gather`] reads a token's row.

use crate::{
    error::{Result, try_zeroed},
    kernels::Kernels,
    model::{Config, Weights},
    packed::acts::ActsBuffer,
};

/// Rows of one sequence that attend together.
pub(super) const GROUP_ROWS: usize = 8;

/// The buffers of a context, for up to `capacity` tokens a pass.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Rows of a panel.
    pub panel: usize,
    /// The residual stream, `[tokens][n_embd]`.
    pub stream: Vec<f32>,
    /// Quantised input of the products.
    pub acts: ActsBuffer,
    /// Queries, keys and values, panel by panel.
    pub qkv: Vec<f32>,
    /// Rotated and scaled queries, `[tokens][n_head * head_dim]`.
    pub queries: Vec<f32>,
    /// Rotated keys, then values, `[tokens][2][n_head_kv * head_dim]`.
    pub keys_values: Vec<f32>,
    /// What the heads read, `[kv head][tokens][query heads of it * head_dim]`.
    pub attended: Vec<f32>,
    /// States of single spans, for a few rows over a long sequence.
    pub partial: Vec<f32>,
    /// The product back into the stream, panel by panel.
    pub projected: Vec<f32>,
    /// The gated feed-forward values, panel by panel.
    pub gated: Vec<f32>,
    /// Cosines and sines, `[tokens][rope_dim]`.
    pub angles: Vec<f32>,
    /// One for each thread.
    pub slots: Vec<Slot>,
}

/// What one thread works in.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// A row before, and after, a norm: `[widest row]` each.
    pub row: Vec<f32>,
    pub normed: Vec<f32>,
    /// A quantised row with padding.
    pub codes: Vec<i8>,
    /// Dots of one panel, `[tokens][panel rows]`.
    pub dots: Vec<i32>,
    /// Gate and up of one panel, `[tokens][panel rows]` each.
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    /// Queries of a group of rows, `[rows * heads][head_dim]`.
    pub queries: Vec<f32>,
    /// Two softmax states, `[rows * heads]` and `[rows * heads][head_dim]`.
    pub states: [OnlineBuffer; 2],
}

/// Owns what [`crate::kernels::Online`] borrows.
#[derive(Debug, Default)]
pub(super) struct OnlineBuffer {
    pub max: Vec<f32>,
    pub sum: Vec<f32>,
    pub acc: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(
        config: &Config,
        weights: &Weights,
        kernels: &Kernels,
        capacity: usize,
        threads: usize,
    ) -> Result<Self> {
        let what = "scratch of a context";
        let panel = weights.layers.first().map_or(16, |layer| layer.q.form().rows());
        let padded = |rows: usize| rows.next_multiple_of(panel);
        let (heads, kv) = (config.n_head * config.head_dim, config.n_head_kv * config.head_dim);
        let widest = config.n_ff.max(config.n_embd).max(heads);
        let group = GROUP_ROWS * config.group();
        let online = || -> Result<OnlineBuffer> {
            Ok(OnlineBuffer {
                max: try_zeroed(group, what)?,
                sum: try_zeroed(group, what)?,
                acc: try_zeroed(group * config.head_dim, what)?,
            })
        };
        let slot = || -> Result<Slot> {
            Ok(Slot {
                row: try_zeroed(widest, what)?,
                normed: try_zeroed(widest, what)?,
                codes: try_zeroed(widest.next_multiple_of(crate::kernels::PAD), what)?,
                dots: try_zeroed(capacity * panel, what)?,
                gate: try_zeroed(capacity * panel, what)?,
                up: try_zeroed(capacity * panel, what)?,
                queries: try_zeroed(group * config.head_dim, what)?,
                states: [online()?, online()?],
            })
        };
        debug_assert!(kernels.layout().block >= 1);
        Ok(Self {
            panel,
            stream: try_zeroed(capacity * config.n_embd, what)?,
            acts: ActsBuffer::new(capacity, widest)?,
            qkv: try_zeroed(capacity * (padded(heads) + 2 * padded(kv)), what)?,
            queries: try_zeroed(capacity * heads, what)?,
            keys_values: try_zeroed(capacity * 2 * kv, what)?,
            attended: try_zeroed(capacity * heads, what)?,
            partial: Vec::new(),
            projected: try_zeroed(capacity * padded(config.n_embd), what)?,
            gated: try_zeroed(capacity * padded(config.n_ff), what)?,
            angles: try_zeroed(capacity * config.rope_dim, what)?,
            slots: (0..threads).map(|_| slot()).collect::<Result<_>>()?,
        })
    }

    /// What [`Scratch::bytes`] will be for these sizes.
    pub(super) fn planned_bytes(
        config: &Config,
        panel: usize,
        capacity: usize,
        threads: usize,
    ) -> usize {
        let padded = |rows: usize| rows.next_multiple_of(panel);
        let (heads, kv) = (config.n_head * config.head_dim, config.n_head_kv * config.head_dim);
        let widest = config.n_ff.max(config.n_embd).max(heads);
        let codes = widest.next_multiple_of(crate::kernels::PAD);
        let group = GROUP_ROWS * config.group();
        let row = config.n_embd + padded(heads) + 2 * padded(kv) + 2 * heads + 2 * kv;
        let row = row + padded(config.n_embd) + padded(config.n_ff) + config.rope_dim;
        let states = 2 * (2 * group + group * config.head_dim);
        let slot =
            4 * (2 * widest + 3 * capacity * panel + group * config.head_dim + states) + codes;
        capacity * (4 * row + codes + size_of::<crate::ops::norm::RowScale>()) + threads * slot
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let floats = |vecs: &[&Vec<f32>]| vecs.iter().map(|vec| vec.len() * 4).sum::<usize>();
        let slot = |slot: &Slot| {
            let states = slot
                .states
                .iter()
                .map(|state| floats(&[&state.max, &state.sum, &state.acc]))
                .sum::<usize>();
            floats(&[&slot.row, &slot.normed, &slot.gate, &slot.up, &slot.queries])
                + slot.codes.len()
                + slot.dots.len() * 4
                + states
        };
        floats(&[&self.stream, &self.qkv, &self.queries, &self.keys_values, &self.attended])
            + floats(&[&self.projected, &self.gated, &self.angles, &self.partial])
            + self.acts.bytes()
            + self.slots.iter().map(slot).sum::<usize>()
    }
}

/// One token's row out of `[panel][tokens][panel rows]`, starting at row `first`.
pub(super) fn gather(
    panels: &[f32],
    panel: usize,
    tokens: usize,
    token: usize,
    first: usize,
    out: &mut [f32],
) {
    if tokens == 1 {
        out.copy_from_slice(&panels[first..first + out.len()]);
        return;
    }
    let (mut row, mut rest) = (first, out);
    while !rest.is_empty() {
        let (p, r) = (row / panel, row % panel);
        let count = (panel - r).min(rest.len());
        let (head, tail) = rest.split_at_mut(count);
        head.copy_from_slice(&panels[(p * tokens + token) * panel + r..][..count]);
        row += count;
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_reads_across_panels() {
        let (panel, tokens, rows) = (4, 3, 12);
        let mut panels = vec![0.0; rows * tokens];
        for row in 0..rows {
            for token in 0..tokens {
                panels[(row / panel * tokens + token) * panel + row % panel] =
                    (row * 10 + token) as f32;
            }
        }
        let mut out = [0.0; 7];
        gather(&panels, panel, tokens, 2, 3, &mut out);
        assert_eq!(out, [32.0, 42.0, 52.0, 62.0, 72.0, 82.0, 92.0]);
    }
}
