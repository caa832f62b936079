//! The packed form of a model as a file: it maps in milliseconds and opens on every CPU.
//!
//! It is a GGUF of the same keys and names whose layer matrices have this library's own
//! types (docs/formats.md): panels as the kernels read them. What a load copies, scales and
//! vectors, lies behind all that it maps, so that no page between panels is touched for it.

use super::{Model, Planes, Weights, planes, weights::Layer};
use crate::{
    control::{Cancel, Progress},
    error::{Error, Result},
    file::{Gguf, Value, Writer, replace},
    kernels::{Code, Form},
    packed::PackedMatrix,
    tensor::{DType, TensorInfo},
};
use std::{
    io::{self, Write},
    path::Path,
};

/// The version of the packed layouts.
pub(super) const VERSION: u32 = 3;
/// The key that carries it.
pub(super) const VERSION_KEY: &str = "tern.packed.version";

/// Bytes written between two looks at the cancel token.
const PIECE: usize = 1 << 22;

/// Whether a packed file is of this version.
pub(super) fn check_version(gguf: &Gguf) -> Result<()> {
    match gguf.metadata.get(VERSION_KEY) {
        None | Some(Value::U32(VERSION)) => Ok(()),
        Some(other) => Err(Error::unsupported_model(
            format!("{VERSION_KEY} is {other:?}"),
            format!("packed files of version {VERSION} load: convert the original model again"),
        )),
    }
}

/// The form of one of our own types.
pub(super) fn form_of(dtype: DType) -> Option<Form> {
    match dtype {
        DType::TERN_T2_16 => Some(Form { code: Code::Bits2, tiles: 1 }),
        DType::TERN_T2_32 => Some(Form { code: Code::Bits2, tiles: 2 }),
        DType::TERN_T3_32 => Some(Form { code: Code::Base3, tiles: 2 }),
        DType::TERN_R2_32 => Some(Form::ROWS),
        DType::TERN_C2_256 => Some(Form::COLUMNS),
        _ => None,
    }
}

/// The type for a form; forms without one are packed again as `TERN_T2_32`.
fn dtype_of(form: Form) -> DType {
    DType::all().find(|dtype| form_of(*dtype) == Some(form)).unwrap_or(DType::TERN_T2_32)
}

/// The form in which a matrix of this form is written.
fn written(form: Form) -> Form {
    form_of(dtype_of(form)).expect("a type has a form")
}

/// What becomes a tensor of the file.
enum Part<'a> {
    /// As the file has it.
    Kept(&'a TensorInfo),
    Panels(&'a PackedMatrix),
    Planes(&'a Planes),
    /// Of the rows of a matrix, or the one of all.
    Scales(Vec<f32>),
}

impl Part<'_> {
    fn shape(&self) -> (DType, Vec<u64>) {
        match self {
            Part::Kept(tensor) => (tensor.dtype, tensor.shape.dims().to_vec()),
            Part::Panels(matrix) => {
                (dtype_of(matrix.form()), vec![matrix.k() as u64, matrix.rows() as u64])
            }
            Part::Planes(planes) => (DType::TERN_H8, vec![planes.k() as u64, planes.rows() as u64]),
            Part::Scales(scales) => (DType::F32, vec![scales.len() as u64]),
        }
    }
}

/// The tensors of the file in their order: what a load maps, then what it copies.
fn parts<'a>(gguf: &'a Gguf, weights: &'a Weights) -> Vec<(String, Part<'a>)> {
    let matrix = |name: &str| find(&weights.layers, name);
    let (mut mapped, mut vectors, mut all_scales) = (Vec::new(), Vec::new(), Vec::new());
    for tensor in &gguf.tensors {
        let name = tensor.name.clone();
        let weight = name.strip_suffix(".scale").map(|name| format!("{name}.weight"));
        if name == planes::NAME || weight.is_some_and(|weight| matrix(&weight).is_some()) {
            continue; // made anew; a scale beside its weight is a part of the rows' scales by now
        }
        if let Some(matrix) = matrix(&name) {
            let mut scales: Vec<f32> = matrix.scales().collect();
            if scales.iter().all(|scale| scale.to_bits() == scales[0].to_bits()) {
                scales.truncate(1);
            }
            all_scales.push((scale_name(&name), Part::Scales(scales)));
            mapped.push((name, Part::Panels(matrix)));
        } else if tensor.shape.rows() == 1 {
            vectors.push((name, Part::Kept(tensor)));
        } else {
            mapped.push((name, Part::Kept(tensor)));
        }
    }
    let planes = weights.planes.as_ref();
    mapped.extend(planes.map(|planes| (planes::NAME.to_owned(), Part::Planes(planes))));
    mapped.extend(all_scales);
    mapped.extend(vectors);
    mapped
}

/// The tensor of the scales of a weight.
pub(super) fn scale_name(weight: &str) -> String {
    format!("{}.scale", weight.trim_end_matches(".weight"))
}

impl Model {
    /// Writes the packed form to `path`; whatever stood there is replaced when all is written.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] for a model loaded for its vocabulary; [`Error::Cancelled`]; [`Error::Io`].
    pub fn convert(
        &self,
        path: impl AsRef<Path>,
        mut progress: Option<Progress<'_>>,
        cancel: Option<&Cancel>,
    ) -> Result<()> {
        let weights = self.weights()?;
        let gguf = self.gguf();
        let mut writer = Writer::new();
        for (key, value) in gguf.metadata.iter().filter(|(key, _)| *key != VERSION_KEY) {
            writer.set(key, value);
        }
        writer.set(VERSION_KEY, Value::U32(VERSION));
        let parts = parts(gguf, weights);
        let path = path.as_ref();
        let io =
            |source: io::Error| Error::Io { what: format!("writing {}", path.display()), source };
        for (name, part) in &parts {
            let (dtype, dims) = part.shape();
            writer.tensor(name, dtype, &dims).map_err(io)?;
        }
        let total: u64 = writer.tensors().iter().map(|tensor| tensor.bytes).sum();
        let mut done = 0u64;
        replace(path, |out| {
            let mut body = writer.begin(out).map_err(io)?;
            let mut put = |body: &mut dyn Write, bytes: &[u8]| -> Result<()> {
                for piece in bytes.chunks(PIECE) {
                    cancel.map_or(Ok(()), Cancel::check)?;
                    body.write_all(piece).map_err(io)?;
                    done += piece.len() as u64;
                    let fraction = done as f32 / total.max(1) as f32;
                    if !progress.as_mut().is_none_or(|progress| progress(fraction.min(1.0))) {
                        return Err(Error::Cancelled);
                    }
                }
                Ok(())
            };
            for (name, part) in &parts {
                body.tensor(name).map_err(io)?;
                match part {
                    Part::Kept(tensor) => put(&mut body, &gguf.tensor_bytes(tensor)?)?,
                    Part::Panels(matrix) => {
                        let form = written(matrix.form());
                        let again =
                            if form == matrix.form() { None } else { Some(matrix.repack(form)?) };
                        let matrix = again.as_ref().unwrap_or(matrix);
                        for panel in 0..matrix.panels() {
                            put(&mut body, matrix.panel(panel))?;
                        }
                    }
                    Part::Planes(planes) => {
                        let rows = 0..planes.rows();
                        put(&mut body, planes.high(rows.clone()))?;
                        put(&mut body, planes.middle(rows.clone()))?;
                        put(&mut body, planes.low(rows))?;
                        put(&mut body, &planes.bounds_as_bytes())?;
                    }
                    Part::Scales(scales) => {
                        let bytes: Vec<u8> =
                            scales.iter().copied().flat_map(f32::to_le_bytes).collect();
                        put(&mut body, &bytes)?;
                    }
                }
            }
            body.finish().map_err(io)?;
            Ok(())
        })
    }
}

/// The packed matrix of a tensor's name.
fn find<'a>(layers: &'a [Layer], name: &str) -> Option<&'a PackedMatrix> {
    let (index, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let layer = layers.get(index.parse::<usize>().ok()?)?;
    Some(match part {
        "attn_q" => &layer.q,
        "attn_k" => &layer.k,
        "attn_v" => &layer.v,
        "attn_output" => &layer.o,
        "ffn_gate" => &layer.gate,
        "ffn_up" => &layer.up,
        "ffn_down" => &layer.down,
        _ => return None,
    })
}
