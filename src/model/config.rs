//! Hyper-parameters, validated on construction.

use crate::{
    error::{Error, Result},
    file::{Gguf, Metadata},
    kernels::MAX_K,
    ops::rope::Pairs,
};

/// The non-linearity between gate and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `relu(x)^2`, BitNet 2B4T.
    Relu2,
    /// `x / (1 + exp(-x))`, the Llama family.
    Silu,
}

/// What the file says about the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// Tokens of the vocabulary: rows of the embedding.
    pub n_vocab: usize,
    /// Tokens of context the model was trained with.
    pub n_ctx_train: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads.
    pub n_head_kv: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Leading values of a head that rotate.
    pub rope_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Which values rotate together.
    pub rope_pairs: Pairs,
    /// Width of the feed-forward part.
    pub n_ff: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// The non-linearity.
    pub activation: Activation,
    /// Whether the projections back into the stream have norms of their own.
    pub sub_norms: bool,
}

/// The architectures of BitNet files; one network, named three ways over time.
const BITNET: [&str; 4] = ["bitnet-b1.58", "bitnet-25", "bitnet", "bitnet_b158"];

impl Config {
    /// Reads and checks the hyper-parameters of a file.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedModel`] for another architecture or feature; [`Error::BadModel`] for values that cannot be.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let meta = &gguf.metadata;
        let arch = meta.str("general.architecture")?.to_owned();
        let bitnet = BITNET.contains(&arch.as_str());
        if !bitnet && arch != "llama" {
            return Err(Error::unsupported_model(
                format!("architecture {arch:?} (general.architecture)"),
                "architectures that run are bitnet-b1.58, bitnet-25, bitnet, and llama with ternary layers",
            ));
        }
        let key = |name: &str| format!("{arch}.{name}");
        let size = |name: &str| size(meta, &key(name));
        let (n_embd, n_layer, n_ff) =
            (size("embedding_length")?, size("block_count")?, size("feed_forward_length")?);
        let n_head = size("attention.head_count")?;
        let n_head_kv = opt_size(meta, &key("attention.head_count_kv"))?.unwrap_or(n_head);
        if !n_head.is_multiple_of(n_head_kv) {
            let rule = format!("{n_head_kv} does not divide the {n_head} query heads");
            return Err(Error::bad_model(key("attention.head_count_kv"), rule));
        }
        let head_dim = match opt_size(meta, &key("attention.key_length"))? {
            Some(dim) => dim,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => {
                let rule = format!(
                    "{n_head} heads do not divide a width of {n_embd}, and attention.key_length is absent"
                );
                return Err(Error::bad_model(key("attention.head_count"), rule));
            }
        };
        if opt_size(meta, &key("attention.value_length"))?.is_some_and(|dim| dim != head_dim) {
            return Err(Error::unsupported_model(
                format!("{} differs from the key length {head_dim}", key("attention.value_length")),
                "heads have keys and values of one length",
            ));
        }
        let rope_dim = opt_size(meta, &key("rope.dimension_count"))?.unwrap_or(head_dim);
        if !rope_dim.is_multiple_of(2) || rope_dim > head_dim {
            let rule =
                format!("{rope_dim}: an even number up to the head length {head_dim} is wanted");
            return Err(Error::bad_model(key("rope.dimension_count"), rule));
        }
        check_range(&key("attention.key_length"), head_dim, 1024)?;
        check_range(&key("embedding_length"), n_embd, MAX_K)?;
        check_range(&key("feed_forward_length"), n_ff, MAX_K)?;
        check_range(&key("block_count"), n_layer, 1024)?;
        check_range(&key("attention.head_count"), n_head * head_dim, MAX_K)?;
        let rope_theta = meta.opt_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0);
        if !(rope_theta.is_finite() && rope_theta > 1.0) {
            return Err(Error::bad_model(
                key("rope.freq_base"),
                format!("{rope_theta}: a number above 1 is wanted"),
            ));
        }
        let norm_eps = meta.f32(&key("attention.layer_norm_rms_epsilon"))?;
        if !(norm_eps > 0.0 && norm_eps < 1.0) {
            let rule = format!("{norm_eps}: a number between 0 and 1 is wanted");
            return Err(Error::bad_model(key("attention.layer_norm_rms_epsilon"), rule));
        }
        check_scaling(meta, &key("rope.scaling"))?;
        let n_vocab =
            gguf.tensor("token_embd.weight").map_or(0, |tensor| tensor.shape.rows() as usize);
        let n_ctx_train = size("context_length")?;
        check_range(&key("context_length"), n_ctx_train, 1 << 22)?;
        Ok(Self {
            activation: activation(meta, &arch, (n_layer, n_embd))?,
            sub_norms: gguf.tensor("blk.0.attn_sub_norm.weight").is_some(),
            rope_pairs: if arch == "llama" { Pairs::Adjacent } else { Pairs::Half },
            architecture: arch,
            n_vocab,
            n_ctx_train,
            n_embd,
            n_layer,
            n_head,
            n_head_kv,
            head_dim,
            rope_dim,
            rope_theta,
            n_ff,
            norm_eps,
        })
    }

    /// Query heads that share one key/value head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.n_head / self.n_head_kv
    }
}

/// A count that must be there and be at least 1.
fn size(meta: &Metadata, key: &str) -> Result<usize> {
    match meta.u32(key)? {
        0 => Err(meta.reject(key, "0: at least 1 is wanted")),
        n => Ok(n as usize),
    }
}

fn opt_size(meta: &Metadata, key: &str) -> Result<Option<usize>> {
    if meta.get(key).is_none() { Ok(None) } else { size(meta, key).map(Some) }
}

fn check_range(key: &str, value: usize, most: usize) -> Result<()> {
    if value > most {
        Err(Error::bad_model(key, format!("{value}: at most {most} is possible")))
    } else {
        Ok(())
    }
}

/// Scaling of the rotary positions: none, or linear by 1, which is none.
fn check_scaling(meta: &Metadata, prefix: &str) -> Result<()> {
    let kind = meta.opt_str(&format!("{prefix}.type"))?.unwrap_or("none");
    let factor = meta.opt_f32(&format!("{prefix}.factor"))?.unwrap_or(1.0);
    if kind == "none" || kind == "linear" && factor == 1.0 {
        return Ok(());
    }
    Err(Error::unsupported_model(
        format!("rotary scaling {kind:?} with factor {factor} ({prefix}.type)"),
        "only unscaled rotary positions run",
    ))
}

/// ReLU squared is not in the official file: the key, else the shape of a known model, else the architecture decides.
fn activation(meta: &Metadata, arch: &str, shape: (usize, usize)) -> Result<Activation> {
    for key in [format!("{arch}.hidden_activation"), format!("{arch}.hidden_act")] {
        match meta.opt_str(&key)? {
            None => {}
            Some("relu2" | "relu_sqr" | "relu_squared") => return Ok(Activation::Relu2),
            Some("silu" | "swish") => return Ok(Activation::Silu),
            Some(other) => {
                return Err(Error::unsupported_model(
                    format!("activation {other:?} ({key})"),
                    "activations that run are relu2 and silu",
                ));
            }
        }
    }
    Ok(match (arch, shape) {
        // 1bitLLM's models, whichever name a converter gave them.
        (_, (24, 1536) | (26, 3200)) => Activation::Silu,
        (_, (30, 2560)) => Activation::Relu2,
        ("bitnet" | "llama", _) => Activation::Silu,
        _ => Activation::Relu2,
    })
}
