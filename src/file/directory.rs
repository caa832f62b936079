//! The tensor directory of a GGUF file: names, kinds, shapes and places.

use super::{
    cursor::Cursor,
    gguf::{reserve, sort_unique, text, within},
};
use crate::{
    error::{Error, Result},
    tensor::{DType, Shape, TensorInfo, foreign_type},
};

/// Longest tensor name that other readers take.
const NAME_LEN_MAX: u64 = 64;

/// A directory, and where in the file its offsets are written.
pub(super) struct Directory {
    /// Offsets count from the data section until [`place`](Directory::place).
    pub(super) tensors: Vec<TensorInfo>,
    fields: Vec<u64>,
}

impl Directory {
    /// Name length and one byte, rank, one dimension, type, offset.
    pub(super) const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

    /// Reads `count` entries, for which the file has room.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Directory> {
        let mut tensors = reserve(count, "the tensor directory")?;
        let mut fields = reserve(count, "the tensor directory")?;
        for index in 0..count {
            tensors.push(entry(cursor, index)?);
            fields.push(cursor.at() - 8);
        }
        Ok(Directory { tensors, fields })
    }

    /// Makes the offsets count from the start of the file, and checks that every tensor
    /// is aligned, within `len` and apart from all others.
    pub(super) fn place(&mut self, data_start: u64, alignment: u64, len: u64) -> Result<()> {
        for (tensor, field) in self.tensors.iter_mut().zip(&self.fields) {
            let TensorInfo { name, offset, bytes, .. } = tensor;
            let bad = |rule| Err(Error::bad_byte(place(name), *field, rule));
            if !offset.is_multiple_of(alignment) {
                return bad(format!(
                    "offset {offset} is not a multiple of the alignment {alignment}"
                ));
            }
            let Some(start) = data_start.checked_add(*offset) else {
                return bad(format!("offset {offset} reaches past 2^64"));
            };
            if start.checked_add(*bytes).is_none_or(|end| end > len) {
                return bad(format!(
                    "{bytes} bytes from byte {start} on; the file has {len}: it is cut short or damaged"
                ));
            }
            *offset = start;
        }
        self.refuse_overlaps()
    }

    /// Indices in the order of the names, of which none may appear twice.
    pub(super) fn sort(&self) -> Result<Vec<u32>> {
        let name = |i: usize| self.tensors[i].name.as_str();
        sort_unique(self.tensors.len(), name, |i| {
            Error::bad_byte(place(name(i)), self.fields[i], "appears twice")
        })
    }

    fn refuse_overlaps(&self) -> Result<()> {
        let mut order: Vec<usize> = reserve(self.tensors.len() as u64, "the tensor directory")?;
        order.extend(0..self.tensors.len());
        order.sort_unstable_by_key(|i| self.tensors[*i].offset);
        for pair in order.windows(2) {
            let [first, second] = [pair[0], pair[1]].map(|i| &self.tensors[i]);
            if first.range().end > second.offset {
                let rule = format!(
                    "begins at byte {}, within tensor '{}', which ends at byte {}",
                    second.offset,
                    first.name,
                    first.range().end
                );
                return Err(Error::bad_byte(place(&second.name), self.fields[pair[1]], rule));
            }
        }
        Ok(())
    }
}

fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo> {
    let at = cursor.at();
    let unnamed = || format!("tensor {index}");
    let range = cursor.string("name").map_err(|error| within(error, unnamed))?;
    let name =
        text(cursor, range, NAME_LEN_MAX).map_err(|rule| Error::bad_byte(unnamed(), at, rule))?;
    let name = name.to_owned();
    let (shape, dtype, bytes) =
        shape_and_kind(cursor, &name).map_err(|error| within(error, || place(&name)))?;
    let offset = cursor.u64("offset").map_err(|error| within(error, || place(&name)))?;
    Ok(TensorInfo { name, dtype, shape, offset, bytes })
}

/// Reads what a tensor is, and computes how many bytes it takes.
fn shape_and_kind(cursor: &mut Cursor<'_>, name: &str) -> Result<(Shape, DType, u64)> {
    let at = cursor.at();
    let rank = cursor.u32("rank")?;
    let mut dims = [0; Shape::RANK_MAX];
    let Some(dims) = dims.get_mut(..rank as usize) else {
        let rule = format!("{rank} dimensions, wanted 1 to {}", Shape::RANK_MAX);
        return Err(Error::bad_byte("rank", at, rule));
    };
    for dim in dims.iter_mut() {
        *dim = cursor.u64("dimension")?;
    }
    let shape = Shape::new(dims).map_err(|rule| Error::bad_byte("shape", at, rule))?;

    let at = cursor.at();
    let id = cursor.u32("type")?;
    let dtype = DType::from_id(id).ok_or_else(|| {
        let (meaning, remedy) = foreign_type(id);
        Error::unsupported_model(format!("tensor '{name}' has type {id} ({meaning})"), remedy)
    })?;
    let bytes = dtype.tensor_bytes(&shape).ok_or_else(|| {
        let (columns, block) = (shape.columns(), dtype.block());
        if columns.is_multiple_of(block) {
            return Error::bad_byte(
                "shape",
                at,
                format!("{shape} of {dtype} takes more than 2^64 bytes"),
            );
        }
        let rule = format!("rows of {columns} are not whole blocks of {block} ({dtype})");
        match dtype {
            // Such files exist, and no two readers agree where their rows begin.
            DType::I2_S => Error::unsupported_model(
                format!("tensor '{name}': {rule}"),
                "use a model whose row lengths are multiples of 128",
            ),
            _ => Error::bad_byte("shape", at, rule),
        }
    })?;
    Ok((shape, dtype, bytes))
}

fn place(name: &str) -> String {
    format!("tensor '{name}'")
}
