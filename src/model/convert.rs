//! The packed form of a model as a file: it maps in milliseconds and opens on every CPU.
//!
//! It is a GGUF of the same keys and names whose layer matrices have this library's own
//! types (docs/formats.md): panels as the kernels read them, then the scale of each row.

use super::{Model, planes, weights::Layer};
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
pub(super) const VERSION: u32 = 2;
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
        let matrix = |tensor: &TensorInfo| find(&weights.layers, &tensor.name);
        // A scale beside its weight is a part of the rows' scales by now.
        let kept = |tensor: &&TensorInfo| {
            tensor
                .name
                .strip_suffix(".scale")
                .is_none_or(|name| find(&weights.layers, &format!("{name}.weight")).is_none())
        };
        let others = |tensor: &&TensorInfo| tensor.name != planes::NAME;
        let tensors: Vec<&TensorInfo> = gguf.tensors.iter().filter(kept).filter(others).collect();
        let path = path.as_ref();
        let io =
            |source: io::Error| Error::Io { what: format!("writing {}", path.display()), source };
        for tensor in &tensors {
            let dtype = matrix(tensor).map_or(tensor.dtype, |matrix| dtype_of(matrix.form()));
            writer.tensor(&tensor.name, dtype, tensor.shape.dims()).map_err(io)?;
        }
        if let Some(planes) = &weights.planes {
            let dims = [planes.k() as u64, planes.rows() as u64];
            writer.tensor(planes::NAME, DType::TERN_H8, &dims).map_err(io)?;
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
            for tensor in &tensors {
                body.tensor(&tensor.name).map_err(io)?;
                match matrix(tensor) {
                    None => put(&mut body, &gguf.tensor_bytes(tensor)?)?,
                    Some(matrix) => {
                        let form = form_of(dtype_of(matrix.form())).expect("a type has a form");
                        let again =
                            if form == matrix.form() { None } else { Some(matrix.repack(form)?) };
                        let matrix = again.as_ref().unwrap_or(matrix);
                        for panel in 0..matrix.panels() {
                            put(&mut body, matrix.panel(panel))?;
                        }
                        let scales: Vec<u8> = matrix.scales().flat_map(f32::to_le_bytes).collect();
                        put(&mut body, &scales)?;
                    }
                }
            }
            if let Some(planes) = &weights.planes {
                body.tensor(planes::NAME).map_err(io)?;
                put(&mut body, planes.high(0..planes.rows()))?;
                put(&mut body, planes.middle(0..planes.rows()))?;
                put(&mut body, planes.low(0..planes.rows()))?;
                put(&mut body, &planes.bounds_as_bytes())?;
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
