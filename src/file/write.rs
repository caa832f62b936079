//! Writes GGUF files: the way back from [`gguf`](super::gguf)'s drawing.
//!
//! The header must be known before the first byte of data, so a file is
//! written in two steps: [`Writer`] collects keys and the directory, its
//! [`begin`](Writer::begin) writes the header, and [`Body`] takes the data of
//! the tensors in the order they were announced, in pieces of any size.

use super::value::{Kind, Value};
use crate::tensor::{DType, Shape, TensorInfo};
use std::io::{self, Write};

/// Every tensor begins at a multiple of this, counted from the file's start.
const ALIGNMENT: u64 = 32;

/// The header of a file in the making.
#[derive(Debug, Default)]
pub struct Writer {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<TensorInfo>,
    /// Bytes of all tensors so far, each padded; the next one's offset.
    data_len: u64,
}

impl Writer {
    /// A header without keys and tensors.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Adds a key.
    pub fn set(&mut self, key: &str, value: Value<'_>) -> &mut Writer {
        self.key(key, value.kind());
        match value {
            Value::U8(v) => self.keys.push(v),
            Value::I8(v) => self.keys.extend(v.to_le_bytes()),
            Value::U16(v) => self.keys.extend(v.to_le_bytes()),
            Value::I16(v) => self.keys.extend(v.to_le_bytes()),
            Value::U32(v) => self.keys.extend(v.to_le_bytes()),
            Value::I32(v) => self.keys.extend(v.to_le_bytes()),
            Value::F32(v) => self.keys.extend(v.to_le_bytes()),
            Value::Bool(v) => self.keys.push(v.into()),
            Value::String(v) => string(&mut self.keys, v),
            Value::Array(v) => {
                self.array(v.kind(), v.len() as u64);
                self.keys.extend(v.encoded());
            }
            Value::U64(v) => self.keys.extend(v.to_le_bytes()),
            Value::I64(v) => self.keys.extend(v.to_le_bytes()),
            Value::F64(v) => self.keys.extend(v.to_le_bytes()),
        }
        self
    }

    /// Adds an array of strings.
    pub fn set_strings<S: AsRef<[u8]>>(
        &mut self,
        key: &str,
        strings: impl ExactSizeIterator<Item = S>,
    ) -> &mut Writer {
        self.key(key, Kind::Array);
        self.array(Kind::String, strings.len() as u64);
        for bytes in strings {
            string(&mut self.keys, bytes.as_ref());
        }
        self
    }

    /// Adds an array of signed 32-bit integers.
    pub fn set_i32s(
        &mut self,
        key: &str,
        values: impl ExactSizeIterator<Item = i32>,
    ) -> &mut Writer {
        self.key(key, Kind::Array);
        self.array(Kind::I32, values.len() as u64);
        self.keys.extend(values.flat_map(i32::to_le_bytes));
        self
    }

    /// Adds an array of single-precision floats.
    pub fn set_f32s(
        &mut self,
        key: &str,
        values: impl ExactSizeIterator<Item = f32>,
    ) -> &mut Writer {
        self.key(key, Kind::Array);
        self.array(Kind::F32, values.len() as u64);
        self.keys.extend(values.flat_map(f32::to_le_bytes));
        self
    }

    /// Announces a tensor; its data follows that of the tensors announced before.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the shape is none, or its rows are
    /// not whole blocks of the kind.
    pub fn tensor(&mut self, name: &str, dtype: DType, dims: &[u64]) -> io::Result<&mut Writer> {
        let refuse =
            |rule| io::Error::new(io::ErrorKind::InvalidInput, format!("tensor '{name}': {rule}"));
        let shape = Shape::new(dims).map_err(refuse)?;
        let bytes = dtype.tensor_bytes(&shape);
        let next = bytes.and_then(|bytes| padded(bytes)?.checked_add(self.data_len));
        let (Some(bytes), Some(next)) = (bytes, next) else {
            return Err(refuse(format!("{shape} of {dtype} has no size")));
        };
        self.tensors.push(TensorInfo {
            name: name.to_owned(),
            dtype,
            shape,
            offset: self.data_len,
            bytes,
        });
        self.data_len = next;
        Ok(self)
    }

    /// The tensors announced so far; offsets count from the start of the data.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Bytes of the header with its padding, and of the whole file.
    #[must_use]
    pub fn lengths(&self) -> (u64, u64) {
        let infos =
            self.tensors.iter().map(|t| 8 + t.name.len() + 4 + 8 * t.shape.dims().len() + 4 + 8);
        let header = 24 + (self.keys.len() + infos.sum::<usize>()) as u64;
        let header = header.next_multiple_of(ALIGNMENT);
        (header, header + self.data_len)
    }

    /// Writes the header.
    ///
    /// # Errors
    ///
    /// What `out` answers.
    pub fn begin<W: Write>(self, mut out: W) -> io::Result<Body<W>> {
        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend(self.key_count.to_le_bytes());
        header.extend(&self.keys);
        for tensor in &self.tensors {
            string(&mut header, tensor.name.as_bytes());
            header.extend((tensor.shape.dims().len() as u32).to_le_bytes());
            header.extend(tensor.shape.dims().iter().flat_map(|dim| dim.to_le_bytes()));
            header.extend(tensor.dtype.id().to_le_bytes());
            header.extend(tensor.offset.to_le_bytes());
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.write_all(&header)?;
        Ok(Body { out, tensors: self.tensors.into_iter(), left: 0, padding: 0 })
    }

    fn key(&mut self, key: &str, kind: Kind) {
        self.key_count += 1;
        string(&mut self.keys, key.as_bytes());
        self.keys.extend((kind as u32).to_le_bytes());
    }

    fn array(&mut self, kind: Kind, len: u64) {
        self.keys.extend((kind as u32).to_le_bytes());
        self.keys.extend(len.to_le_bytes());
    }
}

/// The data of a file in the making.
#[derive(Debug)]
pub struct Body<W> {
    out: W,
    tensors: std::vec::IntoIter<TensorInfo>,
    /// Bytes of the current tensor that are still to come.
    left: u64,
    /// Zeros to write after it.
    padding: u64,
}

impl<W: Write> Body<W> {
    /// Begins the next announced tensor; its bytes are then written to this body.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the one before lacks bytes or another
    /// name comes next, else what the output answers.
    pub fn tensor(&mut self, name: &str) -> io::Result<&mut Body<W>> {
        self.end()?;
        let next = self.tensors.next().filter(|tensor| tensor.name == name);
        let Some(tensor) = next else {
            return Err(misuse(format!("tensor '{name}' does not come next")));
        };
        self.left = tensor.bytes;
        self.padding = padded(tensor.bytes).unwrap_or(tensor.bytes) - tensor.bytes;
        Ok(self)
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if data is missing, else what the
    /// output answers.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        match self.tensors.next() {
            Some(tensor) => Err(misuse(format!("tensor '{}' has no data", tensor.name))),
            None => self.out.flush().map(|()| self.out),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(misuse(format!("{} bytes of a tensor are missing", self.left)));
        }
        let padding = std::mem::take(&mut self.padding) as usize;
        self.out.write_all(&[0; ALIGNMENT as usize][..padding])
    }
}

impl<W: Write> Write for Body<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(misuse(format!(
                "{} bytes too many for a tensor",
                bytes.len() as u64 - self.left
            )));
        }
        let len = self.out.write(bytes)?;
        self.left -= len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn padded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(ALIGNMENT)
}

fn misuse(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Gguf, Source};
    use std::sync::Arc;

    fn parse(bytes: Vec<u8>) -> Gguf {
        Gguf::parse(Arc::new(Source::from_memory(bytes))).unwrap()
    }

    #[test]
    fn a_copied_file_says_the_same() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/oracle/tiny-b158-i2s.gguf");
        let bytes = std::fs::read(path).unwrap();
        let first = parse(bytes.clone());
        let mut writer = Writer::new();
        for (key, value) in first.metadata.iter() {
            writer.set(key, value);
        }
        for tensor in &first.tensors {
            writer.tensor(&tensor.name, tensor.dtype, tensor.shape.dims()).unwrap();
        }
        let (header, total) = writer.lengths();
        assert_eq!((header, total), (first.data_start, bytes.len() as u64));
        let mut body = writer.begin(Vec::new()).unwrap();
        for tensor in &first.tensors {
            let data = first.tensor_bytes(tensor).unwrap();
            let body = body.tensor(&tensor.name).unwrap();
            // In pieces of an odd size.
            data.chunks(10_007).for_each(|piece| body.write_all(piece).unwrap());
        }
        // Written by another program in the same order, so the bytes are equal.
        assert!(body.finish().unwrap() == bytes, "the copy differs");
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let mut writer = Writer::new();
        let values = [
            Value::U8(200),
            Value::I8(-3),
            Value::U16(60_000),
            Value::I16(-300),
            Value::U32(70_000),
            Value::I32(-70_000),
            Value::F32(1e-5),
            Value::Bool(true),
            Value::String("träge".as_bytes()),
            Value::U64(1 << 60),
            Value::I64(-1 << 60),
            Value::F64(0.1),
        ];
        for value in values {
            writer.set(&format!("k.{}", value.kind()), value);
        }
        writer.set_strings("s", ["a", "", "bc"].iter());
        writer.set_i32s("i", [1, -1].into_iter()).set_f32s("f", [0.5].into_iter());
        let gguf = parse(writer.begin(Vec::new()).unwrap().finish().unwrap());
        for value in values {
            assert_eq!(gguf.metadata.get(&format!("k.{}", value.kind())), Some(value));
        }
        let array = |key| gguf.metadata.array(key).unwrap();
        assert_eq!(array("s").strings().unwrap().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        assert_eq!(array("i").integers().unwrap().collect::<Vec<_>>(), [1, -1]);
        assert_eq!(array("f").floats().unwrap().collect::<Vec<_>>(), [0.5]);
    }

    #[test]
    fn misuse_is_an_error() {
        let begin = || {
            let mut writer = Writer::new();
            writer.tensor("a", DType::F32, &[3]).unwrap().tensor("b", DType::F32, &[1]).unwrap();
            writer.begin(Vec::new()).unwrap()
        };
        assert!(begin().finish().is_err(), "no data");
        assert!(begin().tensor("b").is_err(), "out of order");
        assert!(begin().write_all(&[0]).is_err(), "before any tensor");
        let mut body = begin();
        assert!(body.tensor("a").unwrap().write_all(&[0; 13]).is_err(), "a byte too many");
        let mut body = begin();
        body.tensor("a").unwrap().write_all(&[0; 11]).unwrap();
        assert!(body.tensor("b").is_err(), "a byte missing");
        assert!(Writer::new().tensor("q", DType::I2_S, &[127]).is_err(), "not whole blocks");
        assert!(Writer::new().tensor("q", DType::F32, &[]).is_err(), "no shape");
    }
}
