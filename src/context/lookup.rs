//! Products of many tokens by look-up, where the kernels have that: longer parts of the work than products take,
//! because the rows of a part share the tables.

use super::{
    forward::within,
    scratch::{Panels, Slot},
};
use crate::{
    error::Result,
    kernels::{
        Acts, Kernels,
        lookup::{Indexed, ROWS, Room, TOKENS, index_bytes, rows_together},
    },
    model::{Activation, Config, Layer},
    packed::PackedMatrix,
    tensor::Lines,
    threads::{Cut, Team},
};
use std::ops::Range;

/// Rows of a part for which tables pay: as many are as soon multiplied (docs/kernels.md). Small matrices have fewer, and so
/// has each of many threads.
const FEWEST_ROWS: usize = 256;

/// What one thread looks up in.
#[derive(Debug, Default)]
pub(super) struct LookUp {
    room: Room,
    /// Of the rows of a part; of the gate, those of both matrices.
    index: Lines<u8>,
    /// Dots of a part and of the tokens that are looked up together, `[panel][tokens][panel rows]`.
    dots: Lines<i32>,
    /// Gate and up of the same, `[unit][tokens][unit rows]` each.
    gated: [Lines<f32>; 2],
}

/// The longest index of a part.
fn index_room(config: &Config, panels: Panels) -> usize {
    let heads = config.n_head * config.head_dim;
    let room = |panel, k, matrices| matrices * index_bytes(rows_together(panel, k, matrices), k);
    room(panels.dense, heads.max(config.n_embd), 1)
        .max(room(panels.dense, heads.min(config.n_embd), 1))
        .max(room(panels.gated, config.n_embd, 2))
        .max(room(panels.down, config.n_ff, 1))
}

impl LookUp {
    pub(super) fn new(config: &Config, panels: Panels) -> Result<Self> {
        let what = "scratch of a context";
        let gated = || Lines::zeroed(ROWS * TOKENS, what);
        Ok(Self {
            room: Room::new()?,
            index: Lines::zeroed(index_room(config, panels), what)?,
            dots: Lines::zeroed(ROWS * TOKENS, what)?,
            gated: [gated()?, gated()?],
        })
    }

    /// What [`bytes`](Self::bytes) will be.
    pub(super) fn planned_bytes(config: &Config, panels: Panels) -> usize {
        Room::BYTES + index_room(config, panels) + 3 * 4 * ROWS * TOKENS
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let [gate, up] = &self.gated;
        let values = self.dots.len() + gate.len() + up.len();
        self.room.bytes() + self.index.len() + 4 * values
    }
}

/// Panels of `panel` rows that one part of the work indexes, of matrices of `k` columns that are looked up together; none
/// where products of so many tokens are multiplied.
///
/// As many as can be, and of such numbers the one that equal cores finish first.
pub(super) fn indexed_together(
    team: &Team<'_>,
    (kernels, tokens): (&Kernels, usize),
    panels: usize,
    panel: usize,
    (k, matrices): (usize, usize),
) -> Option<usize> {
    let most = rows_together(panel, k, matrices) / panel;
    let most = most.min(panels.div_ceil(team.threads()));
    let longest = |share: &usize| panels.div_ceil(*share).div_ceil(team.threads()) * share;
    let share = (most.div_ceil(2)..=most).rev().min_by_key(longest)?;
    (kernels.looks_up(tokens) && share * panel >= FEWEST_ROWS).then_some(share)
}

/// Ternary products with one or more matrices of one form, `share` panels a part: `[panel][tokens][panel rows]`.
pub(super) fn product(
    team: &Team<'_>,
    kernels: &Kernels,
    matrices: &[&PackedMatrix],
    share: usize,
    acts: Acts<'_>,
    slots: &mut [Slot],
    out: &mut [f32],
) {
    let (panel, tokens) = (matrices[0].form().rows(), acts.tokens());
    let panels: usize = matrices.iter().map(|matrix| matrix.panels()).sum();
    team.run_parts(
        panels.div_ceil(share),
        Cut::new(&mut out[..panels * tokens * panel], share * tokens * panel),
        Cut::none(),
        slots,
        |part, mut out, (), slot| {
            let LookUp { room, index, dots, .. } = &mut slot.look_up;
            let mut first = part * share;
            while !out.is_empty() {
                let (matrix, at) = within(matrices, first);
                let count = (matrix.panels() - at).min(out.len() / (tokens * panel));
                let (now, later) = out.split_at_mut(count * tokens * panel);
                let of = indexed(kernels, matrix, at..at + count, index);
                for token in (0..tokens).step_by(TOKENS) {
                    let here = kernels.look_up(of, acts, token, room, dots);
                    for (p, dots) in dots.chunks(here * panel).take(count).enumerate() {
                        let out = &mut now[(p * tokens + token) * panel..][..here * panel];
                        let scales = matrix.panel_scales(at + p..at + p + 1);
                        kernels.rescale(dots, scales, &acts.rows[token..][..here], panel, out);
                    }
                }
                (first, out) = (first + count, later);
            }
        },
    );
}

/// Gate and up, joined by the activation, `share` units a part: `[unit][tokens][unit rows]`.
pub(super) fn gate(
    team: &Team<'_>,
    kernels: &Kernels,
    (layer, activation, unit): (&Layer, Activation, usize),
    share: usize,
    acts: Acts<'_>,
    slots: &mut [Slot],
    out: &mut [f32],
) {
    let (k, tokens) = (layer.gate.k(), acts.tokens());
    let units = out.len() / (tokens * unit);
    team.run_parts(
        units.div_ceil(share),
        Cut::new(out, share * tokens * unit),
        Cut::none(),
        slots,
        |part, out, (), slot| {
            let LookUp { room, index, dots, gated } = &mut slot.look_up;
            let (first, rows) = (part * share * unit, out.len() / tokens);
            let (gate_index, up_index) = index.split_at_mut(index_bytes(rows, k));
            let matrices =
                [(&layer.gate, gate_index), (&layer.up, up_index)].map(|(matrix, index)| {
                    let panel = matrix.form().rows();
                    let panels = first / panel..((first + rows) / panel).min(matrix.panels());
                    let of = indexed(kernels, matrix, panels.clone(), index);
                    (matrix, panels.start, of)
                });
            for token in (0..tokens).step_by(TOKENS) {
                let here = TOKENS.min(tokens - token);
                for ((matrix, first, of), values) in matrices.iter().zip(&mut *gated) {
                    let panel = of.form.rows();
                    kernels.look_up(*of, acts, token, room, dots);
                    // The last unit may be wider than the last panel of this matrix.
                    if of.rows < rows {
                        values[..rows * here].fill(0.0);
                    }
                    for (p, dots) in dots.chunks(here * panel).take(of.rows / panel).enumerate() {
                        let place = p * panel / unit * here * unit + p * panel % unit;
                        let out = &mut values[place..][..(here - 1) * unit + panel];
                        let scales = matrix.panel_scales(first + p..first + p + 1);
                        kernels.rescale(dots, scales, &acts.rows[token..][..here], unit, out);
                    }
                }
                let [gate, up] = &*gated;
                let values = gate.chunks(here * unit).zip(up.chunks(here * unit));
                for (out, (gate, up)) in out.chunks_exact_mut(tokens * unit).zip(values) {
                    let out = &mut out[token * unit..][..here * unit];
                    match activation {
                        Activation::Relu2 => kernels.relu2_mul(gate, up, out),
                        Activation::Silu => kernels.silu_mul(gate, up, out),
                    }
                }
            }
        },
    );
}

/// The index of some panels.
fn indexed<'a>(
    kernels: &Kernels,
    matrix: &PackedMatrix,
    panels: Range<usize>,
    index: &'a mut [u8],
) -> Indexed<'a> {
    let (form, k) = (matrix.form(), matrix.k());
    let rows = panels.len() * form.rows();
    let index = &mut index[..index_bytes(rows, k)];
    kernels.index(matrix.panel_range(panels), form, k, index);
    Indexed { index, form, rows, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::{ThreadPool, ThreadPoolOptions};

    #[test]
    fn few_rows_and_few_tokens_are_multiplied() {
        let together = |threads, of, panels| {
            let options = ThreadPoolOptions { threads, ..ThreadPoolOptions::default() };
            let pool = ThreadPool::new(&options).expect("threads");
            pool.enter(|team| indexed_together(team, of, panels, 16, (2560, 1)))
        };
        for table in Kernels::available() {
            let looks_up = table.looks_up(TOKENS);
            for (threads, tokens, rows, want) in [
                (1, 32, 2560, Some(640)),
                (2, 32, 2560, Some(640)),
                (2, 16, 2560, None),
                (2, 32, 320, None),
                (16, 32, 2560, None),
            ] {
                let got = together(threads, (table, tokens), rows / 16).map(|panels| panels * 16);
                let what = format!("{table:?}, {threads} threads, {tokens} tokens, {rows} rows");
                assert_eq!(got, want.filter(|_| looks_up), "{what}");
            }
        }
    }
}
