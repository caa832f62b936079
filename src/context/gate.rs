//! The gate of the feed-forward part: both products of it, joined by the activation.
//!
//! What comes of it is `[unit][tokens][unit rows]`, where a unit is whole panels of both matrices.

use super::{
    forward::{Forward, bounds},
    lookup,
    scratch::{Scratch, Slot},
};
use crate::{
    kernels::{Acts, Form, Kernels, RowsOf},
    model::{Activation, Layer},
    ops::activation::positive,
    packed::PackedMatrix,
    threads::{Cut, CutAt, Team, ask_start},
};
use std::ops::Range;

impl Forward<'_> {
    /// What a thread reads first of the gate with few tokens.
    pub(super) fn first_gates<'b>(
        &self,
        team: &Team<'_>,
        layer: &'b Layer,
        slot: usize,
    ) -> &'b [u8] {
        let (unit, gate) = (self.scratch.panels.gated, &layer.gate);
        let units = self.config.n_ff.div_ceil(unit);
        let first = team.first_part(units, slot) * unit / gate.form().rows();
        gate.panel_range(first.min(gate.panels())..gate.panels())
    }

    /// Gate and up, joined by the activation, unit by unit.
    pub(super) fn gate(&mut self, team: &Team<'_>, layer: &Layer) {
        let (kernels, tokens, activation) = (self.kernels, self.rows.len(), self.config.activation);
        let Scratch { acts, between, slots, panels, .. } = &mut *self.scratch;
        let unit = panels.gated;
        let units = self.config.n_ff.div_ceil(unit);
        let bounds = bounds(team, units, tokens);
        let acts = acts.acts(tokens, layer.gate.k(), kernels.layout());
        let gated = &mut between[..units * tokens * unit];
        let look_up = (layer.gate.k(), 2);
        if let Some(share) = lookup::indexed_together(team, (kernels, tokens), units, unit, look_up)
        {
            let of = (layer, activation, unit);
            return lookup::gate(team, kernels, of, share, acts, slots, gated);
        }
        let leave_out =
            tokens == 1 && layer.up.form() == Form::ROWS && activation == Activation::Relu2;
        team.run_parts(
            bounds.len() - 1,
            CutAt::new(gated, &bounds, tokens * unit),
            Cut::none(),
            slots,
            |part, out, (), slot| {
                if out.is_empty() {
                    return;
                }
                if leave_out {
                    return live_rows(kernels, layer, bounds[part] * unit, acts, slot, out);
                }
                // One token: all gates of the part, then all of `up`, each from one stretch of memory.
                let unit = if tokens == 1 { out.len() } else { unit };
                let base = bounds[part] * panels.gated;
                for (i, out) in out.chunks_exact_mut(tokens * unit).enumerate() {
                    let first = base + i * unit;
                    let Slot { dots, gate, up, .. } = slot;
                    let (gate, up) = (&mut gate[..out.len()], &mut up[..out.len()]);
                    if tokens == 1 {
                        ask_start(layer.up.panel_range(panels_of(&layer.up, first, unit)));
                    }
                    unit_dots(kernels, &layer.gate, first, unit, acts, dots, gate);
                    unit_dots(kernels, &layer.up, first, unit, acts, dots, up);
                    match activation {
                        Activation::Relu2 => kernels.relu2_mul(gate, up, out),
                        Activation::Silu => kernels.silu_mul(gate, up, out),
                    }
                }
            },
        );
    }
}

/// The panels of `unit` rows from `first` on, as far as there are any.
fn panels_of(matrix: &PackedMatrix, first: usize, unit: usize) -> Range<usize> {
    let rows = matrix.form().rows();
    first / rows..((first + unit) / rows).min(matrix.panels())
}

/// The products of `unit` rows from `first` on; `out` is `[tokens][unit]`.
fn unit_dots(
    kernels: &Kernels,
    matrix: &PackedMatrix,
    first: usize,
    unit: usize,
    acts: Acts<'_>,
    dots: &mut [i32],
    out: &mut [f32],
) {
    let (rows, tokens) = (matrix.form().rows(), acts.tokens());
    let Range { start, end } = panels_of(matrix, first, unit);
    // One token takes all panels at once.
    let most = if tokens == 1 { matrix.panels_together() } else { 1 };
    let mut panel = start;
    while panel < end {
        let panels = panel..end.min(panel + most);
        let scales = matrix.panel_scales(panels.clone());
        let dots = &mut dots[..tokens * scales.len()];
        matrix.dots(kernels, panels, acts, dots);
        kernels.rescale(dots, scales, acts.rows, unit, &mut out[(panel - start) * rows..]);
        panel += most;
    }
    // The last unit of the other matrix may be wider than this one's last panel.
    let at = (end - start) * rows;
    out.chunks_mut(unit).for_each(|out| out[at..].fill(0.0));
}

/// One token: the gates of `out.len()` rows from `first` on, then `up` for those above zero alone.
fn live_rows(
    kernels: &Kernels,
    layer: &Layer,
    first: usize,
    acts: Acts<'_>,
    slot: &mut Slot,
    out: &mut [f32],
) {
    let (gate, up) = (&layer.gate, &layer.up);
    let Slot { rows: row, normed, dots, gate: live_gates, up: live_ups, live, .. } = slot;
    unit_dots(kernels, gate, first, out.len(), acts, dots, out);
    let count = positive(out, live);
    let live = &live[..count];
    let of = RowsOf {
        rows: up.panel_range(panels_of(up, first, out.len())),
        k: up.k(),
        acts: acts.codes,
        sum: acts.rows[0].sum,
    };
    let dots = &mut dots[..count];
    kernels.live_rows(of, live, dots);
    let (scales, products) = (&mut row[..count], &mut normed[..count]);
    let (live_gates, live_ups) = (&mut live_gates[..count], &mut live_ups[..count]);
    for (i, place) in live.iter().enumerate() {
        scales[i] = up.scale(first + *place as usize);
        live_gates[i] = out[*place as usize];
    }
    kernels.rescale(dots, scales, acts.rows, count.max(1), live_ups);
    kernels.relu2_mul(live_gates, live_ups, products);
    out.fill(0.0);
    for (place, product) in live.iter().zip(&*products) {
        out[*place as usize] = *product;
    }
}
