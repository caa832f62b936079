//! The inputs of the products: rows are gathered, normed, quantised, and laid side by side for a kernel.

use super::scratch::Slot;
use crate::{
    kernels::{Inputs, Kernels, PAD, PanelRows, Put},
    ops::norm::RowScale,
    packed::acts::{ActsBuffer, interleave_block, quantize_row},
    threads::{Cut, Parts, Team},
};

/// Rows up to this long are made in one go sooner than they change hands: of eight tokens of 2560 values in 6 to 8 us where the cores of
/// two threads share a die and 8 to 9 where they do not, and in 5 to 6 and 16 if each thread takes four.
const SHORT: usize = 4096;

/// A norm of rows of `width` values; none without a gain.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub kernels: &'static Kernels,
    pub width: usize,
    pub gain: Option<&'a [f32]>,
    pub eps: f32,
}

impl Norm<'_> {
    /// Norms and quantises `tokens` rows into `acts`. `read(token, own, room, then)` calls `then` with the rows from a token on;
    /// `own` is a part of what `cut` makes for so many tokens a part, and there is room for the rows.
    ///
    /// Tokens that lie side by side are one part of the work. With fewer of those than threads, unless rows are short and the
    /// table makes them in one go, each thread takes some tokens, and the leader lays them side by side.
    pub(super) fn quantize<B: Parts>(
        self,
        team: &Team<'_>,
        (acts, tokens): (&mut ActsBuffer, usize),
        cut: impl FnOnce(usize) -> B,
        slots: &mut [Slot],
        read: impl Fn(usize, B::Part, &mut [f32], &mut dyn FnMut(&[f32])) + Sync,
    ) {
        let layout = self.kernels.layout();
        let (stride, block) = (self.width.next_multiple_of(PAD), layout.width(tokens));
        let (codes, scales, apart) = acts.parts();
        let (codes, scales) = (&mut codes[..tokens * stride], &mut scales[..tokens]);
        let share = tokens.div_ceil(team.threads());
        let is_short = self.width <= SHORT && self.kernels.makes_inputs(self.width);
        if share >= block || tokens == 1 || is_short {
            let parts = (Cut::new(codes, block * stride), Cut::new(scales, block));
            team.run_parts(
                tokens.div_ceil(block),
                parts,
                cut(block),
                slots,
                |i, (codes, scales), own, slot| {
                    let Slot { rows, normed, codes: places, .. } = slot;
                    let places = &mut places[..codes.len()];
                    let rows = &mut rows[..scales.len() * self.width];
                    read(i * block, own, rows, &mut |rows| {
                        let Self { width, gain, eps, .. } = self;
                        if self.kernels.inputs(Inputs { rows, width, gain, eps }, codes, scales) {
                            return;
                        }
                        self.rows(rows, normed, places, scales);
                        interleave_block(places, scales.len(), layout.unit, codes);
                    });
                },
            );
            return;
        }
        let apart = &mut apart[..tokens * stride];
        let parts = (Cut::new(apart, share * stride), Cut::new(scales, share));
        team.run_parts(
            tokens.div_ceil(share),
            parts,
            cut(share),
            slots,
            |i, (places, scales), own, slot| {
                let Slot { rows, normed, .. } = slot;
                let rows = &mut rows[..scales.len() * self.width];
                read(i * share, own, rows, &mut |rows| self.rows(rows, normed, places, scales));
            },
        );
        let blocks = codes.chunks_mut(block * stride).zip(apart.chunks(block * stride));
        for (codes, places) in blocks {
            interleave_block(places, places.len() / stride, layout.unit, codes);
        }
    }

    /// The same of rows that lie panel by panel; a single one needs no gathering.
    pub(super) fn quantize_panels(
        self,
        team: &Team<'_>,
        acts: &mut ActsBuffer,
        from: PanelRows<'_>,
        slots: &mut [Slot],
    ) {
        self.quantize(
            team,
            (acts, from.tokens),
            |_| Cut::none(),
            slots,
            |first, (), rows, then| {
                if from.tokens == 1 {
                    return then(&from.values[..self.width]);
                }
                self.kernels.gather(from, (first, 0), Put::Over, self.width, rows);
                then(rows);
            },
        );
    }

    /// Rows to their codes, `[token][padded width]`, and scales.
    fn rows(self, rows: &[f32], normed: &mut [f32], codes: &mut [i8], scales: &mut [RowScale]) {
        let stride = self.width.next_multiple_of(PAD);
        let places = scales.iter_mut().zip(codes.chunks_exact_mut(stride));
        for ((scale, place), row) in places.zip(rows.chunks_exact(self.width)) {
            let row = match self.gain {
                Some(gain) => {
                    self.kernels.rms_norm(row, gain, self.eps, &mut normed[..self.width]);
                    &normed[..self.width]
                }
                None => row,
            };
            *scale = quantize_row(self.kernels, row, place);
        }
    }
}
