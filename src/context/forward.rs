//! The network, top to bottom: one layer at a time over the rows of a pass.
//!
//! Five joins a layer. Between them, short rows are worked on by the leader alone.
//!
//! ```text
//! stream --norm, int8--> [q k v] --rotate, store--> attend --norm, int8--> [o] --+--> stream
//! stream --norm, int8--> [gate, up] -> relu(gate)^2 * up --norm, int8--> [down] --+--> stream
//! ```

use super::{
    Row,
    cache::{Geometry, Sequence},
    lookup,
    norm::Norm,
    reading::{Piece, Reading},
    scratch::Scratch,
};
use crate::{
    kernels::{Acts, BLOCK, Form, Kernels, Live, PanelRows, Put, SPAN},
    model::{Config, Weights},
    packed::PackedMatrix,
    threads::{Cut, CutAt, Team},
};

/// The share of columns, in percent, up to which it pays to leave the others out.
const COLUMNS_PAY: usize = 40;

/// Tokens of a pass up to which weights come from memory no faster than they are used.
const AHEAD_ROWS: usize = 8;

/// What one pass over the weights works with.
pub(super) struct Forward<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights,
    pub kernels: &'static Kernels,
    pub geometry: Geometry,
    pub rows: &'a [Row],
    pub frequencies: &'a [f32],
    pub sequences: &'a mut [Sequence],
    /// What the rows read, if each is the only one of its sequence.
    pub alone: Option<&'a Reading>,
    pub scratch: &'a mut Scratch,
}

impl Forward<'_> {
    /// The embedding of each row's token, and its angles.
    pub(super) fn embed(&mut self) {
        let width = self.config.n_embd;
        let table = &self.weights.embedding;
        let Scratch { stream, embedded, .. } = &mut *self.scratch;
        for (row, out) in self.rows.iter().zip(stream.chunks_exact_mut(width)) {
            Kernels::decode_row(table.row(row.token as usize, embedded), table.kind(), out);
        }
        for (row, out) in
            self.rows.iter().zip(self.scratch.angles.chunks_exact_mut(self.config.rope_dim))
        {
            crate::ops::rope::angles(row.position, self.frequencies, out);
        }
    }

    /// The last layer, of which nobody reads more than keys and values of every row and the states that are wanted: those rows alone
    /// go through the rest of it, and are what `finish` finds, in their order.
    pub(super) fn last_layer(
        &mut self,
        team: &Team<'_>,
        index: usize,
        wanted: impl Fn(&Row) -> bool,
    ) {
        let layer = &self.weights.layers[index];
        self.norm_stream(team, &layer.attn_norm, index > 0);
        self.product(team, &[&layer.q, &layer.k, &layer.v]);
        self.rotate(team);
        self.store(team, index);
        let places = self.rows.iter().enumerate().filter(|(_, row)| wanted(row));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        if places.is_empty() {
            return;
        }
        let rows: Vec<Row> = places.iter().map(|place| self.rows[*place]).collect();
        let alone = Reading::alone(&rows, self.config.n_head_kv, team);
        let Scratch { stream, angles, .. } = &mut *self.scratch;
        let widths = [self.config.n_embd, self.config.rope_dim];
        for (values, width) in [&mut **stream, angles].into_iter().zip(widths) {
            for (to, from) in places.iter().enumerate() {
                values.copy_within(from * width..(from + 1) * width, to * width);
            }
        }
        let mut left = Forward {
            rows: &rows,
            alone: alone.as_ref(),
            sequences: &mut *self.sequences,
            scratch: &mut *self.scratch,
            ..*self
        };
        left.layer(team, index, false);
    }

    /// One layer. If the product of the layer below still waits in `between`, it is added first.
    pub(super) fn layer(&mut self, team: &Team<'_>, index: usize, add: bool) {
        let weights = self.weights;
        let layer = &weights.layers[index];
        self.norm_stream(team, &layer.attn_norm, add);
        self.read_step_ahead(team, index, true);
        self.product(team, &[&layer.q, &layer.k, &layer.v]);
        if let Some(reading) = self.alone {
            // Their kernel asks for what the heads read from now on.
            self.read_step_ahead(team, index, false);
            self.step(team, index, reading);
        } else {
            self.rotate(team);
            self.store(team, index);
            self.attend(team, index);
        }
        self.norm_attended(team, layer.attn_sub_norm.as_deref());
        self.read_ahead(team, &layer.ffn_norm, |slot| self.first_gates(team, layer, slot));
        self.product(team, &[&layer.o]);
        self.norm_stream(team, &layer.ffn_norm, true);
        let gain = layer.ffn_sub_norm.as_deref().unwrap_or(&[]);
        self.read_ahead(team, gain, |slot| Self::first_weights(team, &[&layer.down], slot));
        self.gate(team, layer);
        self.norm_gated(team, layer.ffn_sub_norm.as_deref());
        match weights.layers.get(index + 1) {
            Some(next) => self.read_ahead(team, &next.attn_norm, |slot| {
                Self::first_weights(team, &[&next.q, &next.k, &next.v], slot)
            }),
            None => self.read_ahead(team, &[], |_| &[]),
        }
        self.product(team, &[&layer.down]);
    }

    /// The normalised final state of one of the rows that went through the last layer, `[n_embd]`.
    pub(super) fn finish(&mut self, row: usize, out: &mut [f32]) {
        let width = self.config.n_embd;
        let Scratch { stream, between, last_panel, last_tokens, slots, .. } = &mut *self.scratch;
        let stream = &stream[row * width..][..width];
        let sum = &mut slots[0].rows[..width];
        sum.copy_from_slice(stream);
        let from = PanelRows { values: between, panel: *last_panel, tokens: *last_tokens };
        self.kernels.gather(from, (row, 0), Put::Onto, width, sum);
        self.kernels.rms_norm(sum, &self.weights.output_norm, self.config.norm_eps, out);
    }

    /// Adds the waiting product to the stream, norms it and quantises it.
    fn norm_stream(&mut self, team: &Team<'_>, gain: &[f32], add: bool) {
        let (width, tokens) = (self.config.n_embd, self.rows.len());
        let norm =
            Norm { kernels: self.kernels, width, gain: Some(gain), eps: self.config.norm_eps };
        let Scratch { stream, acts, between, last_panel, slots, .. } = &mut *self.scratch;
        let from = PanelRows { values: &*between, panel: *last_panel, tokens };
        norm.quantize(
            team,
            (acts, tokens),
            |share| Cut::new(&mut stream[..tokens * width], share * width),
            slots,
            |first, stream, _, then| {
                if add {
                    norm.kernels.gather(from, (first, 0), Put::Onto, width, stream);
                }
                then(stream);
            },
        );
    }

    /// Norms and quantises rows that lie panel by panel: the inputs of the products back into the stream.
    fn norm_gated(&mut self, team: &Team<'_>, gain: Option<&[f32]>) {
        let (width, tokens) = (self.config.n_ff, self.rows.len());
        let norm = Norm { kernels: self.kernels, width, gain, eps: self.config.norm_eps };
        let Scratch { acts, between, panels, slots, .. } = &mut *self.scratch;
        let from = PanelRows { values: &*between, panel: panels.gated, tokens };
        norm.quantize_panels(team, acts, from, slots);
    }

    /// The same of what the heads read: row by row in `queries` after a [`step`](Self::step), else head by head, as panels lie.
    fn norm_attended(&mut self, team: &Team<'_>, gain: Option<&[f32]>) {
        let (heads, tokens) = (self.config.n_head_kv, self.rows.len());
        let share = self.config.group() * self.config.head_dim;
        let width = heads * share;
        let norm = Norm { kernels: self.kernels, width, gain, eps: self.config.norm_eps };
        let Scratch { acts, between, queries, slots, .. } = &mut *self.scratch;
        let (values, panel) = match self.alone.is_some() {
            true => (&**queries, width),
            false => (&**between, share),
        };
        let from = PanelRows { values, panel, tokens };
        norm.quantize_panels(team, acts, from, slots);
    }

    /// Lets threads that wait ask for what they read next: the leader for the gain of a norm and the stream that it adds to, then each
    /// for weights.
    fn read_ahead<'b>(&self, team: &Team<'_>, gain: &[f32], weights: impl Fn(usize) -> &'b [u8]) {
        // More tokens leave the memory time enough.
        if self.rows.len() <= AHEAD_ROWS {
            let stream = &self.scratch.stream[..self.rows.len() * self.config.n_embd];
            team.read_ahead(|slot| {
                [for_leader(slot, gain), for_leader(slot, stream), weights(slot)]
            });
        }
    }

    /// The same before a step: what the heads of a single row read, if it is not too late, a gain, and weights.
    fn read_step_ahead(&self, team: &Team<'_>, index: usize, heads_too: bool) {
        let layer = &self.weights.layers[index];
        let gain = layer.attn_sub_norm.as_deref().unwrap_or(&[]);
        let weights = |slot| Self::first_weights(team, &[&layer.o], slot);
        let ([row], Some(reading), true) = (self.rows, self.alone, heads_too) else {
            return self.read_ahead(team, gain, weights);
        };
        let (pages, geometry) = (&self.sequences[row.sequence].pages, self.geometry);
        let first_keys = |slot| {
            let first = reading.part(team.first_part(reading.parts(), slot)).start;
            let Piece { span, heads, .. } = reading.pieces(first..reading.units()).next()?;
            Some(pages[span * SPAN / BLOCK].heads(geometry, index, heads))
        };
        team.read_ahead(|slot| {
            [first_keys(slot).unwrap_or_default(), for_leader(slot, gain), weights(slot)]
        });
    }

    /// What a thread reads first of a product with few tokens.
    fn first_weights<'b>(team: &Team<'_>, matrices: &[&'b PackedMatrix], slot: usize) -> &'b [u8] {
        if matrices[0].form() == Form::COLUMNS {
            // Which are read is not known yet.
            return &[];
        }
        let panels = matrices.iter().map(|matrix| matrix.panels()).sum();
        let (matrix, at) = within(matrices, team.first_part(panels, slot));
        matrix.panel_range(at..matrix.panels())
    }

    /// Ternary products of the quantised rows with one or more matrices of one form, panel by panel into `between`.
    fn product(&mut self, team: &Team<'_>, matrices: &[&PackedMatrix]) {
        let (kernels, tokens, panel) = (self.kernels, self.rows.len(), matrices[0].form().rows());
        let panels: usize = matrices.iter().map(|matrix| matrix.panels()).sum();
        let bounds = bounds(team, panels, tokens);
        let Scratch { acts, slots, between, last_panel, last_tokens, places, kept, .. } =
            &mut *self.scratch;
        (*last_panel, *last_tokens) = (panel, tokens);
        let acts = acts.acts(tokens, matrices[0].k(), kernels.layout());
        let look_up = (matrices[0].k(), 1);
        if let Some(share) =
            lookup::indexed_together(team, (kernels, tokens), panels, panel, look_up)
        {
            return lookup::product(team, kernels, matrices, share, acts, slots, between);
        }
        let live = live_columns(matrices[0], acts, places, kept);
        team.run_parts(
            bounds.len() - 1,
            CutAt::new(between, &bounds, tokens * panel),
            Cut::none(),
            slots,
            |part, out, (), slot| {
                // One token takes as many panels at once as the slot holds.
                let most = if tokens == 1 && live.is_none() { slot.dots.len() / panel } else { 1 };
                let (mut first, mut out) = (bounds[part], out);
                while !out.is_empty() {
                    let (matrix, at) = within(matrices, first);
                    let count = most.min(matrix.panels_together()).min(matrix.panels() - at);
                    let count = count.min(out.len() / (tokens * panel));
                    let (now, later) = out.split_at_mut(count * tokens * panel);
                    let dots = &mut slot.dots[..now.len()];
                    match live {
                        Some(live) => kernels.live_columns(matrix.panel(at), live, dots),
                        None => matrix.dots(kernels, at..at + count, acts, dots),
                    }
                    let scales = matrix.panel_scales(at..at + count);
                    kernels.rescale(dots, scales, acts.rows, now.len() / tokens, now);
                    (first, out) = (first + count, later);
                }
            },
        );
    }
}

/// The bytes of a gain for the leader, which norms; none for others.
fn for_leader(slot: usize, gain: &[f32]) -> &[u8] {
    if slot == 0 { bytemuck::cast_slice(gain) } else { &[] }
}

/// The matrix in which a panel of all of them lies, and where.
pub(super) fn within<'a>(matrices: &[&'a PackedMatrix], panel: usize) -> (&'a PackedMatrix, usize) {
    let mut at = panel;
    for matrix in matrices {
        if at < matrix.panels() {
            return (*matrix, at);
        }
        at -= matrix.panels();
    }
    unreachable!("a part has the panels of its matrices")
}

/// What is not zero of one token's acts, if the matrix can leave out the other columns and that is worth while.
fn live_columns<'a>(
    matrix: &PackedMatrix,
    acts: Acts<'_>,
    places: &'a mut [u32],
    kept: &'a mut [i8],
) -> Option<Live<'a>> {
    if matrix.form() != Form::COLUMNS || acts.tokens() != 1 {
        return None;
    }
    let live = Live::collect(&acts.codes[..matrix.k()], places, kept);
    (live.places.len() * 100 <= matrix.k() * COLUMNS_PAY).then_some(live)
}

/// Where the panels of each part of the work begin, and the end: few tokens read weights as streams; many take little of them, and
/// a short part at the end keeps nobody waiting.
pub(super) fn bounds(team: &Team<'_>, panels: usize, tokens: usize) -> Vec<usize> {
    if tokens <= AHEAD_ROWS {
        return team.stream(panels);
    }
    team.cuts(panels, 1)
}
