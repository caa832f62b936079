//! What zeros a model makes: counted in a forward pass of its own, in the plainest code.
//!
//! Tokens stand alone, each the first of its sequence: attention to one position is its value. Every other step is
//! that of `docs/numerics.md`, up to the order of sums.

use std::{error::Error, path::Path, sync::Arc};
use tern::{
    context::{Context, ContextOptions, EvalOptions},
    file::{Gguf, OpenOptions, Source},
    kernels::Kernels,
    model::{LoadOptions, Model},
    tensor::DType,
};

/// Counted shares, and how far the final states are from the library's.
pub(crate) struct Reached {
    /// Gates at or below zero.
    pub(crate) gates: f64,
    /// Inputs of `down` that are 0.
    pub(crate) inputs: f64,
    /// The largest difference of a final state, relative to the largest value, of the token in the middle: sums in another
    /// order round a code the other way here and there, which grows from layer to layer; tokens without such a code agree to 1e-6.
    pub(crate) apart: f32,
}

/// Runs some tokens through a file of `I2_S` weights.
pub(crate) fn count(path: &Path, tokens: usize) -> Result<Reached, Box<dyn Error>> {
    let gguf = Gguf::parse(Arc::new(Source::open(path, OpenOptions::default())?))?;
    let model = Model::open(path, LoadOptions::default())?;
    let (config, weights) = (model.config(), model.weights()?);
    let mut rng = fastrand::Rng::with_seed(1);
    let ids: Vec<i32> = (0..tokens).map(|_| rng.i32(0..config.n_vocab as i32)).collect();
    let mut streams = vec![vec![0.0; config.n_embd]; tokens];
    for (id, stream) in ids.iter().zip(&mut streams) {
        let row = *id as usize;
        Kernels::decode_row(
            weights.embedding.row_range(row..row + 1),
            weights.embedding.kind(),
            stream,
        );
    }
    let [mut low_gates, mut zero_inputs] = [0usize; 2];
    for (index, layer) in weights.layers.iter().enumerate() {
        let matrix = |part: &str| Matrix::read(&gguf, &format!("blk.{index}.{part}.weight"));
        let normed = |streams: &[Vec<f32>], gain: Option<&[f32]>| -> Vec<Int8> {
            streams.iter().map(|stream| int8(&norm(stream, gain, config.norm_eps))).collect()
        };
        let values = matrix("attn_v")?.products(&normed(&streams, Some(&layer.attn_norm)));
        let share = config.group() * config.head_dim;
        let attended: Vec<Vec<f32>> = values
            .iter()
            .map(|values| {
                let value = |i: usize| values[i / share * config.head_dim + i % config.head_dim];
                // The cache holds half precision.
                (0..config.n_head * config.head_dim)
                    .map(|i| half::f16::from_f32(value(i)).to_f32())
                    .collect()
            })
            .collect();
        let inputs = match &layer.attn_sub_norm {
            Some(gain) => normed(&attended, Some(gain)),
            None => attended.iter().map(|row| int8(row)).collect(),
        };
        add(&mut streams, &matrix("attn_output")?.products(&inputs));
        let inputs = normed(&streams, Some(&layer.ffn_norm));
        let gates = matrix("ffn_gate")?.products(&inputs);
        let ups = matrix("ffn_up")?.products(&inputs);
        let gated: Vec<Vec<f32>> = gates
            .iter()
            .zip(&ups)
            .map(|(gates, ups)| {
                gates.iter().zip(ups).map(|(gate, up)| gate.max(0.0).powi(2) * up).collect()
            })
            .collect();
        low_gates += gates.iter().flatten().filter(|gate| **gate <= 0.0).count();
        let inputs = match &layer.ffn_sub_norm {
            Some(gain) => normed(&gated, Some(gain)),
            None => gated.iter().map(|row| int8(row)).collect(),
        };
        zero_inputs +=
            inputs.iter().flat_map(|(codes, _)| codes).filter(|code| **code == 0).count();
        add(&mut streams, &matrix("ffn_down")?.products(&inputs));
    }
    let all = (tokens * config.n_ff * config.n_layer) as f64;
    let mut apart = Vec::with_capacity(tokens);
    let mut context = Context::new(&model, ContextOptions { n_ctx: 1, ..Default::default() })?;
    for (id, stream) in ids.iter().zip(&streams) {
        context.clear(0)?;
        context.eval(&[*id], EvalOptions::default())?;
        let (ours, state) =
            (norm(stream, Some(&weights.output_norm), config.norm_eps), context.state(0)?);
        let largest = state.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let differences = ours.iter().zip(state).map(|(a, b)| (a - b).abs());
        apart.push(differences.fold(0.0, f32::max) / largest);
    }
    apart.sort_by(f32::total_cmp);
    let apart = apart.get(tokens / 2).copied().unwrap_or(f32::NAN);
    Ok(Reached { gates: low_gates as f64 / all, inputs: zero_inputs as f64 / all, apart })
}

/// Codes of a row and what one step of them is worth.
type Int8 = (Vec<i8>, f32);

fn norm(row: &[f32], gain: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
    let scale = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
    let gain = |i: usize| gain.map_or(1.0, |gain| gain[i]);
    row.iter().enumerate().map(|(i, x)| (f64::from(*x) * scale) as f32 * gain(i)).collect()
}

fn int8(row: &[f32]) -> Int8 {
    let largest = row.iter().fold(1e-5f32, |largest, x| largest.max(x.abs()));
    let scale = 127.0 / largest;
    let code = |x: &f32| (x * scale).round_ties_even().clamp(-127.0, 127.0) as i8;
    (row.iter().map(code).collect(), largest / 127.0)
}

fn add(streams: &mut [Vec<f32>], products: &[Vec<f32>]) {
    for (stream, products) in streams.iter_mut().zip(products) {
        stream.iter_mut().zip(products).for_each(|(x, y)| *x += y);
    }
}

/// Trits of a matrix, as the file holds them.
struct Matrix {
    trits: Vec<i8>,
    rows: usize,
    scale: f32,
}

impl Matrix {
    fn read(gguf: &Gguf, name: &str) -> Result<Self, Box<dyn Error>> {
        let tensor = gguf.tensor(name).ok_or_else(|| format!("{name}: not in the file"))?;
        if tensor.dtype != DType::I2_S {
            return Err(format!(
                "{name}: {} weights, zeros are counted of I2_S",
                tensor.dtype.name()
            )
            .into());
        }
        let bytes = gguf.tensor_bytes(tensor)?;
        let elements = tensor.shape.elements() as usize;
        let (codes, tail) = bytes.split_at(elements / 4);
        // 128 trits in 32 bytes, the first 32 of them highest.
        let mut trits = vec![0; elements];
        for (codes, trits) in codes.chunks_exact(32).zip(trits.chunks_exact_mut(128)) {
            for (i, trit) in trits.iter_mut().enumerate() {
                *trit = (codes[i % 32] >> (6 - 2 * (i / 32)) & 3) as i8 - 1;
            }
        }
        let scale = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        Ok(Self { trits, rows: tensor.shape.rows() as usize, scale })
    }

    /// The products of every token with every row.
    fn products(&self, inputs: &[Int8]) -> Vec<Vec<f32>> {
        let rows: Vec<&[i8]> = self.trits.chunks_exact(self.trits.len() / self.rows).collect();
        let dot = |row: &[i8], codes: &[i8]| -> i32 {
            row.iter()
                .zip(codes)
                .map(|(trit, code)| i32::from(i16::from(*trit) * i16::from(*code)))
                .sum()
        };
        let token = |(codes, step): &Int8| {
            rows.iter().map(|row| dot(row, codes) as f32 * (self.scale * step)).collect()
        };
        inputs.iter().map(token).collect()
    }
}
