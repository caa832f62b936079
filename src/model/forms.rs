//! How the matrices of a model will lie in memory.

use super::{Activation, Config, convert::form_of};
use crate::{
    error::{Error, Result},
    file::Gguf,
    kernels::{Code, Form, Kernels},
};

/// How weights are packed. Every packing gives the same bits; `None` leaves the choice to the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// How the dense matrices hold their weights: [`Code::Bits2`] or [`Code::Base3`]. The library's choice is that of a
    /// packed file, else the faster one by a short timing.
    pub code: Option<Code>,
    /// Whether decoding leaves out the rows of `up` and the columns of `down` that a zero makes irrelevant. The
    /// library's choice is that of a packed file, else yes for a model that no cache holds, where the activation makes
    /// zeros (ReLU squared).
    pub skip: Option<bool>,
    /// Whether the head is held in eight bits as well, so that greedy and top-k choices need few of its full rows. The
    /// library's choice is that of a packed file, else yes for a head of more than eight million weights.
    pub screen: Option<bool>,
}

/// The form of every matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forms {
    /// All others.
    pub dense: Form,
    /// The rows that a gate may make irrelevant.
    pub up: Form,
    /// The columns that a zero may make irrelevant.
    pub down: Form,
}

/// Fewer ternary weights than this, 64 MiB of them, may stay in the caches.
const LARGE: u64 = 1 << 28;

impl Forms {
    /// Chooses for a file, a table and what was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the table has not what was asked for.
    pub(crate) fn choose(
        gguf: &Gguf,
        config: &Config,
        kernels: &Kernels,
        packing: Packing,
    ) -> Result<Self> {
        let dense = match packing.code {
            Some(code) => {
                kernels.dense_forms().find(|form| form.code == code).ok_or_else(|| {
                    let text =
                        format!("{code:?} weights: kernels {} do not take them", kernels.name());
                    Error::Unsupported(text.into())
                })?
            }
            None => dense(gguf, kernels),
        };
        let can = kernels.skips()
            && config.activation == Activation::Relu2
            && Form::ROWS.fits(config.n_embd)
            && Form::COLUMNS.fits(config.n_ff);
        let skip = match packing.skip {
            Some(true) if !can => {
                return Err(Error::Unsupported("skipping of zeros: it takes kernels that can leave out rows, a gate of ReLU squared, and rows of whole 256 weights".into()));
            }
            Some(skip) => skip,
            None => match packed(gguf, "ffn_up") {
                Some(form) => can && form == Form::ROWS,
                None => can && !stays_cached(gguf),
            },
        };
        let (up, down) = if skip { (Form::ROWS, Form::COLUMNS) } else { (dense, dense) };
        Ok(Self { dense, up, down })
    }

    /// The form of a tensor of a layer.
    pub(crate) fn of(&self, tensor: &str) -> Form {
        if tensor.ends_with("ffn_up.weight") {
            self.up
        } else if tensor.ends_with("ffn_down.weight") {
            self.down
        } else {
            self.dense
        }
    }
}

/// That of a packed file if the table reads it, else the table's fastest.
fn dense(gguf: &Gguf, kernels: &Kernels) -> Form {
    let of_file = packed(gguf, "attn_q");
    if let Some(form) = kernels.dense_forms().find(|form| of_file == Some(*form)) {
        return form;
    }
    match kernels.dense_forms().next() {
        Some(form) if stays_cached(gguf) => form,
        _ => kernels.fastest_form(),
    }
}

/// Whether the weights may stay in the caches: then what is not read saves nothing, and a timing of the memory says
/// nothing.
fn stays_cached(gguf: &Gguf) -> bool {
    let ternary = gguf.tensors.iter().filter(|tensor| tensor.dtype.is_ternary());
    let weights = ternary.fold(0u64, |sum, tensor| sum.saturating_add(tensor.shape.elements()));
    weights < LARGE
}

/// The form of a kind of tensor in a packed file.
fn packed(gguf: &Gguf, part: &str) -> Option<Form> {
    let suffix = format!(".{part}.weight");
    let mut tensors = gguf.tensors.iter().filter(|tensor| tensor.name.ends_with(&suffix));
    tensors.find_map(|tensor| form_of(tensor.dtype))
}
