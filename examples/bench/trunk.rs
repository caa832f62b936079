//! The ternary products of a pass, and nothing else: how near the kernels come to the multiplier's limit.

use std::error::Error;
use tern::{
    kernels::{Acts, PAD, RowScale},
    model::{Layer, Model},
    packed::PackedMatrix,
    threads::{Cut, ThreadPool},
};

/// Every layer's matrices, in the order of a pass.
pub(crate) fn matrices(
    model: &Model,
) -> Result<impl Iterator<Item = &PackedMatrix>, Box<dyn Error>> {
    Ok(model.weights()?.layers.iter().flat_map(of_layer))
}

fn of_layer(layer: &Layer) -> [&PackedMatrix; 7] {
    [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down]
}

/// The products of some tokens with all matrices of a model.
pub(crate) struct Products<'a> {
    model: &'a Model,
    /// Codes of one token of the longest row, for each token.
    codes: Vec<i8>,
    scales: Vec<RowScale>,
    /// Sums of one panel, for each thread.
    sums: Vec<Vec<i32>>,
}

impl<'a> Products<'a> {
    /// For `tokens` rows of made-up activations, on up to `threads` threads.
    pub(crate) fn new(
        model: &'a Model,
        tokens: usize,
        threads: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let (mut longest, mut rows) = (0, 0);
        for matrix in matrices(model)? {
            if !model.kernels().forms().contains(&matrix.form()) {
                return Err(
                    format!("{:?}: not a form that is multiplied whole", matrix.form()).into()
                );
            }
            longest = longest.max(matrix.k().next_multiple_of(PAD));
            rows = rows.max(matrix.form().rows());
        }
        let mut rng = fastrand::Rng::with_seed(1);
        Ok(Self {
            model,
            codes: (0..tokens * longest).map(|_| rng.i8(-127..=127)).collect(),
            scales: vec![RowScale { step: 1.0, sum: 0 }; tokens],
            // One token takes several panels at once, as in an eval.
            sums: vec![vec![0; (tokens * rows).max(8192)]; threads],
        })
    }

    /// One pass.
    pub(crate) fn run(&mut self, pool: &ThreadPool) {
        let (kernels, tokens) = (self.model.kernels(), self.scales.len());
        let Self { model, codes, scales, sums } = self;
        pool.enter(|team| {
            for matrix in matrices(model).expect("seen when this was made") {
                let stride = matrix.k().next_multiple_of(PAD);
                let acts = Acts {
                    codes: &codes[..tokens * stride],
                    rows: scales,
                    stride,
                    layout: kernels.layout(),
                };
                // Runs of panels, as an eval cuts them.
                let share = team.share(matrix.panels(), 32usize.div_ceil(tokens));
                team.run_parts(
                    matrix.panels().div_ceil(share),
                    Cut::none(),
                    Cut::none(),
                    sums,
                    |part, (), (), sums| {
                        let last = matrix.panels().min((part + 1) * share);
                        let rows = matrix.form().rows();
                        let most = if tokens == 1 { sums.len() / rows } else { 1 };
                        for panel in (part * share..last).step_by(most) {
                            let panels = panel..last.min(panel + most);
                            let sums = &mut sums[..tokens * panels.len() * rows];
                            matrix.dots(kernels, panels, acts, sums);
                        }
                    },
                );
            }
        });
    }
}
