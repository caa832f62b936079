//! Tensor names → a typed struct of packed matrices and vectors.

use super::{
    Config, LoadOptions, Planes,
    convert::{form_of, scale_name},
    forms::Forms,
};
use crate::{
    Cancel,
    error::{Error, Result, try_zeroed},
    file::Gguf,
    kernels::{Form, Kernels, MAX_K, RowType},
    packed::{
        PackedMatrix, TernaryType,
        buffer::{Arena, Bytes},
    },
    tensor::{DType, TensorInfo},
    threads::threads_may_allocate,
};

/// Everything that was learnt.
#[derive(Debug)]
pub struct Weights {
    /// `[n_vocab][n_embd]`, also the head if `output` is `None`.
    pub embedding: RowMatrix,
    /// The head, where it is not tied to the embedding.
    pub output: Option<RowMatrix>,
    /// The head in eight bits as well, to screen it.
    pub planes: Option<Planes>,
    /// `[n_embd]`
    pub output_norm: Vec<f32>,
    /// Divisors of the rotary frequencies, `[rope_dim / 2]`.
    pub rope_factors: Option<Vec<f32>>,
    /// From the input up.
    pub layers: Vec<Layer>,
}

/// One block of the network.
#[derive(Debug)]
pub struct Layer {
    /// `[n_embd]`
    pub attn_norm: Vec<f32>,
    /// `[n_head * head_dim][n_embd]`
    pub q: PackedMatrix,
    /// `[n_head_kv * head_dim][n_embd]`
    pub k: PackedMatrix,
    /// `[n_head_kv * head_dim][n_embd]`
    pub v: PackedMatrix,
    /// `[n_head * head_dim]`
    pub attn_sub_norm: Option<Vec<f32>>,
    /// `[n_embd][n_head * head_dim]`
    pub o: PackedMatrix,
    /// `[n_embd]`
    pub ffn_norm: Vec<f32>,
    /// `[n_ff][n_embd]`
    pub gate: PackedMatrix,
    /// `[n_ff][n_embd]`
    pub up: PackedMatrix,
    /// `[n_ff]`
    pub ffn_sub_norm: Option<Vec<f32>>,
    /// `[n_embd][n_ff]`
    pub down: PackedMatrix,
}

impl Layer {
    /// Its matrices in the order in which a pass reads them.
    fn matrices_mut(&mut self) -> [&mut PackedMatrix; 7] {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        [q, k, v, o, gate, up, down]
    }
}

/// A full-precision matrix, row by row as the file holds it.
#[derive(Debug)]
pub struct RowMatrix {
    kind: RowType,
    rows: usize,
    k: usize,
    row_bytes: usize,
    bytes: Bytes,
}

impl RowMatrix {
    /// How a value is stored.
    #[must_use]
    pub fn kind(&self) -> RowType {
        self.kind
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Whether it is a part of a mapped file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }

    /// Bytes of all rows.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.rows * self.row_bytes
    }

    /// The bytes of some consecutive rows.
    #[must_use]
    pub fn row_range(&self, rows: std::ops::Range<usize>) -> &[u8] {
        &self.bytes.as_slice()[rows.start * self.row_bytes..rows.end * self.row_bytes]
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The bytes of one row, for those who read few of them. Those of a mapped file are read into `room`, if it has
    /// [`row_bytes`](Self::row_bytes): to touch the map makes all resident that the system holds around them.
    #[must_use]
    pub fn row<'a>(&'a self, row: usize, room: &'a mut [u8]) -> &'a [u8] {
        let (at, len) = (row * self.row_bytes, self.row_bytes);
        let read = room.get_mut(..len).is_some_and(|room| self.bytes.read_past_map(at, room));
        if read { &room[..len] } else { self.row_range(row..row + 1) }
    }

    /// Some rows will not be read for a while: pages of a map may go.
    pub(super) fn advise_dontneed(&self, rows: std::ops::Range<usize>) {
        self.bytes.advise_dontneed(rows.start * self.row_bytes..rows.end * self.row_bytes);
    }
}

/// Steps of a load, for its progress.
pub(super) struct Loader<'a, 'p> {
    pub(super) gguf: &'a Gguf,
    pub(super) kernels: &'a Kernels,
    pub(super) forms: Forms,
    pub(super) cancel: Cancel,
    pub(super) options: &'a mut LoadOptions<'p>,
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) arena: Arena,
    pub(super) done: usize,
}

/// The arena for the matrices of a file that are packed at load.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(super) fn arena(gguf: &Gguf, forms: Forms) -> Result<Arena> {
    Arena::new(gguf.tensors.iter().filter(|tensor| tensor.dtype.is_ternary()).map(|tensor| {
        let form = forms.of(&tensor.name);
        let (rows, k) = (tensor.shape.rows() as usize, tensor.shape.columns() as usize);
        let panels = rows.div_ceil(form.rows());
        let packed = form_of(tensor.dtype) == Some(form);
        // Longer rows are refused when their turn comes.
        if packed || k > MAX_K { 0 } else { panels.saturating_mul(form.panel_bytes(k)) }
    }))
}

impl Loader<'_, '_> {
    /// Reads and packs everything. `beside` runs once, while the layers are packed if there are any to pack; it is told
    /// how many bytes they may take of the heap meanwhile.
    pub(super) fn weights(
        mut self,
        config: &Config,
        beside: impl FnOnce(u64) + Send,
    ) -> Result<Weights> {
        let (width, vocab) = (config.n_embd, config.n_vocab);
        super::convert::check_version(self.gguf)?;
        let embedding = self.rows("token_embd.weight", vocab, width)?;
        let output = match self.gguf.tensor("output.weight") {
            Some(_) => Some(self.rows("output.weight", vocab, width)?),
            None => None,
        };
        let planes = self.planes(output.as_ref().unwrap_or(&embedding))?;
        if planes.is_some() {
            // Of a screened head few rows are read, here and there.
            for name in ["output.weight", "token_embd.weight"] {
                if let Some(tensor) = self.gguf.tensor(name) {
                    self.gguf.source().advise_dontneed(tensor.range());
                    self.gguf.source().advise_random(tensor.range());
                }
            }
        }
        let output_norm = self.vector("output_norm.weight", width)?;
        let rope_factors = match self.gguf.tensor("rope_freqs.weight") {
            Some(_) => Some(self.vector("rope_freqs.weight", config.rope_dim / 2)?),
            None => None,
        };
        let (pool, room) = (self.pool, self.layers_heap());
        // Where nothing is packed no time is won, and what a vocabulary's build leaves free serves the caller's next
        // allocations only if it was the caller's: allocators keep apart what threads free.
        let beside_others = threads_may_allocate() && !self.arena.is_empty();
        let mut layers = pool.in_place_scope(|scope| {
            if beside_others {
                scope.spawn(|_| beside(room));
            } else {
                beside(room);
            }
            (0..config.n_layer).map(|i| self.layer(config, i)).collect::<Result<Vec<_>>>()
        })?;
        let arena = self.arena.settle();
        for layer in &mut layers {
            layer.matrices_mut().into_iter().for_each(|matrix| matrix.settle(&arena));
        }
        Ok(Weights { embedding, output, planes, output_norm, rope_factors, layers })
    }

    /// The most that packing the layers takes of the heap: their vectors and scales, and for a moment a tensor that
    /// had to be read and a panel of codes in each thread.
    fn layers_heap(&self) -> u64 {
        let (mut kept, mut moment) = (0u64, 0u64);
        for tensor in &self.gguf.tensors {
            let (rows, k) = (tensor.shape.rows(), tensor.shape.columns());
            if tensor.dtype.is_ternary() {
                let form = self.forms.of(&tensor.name);
                let rows_at_once = form.rows() + form_of(tensor.dtype).map_or(0, Form::rows);
                let panels = (self.pool.current_num_threads() as u64 + 2) * rows_at_once as u64;
                let read = if self.gguf.source().is_mapped() { 0 } else { tensor.bytes };
                kept = kept.saturating_add(8 * rows.next_multiple_of(form.rows() as u64));
                moment = moment.max(read.saturating_add(panels.saturating_mul(k)));
            } else if rows == 1 {
                kept = kept.saturating_add(4 * k);
                moment = moment.max(tensor.bytes);
            }
        }
        kept.saturating_add(moment)
    }

    fn layer(&mut self, config: &Config, i: usize) -> Result<Layer> {
        let (width, ff) = (config.n_embd, config.n_ff);
        let (heads, kv) = (config.n_head * config.head_dim, config.n_head_kv * config.head_dim);
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        let mut sub = |part: &str, len| {
            if config.sub_norms { self.vector(&name(part), len).map(Some) } else { Ok(None) }
        };
        let (attn_sub_norm, ffn_sub_norm) =
            (sub("attn_sub_norm", heads)?, sub("ffn_sub_norm", ff)?);
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm"), width)?,
            q: self.ternary(&name("attn_q"), heads, width)?,
            k: self.ternary(&name("attn_k"), kv, width)?,
            v: self.ternary(&name("attn_v"), kv, width)?,
            attn_sub_norm,
            o: self.ternary(&name("attn_output"), width, heads)?,
            ffn_norm: self.vector(&name("ffn_norm"), width)?,
            gate: self.ternary(&name("ffn_gate"), ff, width)?,
            up: self.ternary(&name("ffn_up"), ff, width)?,
            ffn_sub_norm,
            down: self.ternary(&name("ffn_down"), width, ff)?,
        })
    }

    /// One tensor done: asks whether to go on.
    pub(super) fn step(&mut self) -> Result<()> {
        self.done += 1;
        self.cancel.check()?;
        let fraction = self.done as f32 / self.gguf.tensors.len().max(1) as f32;
        let go_on =
            self.options.progress.as_mut().is_none_or(|progress| progress(fraction.min(0.99)));
        if go_on { Ok(()) } else { Err(Error::Cancelled) }
    }

    pub(super) fn find(&self, name: &str, rows: usize, columns: usize) -> Result<TensorInfo> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| {
            Error::bad_model(
                name,
                format!("the tensor is missing; {rows} x {columns} values are wanted"),
            )
        })?;
        let (found_columns, found_rows) = (tensor.shape.columns(), tensor.shape.rows());
        if (found_columns, found_rows) != (columns as u64, rows as u64)
            || tensor.shape.elements() != found_columns * found_rows
        {
            let rule = format!("shape {:?}, [{columns}, {rows}] is wanted", tensor.shape.dims());
            return Err(Error::bad_model(name, rule));
        }
        Ok(tensor.clone())
    }

    /// A vector of finite numbers.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self.find(name, 1, len)?;
        let Some(kind) = row_type(tensor.dtype).filter(|kind| kind.row_bytes(1).is_some()) else {
            return Err(Error::unsupported_model(
                format!("tensor {name} has type {}", tensor.dtype.name()),
                "vectors of type F32, F16 and BF16 load",
            ));
        };
        let mut out = try_zeroed(len, "a norm")?;
        // Past the map: it would keep these pages, and all that the system maps around them.
        let mut copy = try_zeroed(tensor.bytes as usize, "a norm")?;
        if self.gguf.source().read_past_map(tensor.range().start, &mut copy) {
            Kernels::decode_row(&copy, kind, &mut out);
        } else {
            Kernels::decode_row(&self.gguf.tensor_bytes(&tensor)?, kind, &mut out);
        }
        if let Some(i) = out.iter().position(|x| !x.is_finite()) {
            return Err(Error::bad_model(
                name,
                format!("value {i} is {}, a number is wanted", out[i]),
            ));
        }
        self.step()?;
        Ok(out)
    }

    fn rows(&mut self, name: &str, rows: usize, k: usize) -> Result<RowMatrix> {
        let tensor = self.find(name, rows, k)?;
        let kind = row_type(tensor.dtype);
        let Some((kind, row_bytes)) = kind.and_then(|kind| Some((kind, kind.row_bytes(k)?))) else {
            return Err(Error::unsupported_model(
                format!("tensor {name} has type {}", tensor.dtype.name()),
                "embeddings and heads of type F32, F16, BF16, Q8_0 and Q6_K load: quantise it to one of these",
            ));
        };
        let bytes = Bytes::from_source(self.gguf.source(), tensor.range())?;
        if self.options.mlock {
            let _ = self.gguf.source().mlock(tensor.range());
        }
        self.step()?;
        let matrix = RowMatrix { kind, rows, k, row_bytes, bytes };
        if self.options.verify {
            self.check_finite(name, &matrix)?;
        }
        Ok(matrix)
    }

    /// Every value of a matrix is a number.
    fn check_finite(&self, name: &str, matrix: &RowMatrix) -> Result<()> {
        let mut row = try_zeroed(matrix.k, "a row")?;
        for r in 0..matrix.rows {
            if r.is_multiple_of(1024) {
                self.cancel.check()?;
            }
            Kernels::decode_row(matrix.row_range(r..r + 1), matrix.kind, &mut row);
            if let Some(i) = row.iter().position(|x| !x.is_finite()) {
                let rule = format!("value {i} of row {r} is {}, a number is wanted", row[i]);
                return Err(Error::bad_model(name, rule));
            }
        }
        Ok(())
    }

    fn ternary(&mut self, name: &str, rows: usize, k: usize) -> Result<PackedMatrix> {
        let tensor = self.find(name, rows, k)?;
        let kind = match tensor.dtype {
            DType::I2_S => TernaryType::I2S,
            DType::TQ1_0 => TernaryType::Tq1_0,
            DType::TQ2_0 => TernaryType::Tq2_0,
            packed if packed.panel().is_some() => return self.packed(&tensor, rows, k),
            other => {
                return Err(Error::unsupported_model(
                    format!("tensor {name} has type {}", other.name()),
                    "layer matrices must be ternary: convert them to I2_S, TQ1_0 or TQ2_0",
                ));
            }
        };
        let bytes = self.gguf.tensor_bytes(&tensor)?;
        let tensor_scale = match kind {
            TernaryType::I2S => Some(i2_s_scale(name, &bytes, rows * k / 4)?),
            _ => None,
        };
        let factor = self.separate_scale(name)?;
        let (form, arena, cancel) = (self.forms.of(name), &mut self.arena, &self.cancel);
        let mut matrix = self.pool.install(|| {
            PackedMatrix::pack(name, kind, &bytes, (rows, k), tensor_scale, form, arena, cancel)
        })?;
        if let Some(factor) = factor {
            matrix.scale_by(factor);
        }
        debug_assert!(self.kernels.forms().contains(&matrix.form()));
        // The packed copy serves from here on: a mapped file's pages need not stay.
        self.gguf.source().advise_dontneed(tensor.range());
        self.step()?;
        Ok(matrix)
    }

    /// Panels as an earlier conversion wrote them: mapped where this table reads their form, else packed again.
    fn packed(&mut self, tensor: &TensorInfo, rows: usize, k: usize) -> Result<PackedMatrix> {
        let name = &tensor.name;
        let form = form_of(tensor.dtype)
            .ok_or_else(|| Error::bad_model(name, "a packed layout without a form"))?;
        let codes = rows.div_ceil(form.rows()) * form.panel_bytes(k);
        let range = tensor.range();
        if k > MAX_K || range.end - range.start != codes as u64 {
            return Err(Error::bad_model(
                name,
                format!("{} bytes do not fit {rows} x {k} weights", tensor.bytes),
            ));
        }
        let source = self.gguf.source();
        let scale = scale_name(name);
        let one = self.gguf.tensor(&scale).is_some_and(|scale| scale.shape.columns() == 1);
        let mut scales = self.vector(&scale, if one { 1 } else { rows })?;
        if let Some(row) = scales.iter().position(|scale| *scale < 0.0) {
            let rule = format!("value {row} is {}: a number from 0 up is wanted", scales[row]);
            return Err(Error::bad_model(&*scale, rule));
        }
        if one {
            let first = scales[0];
            scales = try_zeroed(rows, "scales")?;
            scales.fill(first);
        }
        let matrix =
            PackedMatrix::from_panels(form, rows, k, Bytes::from_source(source, range)?, scales)?;
        if self.options.verify && !matrix.check_codes() {
            return Err(Error::bad_model(name, "a byte that is no trits"));
        }
        let wanted = self.forms.of(name);
        let matrix = if form == wanted {
            matrix
        } else {
            let arena = &mut self.arena;
            self.pool.install(|| matrix.repack_into(wanted, name, arena))?
        };
        self.step()?;
        Ok(matrix)
    }

    /// `blk.i.x.scale`, which older conversions keep apart from trits of plus and minus one.
    fn separate_scale(&mut self, weight: &str) -> Result<Option<f32>> {
        let name = scale_name(weight);
        if self.gguf.tensor(&name).is_none() {
            Ok(None)
        } else {
            Ok(Some(self.vector(&name, 1)?[0]))
        }
    }
}

/// The scale behind the codes of an I2_S tensor.
fn i2_s_scale(name: &str, bytes: &[u8], at: usize) -> Result<f32> {
    let scale = bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(f32::NAN, f32::from_le_bytes);
    if scale.is_finite() && scale > 0.0 {
        Ok(scale)
    } else {
        Err(Error::bad_model(name, format!("scale {scale}: a positive number is wanted")))
    }
}

/// The kernels' name of a full-precision kind.
pub(super) fn row_type(dtype: DType) -> Option<RowType> {
    Some(match dtype {
        DType::F32 => RowType::F32,
        DType::F16 => RowType::F16,
        DType::BF16 => RowType::Bf16,
        DType::Q8_0 => RowType::Q8_0,
        DType::Q6_K => RowType::Q6K,
        _ => return None,
    })
}
