//! A random model of any shape, with the keys and tensors of BitNet b1.58.

#[path = "density.rs"]
mod density;

use super::{fill, vocab::Vocabulary};
use density::{Density, STEADY};
use std::io::{self, Write};
use tern::{
    file::{Value, Writer},
    tensor::{DType, TensorInfo},
};

/// The chat template that the official model was trained with.
pub(crate) const TEMPLATE: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' %}\
    {{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// A template of the kind that the official file carries by mistake.
const PLACEHOLDER: &str = "{% for message in messages %}{% if message['role'] == 'user' %}\
    {{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' + eos_token }}\
    {% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}";

/// Everything that a model file says, short of the numbers in it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) arch: &'static str,
    pub(crate) name: &'static str,
    pub(crate) layers: u32,
    pub(crate) width: u32,
    pub(crate) ffn: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    /// Tokens, special ones included; at least 259.
    pub(crate) vocab: u32,
    pub(crate) context: u32,
    pub(crate) theta: f32,
    pub(crate) eps: f32,
    /// How layer matrices are stored: `I2_S`, `TQ1_0` or `TQ2_0`.
    pub(crate) ternary: DType,
    /// How embedding and head are stored: `F32`, `F16`, `BF16`, `Q8_0` or `Q6_K`.
    pub(crate) embedding: DType,
    /// Whether the head is a tensor of its own.
    pub(crate) untied: bool,
    /// Share of layer weights that are 0.
    pub(crate) zeros: f64,
    /// Shares of gates at or below zero and of inputs of `down` that are 0; `None` leaves them to chance.
    pub(crate) density: Option<[f64; 2]>,
    pub(crate) seed: u64,
    /// The keys `tokenizer.ggml.pre` and `tokenizer.chat_template`, and the one for the end of a turn.
    pub(crate) pre: Option<&'static str>,
    pub(crate) template: Option<&'static str>,
    pub(crate) eot_key: bool,
    /// Bytes of the whole file; a comment fills the template until it has them.
    pub(crate) file_bytes: Option<u64>,
    /// Keys set in addition, or in place of those above.
    pub(crate) extra: Vec<(&'static str, Value<'static>)>,
    /// Keys and tensors left out.
    pub(crate) omit: Vec<&'static str>,
}

/// A model that runs in a millisecond, without any defect.
impl Default for Plan {
    fn default() -> Plan {
        Plan {
            arch: "bitnet-b1.58",
            name: "synth",
            layers: 2,
            width: 256,
            ffn: 512,
            heads: 4,
            kv_heads: 2,
            vocab: 512,
            context: 512,
            theta: 500_000.0,
            eps: 1e-5,
            ternary: DType::I2_S,
            embedding: DType::F16,
            untied: false,
            zeros: 0.42,
            density: None,
            seed: 1,
            pre: Some("llama-bpe"),
            template: Some(TEMPLATE),
            eot_key: true,
            file_bytes: None,
            extra: Vec::new(),
            omit: Vec::new(),
        }
    }
}

/// The deviation of the embedding's values.
const SPREAD: f32 = 0.1;

/// Whether a matrix's outputs are added to the residual stream.
fn joins(name: &str) -> bool {
    name.contains("attn_output") || name.contains("ffn_down")
}

/// About the deviation of a matrix's outputs for unit inputs. What joins the residual stream is smaller, so that
/// the embedding leads it.
fn deviation(name: &str, rng: &mut fastrand::Rng) -> f32 {
    if joins(name) { 0.03 + 0.04 * rng.f32() } else { 0.5 + 1.5 * rng.f32() }
}

impl Plan {
    /// The twin of an official 2B4T file: its shape, keys and defects, and since the second generation its size.
    pub(crate) fn official(generation: u32) -> Plan {
        let first = generation == 1;
        Plan {
            arch: if first { "bitnet-25" } else { "bitnet-b1.58" },
            name: if first { "bitnet2b_2501" } else { "bitnet2b" },
            layers: 30,
            width: 2560,
            ffn: 6912,
            heads: 20,
            kv_heads: 5,
            vocab: 128_256,
            context: 4096,
            untied: first,
            pre: None,
            template: Some(PLACEHOLDER),
            eot_key: false,
            file_bytes: (!first).then_some(1_187_801_280),
            ..Plan::default()
        }
    }

    /// Writes the file; `progress` is told how many bytes of how many are done.
    pub(crate) fn write<W: Write>(
        &self,
        out: W,
        vocabulary: &Vocabulary,
        mut progress: impl FnMut(u64, u64),
    ) -> io::Result<W> {
        let writer = self.header(vocabulary)?;
        let (header, total) = writer.lengths();
        let tensors = writer.tensors().to_vec();
        let density = self.density.map(|shares| Density::new(shares, self.ffn as usize));
        let density = density.as_ref();
        let mut body = writer.begin(out)?;
        for (index, tensor) in tensors.iter().enumerate() {
            progress(header + tensor.offset, total);
            let mut rng = self.rng(index);
            let (rows, columns) = (tensor.shape.rows(), tensor.shape.columns());
            let body = body.tensor(&tensor.name)?;
            let part = tensor.name.trim_end_matches(".weight").rsplit('.').next().unwrap_or("");
            if tensor.dtype.is_ternary() {
                let deviation = deviation(&tensor.name, &mut rng);
                let scale = deviation / ((1.0 - self.zeros) as f32 * columns as f32).sqrt();
                let steady = u64::from(STEADY);
                let given = |element: u64| match (density, part) {
                    (Some(_), "ffn_gate") if element % columns < steady => Some([0; 4]),
                    (Some(_), _) if joins(&tensor.name) && element / columns < steady => {
                        Some([1; 4])
                    }
                    _ => None,
                };
                let numbers = (self.zeros, scale);
                fill::trits(body, tensor.dtype, rows * columns, numbers, given, &mut rng)?;
            } else if tensor.name.contains("norm") {
                let mut gains = vec![1.0; columns as usize];
                match (density, part) {
                    (Some(density), "ffn_sub_norm") => gains = density.sub_gains(gains.len()),
                    (Some(density), "ffn_norm") => {
                        let variance = self.variance(&tensors, index, density);
                        let gain =
                            density.gain(f64::from(SPREAD), self.width, variance, self.zeros);
                        gains[..STEADY as usize].fill(gain);
                    }
                    _ => {}
                }
                let mut bytes = Vec::new();
                fill::floats(&mut bytes, tensor.dtype, &gains);
                body.write_all(&bytes)?;
            } else {
                let steady =
                    if density.is_some() && part == "token_embd" { STEADY as usize } else { 0 };
                let constant = vec![SPREAD; steady];
                fill::normal(body, tensor.dtype, (rows, columns), SPREAD, &constant, &mut rng)?;
            }
        }
        progress(total, total);
        body.finish()
    }

    /// A stream of random numbers of its own: a tensor does not depend on those before it.
    fn rng(&self, index: usize) -> fastrand::Rng {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64);
        fastrand::Rng::with_seed(seed)
    }

    /// The variance that the residual stream has where the norm `index` reads it.
    fn variance(&self, tensors: &[TensorInfo], index: usize, density: &Density) -> f64 {
        let layer = |name: &str| name.split('.').nth(1).and_then(|layer| layer.parse::<u32>().ok());
        let own = layer(&tensors[index].name);
        let mut variance = f64::from(SPREAD).powi(2);
        for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| joins(&tensor.name)) {
            let down = tensor.name.contains("ffn_down");
            if layer(&tensor.name) < own || layer(&tensor.name) == own && !down {
                let raised = if down { density.raised() } else { 1.0 };
                variance += raised * f64::from(deviation(&tensor.name, &mut self.rng(i))).powi(2);
            }
        }
        variance
    }

    /// Whether both plans announce the same tensors, so that only their keys may differ in size.
    pub(crate) fn has_tensors_of(&self, other: &Plan) -> bool {
        self.tensors() == other.tensors()
    }

    /// The header: keys and tensor directory, as long as `file_bytes` asks for.
    pub(crate) fn header(&self, vocabulary: &Vocabulary) -> io::Result<Writer> {
        let with_comment = |comment: &str| {
            let mut writer = Writer::new();
            self.keys(&mut writer, vocabulary, comment);
            for (name, dtype, dims) in
                self.tensors().into_iter().filter(|(name, ..)| !self.omitted(name))
            {
                writer.tensor(&name, dtype, &dims)?;
            }
            Ok(writer)
        };
        let writer: Writer = with_comment("")?;
        let Some(bytes) = self.file_bytes else { return Ok(writer) };
        let missing = bytes.checked_sub(writer.lengths().1);
        let missing = missing
            .ok_or_else(|| io::Error::other(format!("the file takes more than {bytes} bytes")))?;
        // The header is padded to 32 bytes, so the comment need not hit its end.
        with_comment(&format!("{{#{}#}}", " ".repeat((missing as usize).saturating_sub(4))))
    }

    fn keys(&self, writer: &mut Writer, vocabulary: &Vocabulary, comment: &str) {
        let extra = |key: &str| self.extra.iter().any(|(name, _)| *name == key);
        let skip = |key: &str| self.omitted(key) || extra(key);
        let mut set = |key: &str, value: Value<'_>| {
            if !skip(key) {
                writer.set(key, value);
            }
        };
        let arch = |key: &str| format!("{}.{key}", self.arch);
        let file_type = match self.ternary {
            DType::TQ1_0 => 36,
            DType::TQ2_0 => 37,
            _ => 40,
        };
        set("general.architecture", Value::String(self.arch.as_bytes()));
        set("general.name", Value::String(self.name.as_bytes()));
        set(&arch("vocab_size"), Value::U32(self.vocab));
        set(&arch("context_length"), Value::U32(self.context));
        set(&arch("embedding_length"), Value::U32(self.width));
        set(&arch("block_count"), Value::U32(self.layers));
        set(&arch("feed_forward_length"), Value::U32(self.ffn));
        set(&arch("rope.dimension_count"), Value::U32(self.width / self.heads));
        set(&arch("attention.head_count"), Value::U32(self.heads));
        set(&arch("attention.head_count_kv"), Value::U32(self.kv_heads));
        set(&arch("attention.layer_norm_rms_epsilon"), Value::F32(self.eps));
        set(&arch("rope.freq_base"), Value::F32(self.theta));
        set("general.file_type", Value::U32(file_type));
        set("general.quantization_version", Value::U32(2));
        set("tokenizer.ggml.model", Value::String(b"gpt2"));
        if let Some(pre) = self.pre {
            set("tokenizer.ggml.pre", Value::String(pre.as_bytes()));
        }
        let id = |name: &str| Value::U32(vocabulary.special(name).unwrap_or(0));
        set("tokenizer.ggml.bos_token_id", id("<|begin_of_text|>"));
        set("tokenizer.ggml.eos_token_id", id("<|end_of_text|>"));
        set("tokenizer.ggml.padding_token_id", id("<|end_of_text|>"));
        if self.eot_key {
            set("tokenizer.ggml.eot_token_id", id("<|eot_id|>"));
        }
        set("tokenizer.ggml.add_bos_token", Value::Bool(true));
        if let Some(template) = self.template {
            set(
                "tokenizer.chat_template",
                Value::String(format!("{template}{comment}").as_bytes()),
            );
        }
        for (key, value) in &self.extra {
            writer.set(key, *value);
        }
        if !skip("tokenizer.ggml.tokens") {
            writer.set_strings("tokenizer.ggml.tokens", vocabulary.texts());
        }
        if !skip("tokenizer.ggml.scores") {
            writer.set_f32s("tokenizer.ggml.scores", (0..vocabulary.len()).map(|_| 0.0));
        }
        if !skip("tokenizer.ggml.token_type") {
            writer.set_i32s("tokenizer.ggml.token_type", vocabulary.types());
        }
        if !skip("tokenizer.ggml.merges") {
            writer.set_strings("tokenizer.ggml.merges", vocabulary.merges());
        }
    }

    /// Names, kinds and dimensions in the order of the official files.
    fn tensors(&self) -> Vec<(String, DType, Vec<u64>)> {
        let [width, ffn, vocab] = [self.width, self.ffn, self.vocab].map(u64::from);
        let kv = width / u64::from(self.heads) * u64::from(self.kv_heads);
        let layer = [
            ("attn_norm", DType::F32, vec![width]),
            ("ffn_down", self.ternary, vec![ffn, width]),
            ("ffn_sub_norm", DType::F32, vec![ffn]),
            ("ffn_gate", self.ternary, vec![width, ffn]),
            ("ffn_up", self.ternary, vec![width, ffn]),
            ("ffn_norm", DType::F32, vec![width]),
            ("attn_sub_norm", DType::F32, vec![width]),
            ("attn_k", self.ternary, vec![width, kv]),
            ("attn_output", self.ternary, vec![width, width]),
            ("attn_q", self.ternary, vec![width, width]),
            ("attn_v", self.ternary, vec![width, kv]),
        ];
        let mut tensors =
            vec![("token_embd.weight".to_owned(), self.embedding, vec![width, vocab])];
        for i in 0..self.layers {
            tensors.extend(layer.iter().map(|(name, dtype, dims)| {
                (format!("blk.{i}.{name}.weight"), *dtype, dims.clone())
            }));
        }
        tensors.push(("output_norm.weight".to_owned(), DType::F32, vec![width]));
        if self.untied {
            tensors.push(("output.weight".to_owned(), self.embedding, vec![width, vocab]));
        }
        tensors
    }

    fn omitted(&self, name: &str) -> bool {
        self.omit.contains(&name)
    }
}
