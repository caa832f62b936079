//! Every buffer of a pass, allocated once, its shape in its doc.
//!
//! Products are laid out panel by panel, `[panel][tokens][panel rows]`, so that a
//! part of the work writes one piece of memory. [`Kernels::gather`] reads the rows of tokens.

use super::lookup::LookUp;
use crate::{
    error::{Result, try_zeroed},
    kernels::{Form, Kernels, PAD},
    model::{Config, Forms, Layer},
    packed::acts::ActsBuffer,
    tensor::Lines,
};

/// Rows of one sequence that attend together.
pub(super) const GROUP_ROWS: usize = 8;

/// Rows that lie together in the products of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panels {
    /// Of queries, keys and values, and of the projection of what the heads read.
    pub dense: usize,
    /// Of gate and up together: whole panels of both.
    pub gated: usize,
    /// Of the product back into the stream.
    pub down: usize,
}

impl Panels {
    /// Those of a model whose matrices have these forms.
    pub(super) fn of(forms: Forms) -> Self {
        Self::new(forms.dense, forms.dense, forms.up, forms.down)
    }

    fn of_layer(layer: &Layer) -> Self {
        Self::new(layer.q.form(), layer.gate.form(), layer.up.form(), layer.down.form())
    }

    fn new(dense: Form, gate: Form, up: Form, down: Form) -> Self {
        Self { dense: dense.rows(), gated: gate.rows().max(up.rows()), down: down.rows() }
    }

    fn widest(self) -> usize {
        self.dense.max(self.gated).max(self.down)
    }
}

/// The buffers of a context, for up to `capacity` tokens a pass. A `block` is of the tokens that lie side by side at most.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Rows that lie together.
    pub panels: Panels,
    /// Rows that lie together in the last product but that of gate and up.
    pub last_panel: usize,
    /// Tokens of the same.
    pub last_tokens: usize,
    /// The residual stream, `[tokens][n_embd]`.
    pub stream: Lines<f32>,
    /// Quantised input of the products.
    pub acts: ActsBuffer,
    /// What a step of a layer leaves for the next, one after another in the same place: queries, keys and values; what the
    /// heads read, `[kv head][tokens][query heads of it * head_dim]`; the product back into the stream; the gated
    /// feed-forward values; and that product again. All but what the heads read lie panel by panel.
    pub between: Lines<f32>,
    /// Rotated and scaled queries, `[tokens][n_head * head_dim]`.
    pub queries: Lines<f32>,
    /// Rotated keys, then values, `[tokens][2][n_head_kv * head_dim]`.
    pub keys_values: Lines<f32>,
    /// States of single spans, for a few rows over a long sequence.
    pub partial: Vec<f32>,
    /// Cosines and sines, `[tokens][rope_dim]`.
    pub angles: Lines<f32>,
    /// The places of what is not zero in one quantised row, and what is there.
    pub places: Vec<u32>,
    pub kept: Vec<i8>,
    /// A row of the embedding as the file holds it.
    pub embedded: Vec<u8>,
    /// One for each thread.
    pub slots: Vec<Slot>,
}

/// What one thread works in.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The rows of a block of tokens before a norm, `[block][widest row]`.
    pub rows: Lines<f32>,
    /// A row after it.
    pub normed: Lines<f32>,
    /// The quantised rows of a block of tokens, with padding.
    pub codes: Lines<i8>,
    /// Dots of one panel, `[tokens][panel rows]`, or of the live rows of one token.
    pub dots: Lines<i32>,
    /// Gate and up of one panel, `[tokens][panel rows]` each, or of the live rows of one token.
    pub gate: Lines<f32>,
    pub up: Lines<f32>,
    /// Rows of one token whose gate is above zero.
    pub live: Vec<u32>,
    /// Queries that attend together, `[queries][head_dim]`.
    pub queries: Lines<f32>,
    /// Two softmax states, `[queries]` and `[queries][head_dim]`.
    pub states: [OnlineBuffer; 2],
    /// Empty where the kernels do not look up.
    pub look_up: LookUp,
}

/// Owns what [`crate::kernels::Online`] borrows.
#[derive(Debug, Default)]
pub(super) struct OnlineBuffer {
    pub max: Lines<f32>,
    pub sum: Lines<f32>,
    pub acc: Lines<f32>,
}

/// Lengths of the buffers.
struct Sizes {
    heads: usize,
    kv: usize,
    /// The widest row that is quantised, those of a block of tokens (or their keys and values), and its padded codes.
    widest: usize,
    rows: usize,
    codes: usize,
    /// Queries that attend together: of a group of rows and one key/value head, or of one row.
    group: usize,
    /// Padded rows of the gated values, and of the widest of all that share a place, for each token.
    gated: usize,
    between: usize,
    /// Products that one thread holds.
    products: usize,
}

impl Sizes {
    fn new(config: &Config, panels: Panels, capacity: usize, block: usize) -> Self {
        let (heads, kv) = (config.n_head * config.head_dim, config.n_head_kv * config.head_dim);
        let widest = config.n_ff.max(config.n_embd).max(heads);
        let dense = |rows: usize| rows.next_multiple_of(panels.dense);
        let gated = config.n_ff.next_multiple_of(panels.gated);
        let down = config.n_embd.next_multiple_of(panels.down);
        let qkv = dense(heads) + 2 * dense(kv);
        Self {
            heads,
            kv,
            widest,
            rows: block.min(capacity) * widest.max(2 * kv),
            codes: widest.next_multiple_of(PAD),
            group: (GROUP_ROWS * config.group()).max(config.n_head),
            gated,
            between: qkv.max(dense(config.n_embd)).max(down).max(gated),
            products: (capacity * panels.widest()).max(gated),
        }
    }
}

impl Scratch {
    pub(super) fn new(
        config: &Config,
        layers: &[Layer],
        capacity: usize,
        threads: usize,
        kernels: &Kernels,
    ) -> Result<Self> {
        let what = "scratch of a context";
        let panels =
            layers.first().map_or(Panels { dense: 16, gated: 16, down: 16 }, Panels::of_layer);
        let block = kernels.layout().block;
        let sizes = Sizes::new(config, panels, capacity, block);
        let Sizes { heads, kv, widest, group, .. } = sizes;
        let look_up = || match kernels.may_look_up(capacity) {
            true => LookUp::new(config, panels),
            false => Ok(LookUp::default()),
        };
        let online = || -> Result<OnlineBuffer> {
            Ok(OnlineBuffer {
                max: Lines::zeroed(group, what)?,
                sum: Lines::zeroed(group, what)?,
                acc: Lines::zeroed(group * config.head_dim, what)?,
            })
        };
        let slot = || -> Result<Slot> {
            Ok(Slot {
                rows: Lines::zeroed(sizes.rows, what)?,
                normed: Lines::zeroed(widest, what)?,
                codes: Lines::zeroed(block.min(capacity) * sizes.codes, what)?,
                dots: Lines::zeroed(sizes.products, what)?,
                gate: Lines::zeroed(sizes.products, what)?,
                up: Lines::zeroed(sizes.products, what)?,
                live: try_zeroed(sizes.gated, what)?,
                queries: Lines::zeroed(group * config.head_dim, what)?,
                states: [online()?, online()?],
                look_up: look_up()?,
            })
        };
        Ok(Self {
            panels,
            last_panel: panels.dense,
            last_tokens: 0,
            stream: Lines::zeroed(capacity * config.n_embd, what)?,
            acts: ActsBuffer::new(capacity, capacity.min(threads * block), widest)?,
            between: Lines::zeroed(capacity * sizes.between, what)?,
            queries: Lines::zeroed(capacity * heads, what)?,
            keys_values: Lines::zeroed(capacity * 2 * kv, what)?,
            partial: Vec::new(),
            angles: Lines::zeroed(capacity * config.rope_dim, what)?,
            places: try_zeroed(sizes.gated, what)?,
            kept: try_zeroed(sizes.gated, what)?,
            embedded: try_zeroed(4 * config.n_embd, what)?,
            slots: (0..threads).map(|_| slot()).collect::<Result<_>>()?,
        })
    }

    /// What [`Scratch::bytes`] will be for these sizes.
    pub(super) fn planned_bytes(
        config: &Config,
        panels: Panels,
        capacity: usize,
        threads: usize,
        kernels: &Kernels,
    ) -> usize {
        let block = kernels.layout().block;
        let look_up = match kernels.may_look_up(capacity) {
            true => LookUp::planned_bytes(config, panels),
            false => 0,
        };
        let sizes = Sizes::new(config, panels, capacity, block);
        let Sizes { heads, kv, widest, group, codes, products, gated, .. } = sizes;
        let row = config.n_embd + sizes.between + heads + 2 * kv + config.rope_dim;
        let states = 2 * (2 * group + group * config.head_dim);
        let slot = sizes.rows + widest + 3 * products + gated + group * config.head_dim + states;
        let row_scale = size_of::<crate::ops::norm::RowScale>();
        let (codes_held, apart) =
            (block.min(capacity) * codes, capacity.min(threads * block) * codes);
        let once = 5 * gated + 4 * config.n_embd;
        capacity * (4 * row + codes + row_scale)
            + apart
            + once
            + threads * (4 * slot + codes_held + look_up)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let floats = |vecs: &[&[f32]]| vecs.iter().map(|vec| vec.len() * 4).sum::<usize>();
        let slot = |slot: &Slot| {
            let states = slot
                .states
                .iter()
                .map(|state| floats(&[&state.max, &state.sum, &state.acc]))
                .sum::<usize>();
            floats(&[&slot.rows, &slot.normed, &slot.gate, &slot.up, &slot.queries])
                + slot.codes.len()
                + (slot.dots.len() + slot.live.len()) * 4
                + states
                + slot.look_up.bytes()
        };
        floats(&[&self.stream, &self.between, &self.queries, &self.keys_values])
            + floats(&[&self.angles, &self.partial])
            + self.acts.bytes()
            + self.places.len() * 4
            + self.kept.len()
            + self.embedded.len()
            + self.slots.iter().map(slot).sum::<usize>()
    }
}
