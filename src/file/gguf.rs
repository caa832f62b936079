//! GGUF: header, key-values, tensor directory.
//!
//! ```text
//! ┌──────────────────────────────────────────────────────────────────────┐
//! │ "GGUF" │ version u32 │ tensor count u64 │ key count u64                │ 24 bytes
//! ├──────────────────────────────────────────────────────────────────────┤
//! │ key string │ kind u32 │ value                                        │ × key count
//! │     string: length u64, bytes    array: kind u32, count u64, elements │
//! ├──────────────────────────────────────────────────────────────────────┤
//! │ name string │ rank u32 │ dimension u64 × rank │ type u32 │ offset u64 │ × tensor count
//! ├──────────────────────────────────────────────────────────────────────┤
//! │ zeros up to a multiple of `general.alignment` from the file's start  │
//! ├──────────────────────────────────────────────────────────────────────┤
//! │ data: a tensor lies `offset` bytes from here, on that alignment      │
//! └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! All numbers are little-endian. Versions 2 and 3 differ only in that 3 may
//! be big-endian, which no file of interest is. A file is refused for the
//! first thing wrong with it, with its place, and no count in it is believed
//! before the bytes it promises were seen to exist.

use super::{
    Metadata, Source, cursor::Cursor, directory::Directory, metadata::Entry, value::Stored,
};
use crate::{
    error::{Error, Result},
    tensor::TensorInfo,
};
use std::{borrow::Cow, sync::Arc};

/// Most keys a file may have. Real ones have some thirty.
pub const KEYS_MAX: u64 = 1 << 16;
/// Most tensors a file may have. Real ones have some hundreds.
pub const TENSORS_MAX: u64 = 1 << 16;
/// Most bytes before the data. A vocabulary of 262 144 tokens takes 20 MB.
pub const HEADER_BYTES_MAX: u64 = 128 << 20;
/// Most bytes of all keys together.
const KEY_BYTES_MAX: usize = 16 << 20;
/// Longest key that the format allows.
const KEY_LEN_MAX: u64 = 65_535;
/// Alignment where the file does not say.
const ALIGNMENT: u64 = 32;
/// Largest alignment: a large page. Real files have 32, seldom 4096.
const ALIGNMENT_MAX: u64 = 2 << 20;

/// A model file's header, checked, and the way to its tensors.
#[derive(Debug)]
pub struct Gguf {
    source: Arc<Source>,
    /// 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensor directory, in file order.
    pub tensors: Vec<TensorInfo>,
    /// First byte after the header's padding.
    pub data_start: u64,
    /// Indices of `tensors` in the order of their names.
    sorted: Vec<u32>,
}

impl Gguf {
    /// Reads the header of a file, and no more of it.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] if it breaks the format, [`Error::UnsupportedModel`]
    /// if it uses what this library does not run, [`Error::Io`] if it cannot
    /// be read.
    pub fn parse(source: Arc<Source>) -> Result<Gguf> {
        read(&source).map_err(|error| source.blame(error))
    }

    /// Where the bytes come from.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The tensor of a name, if the file has it.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let tensor = |index: &u32| &self.tensors[*index as usize];
        let found =
            self.sorted.binary_search_by(|index| tensor(index).name.as_str().cmp(name)).ok()?;
        Some(tensor(&self.sorted[found]))
    }

    /// The bytes of a tensor: borrowed where the file is in memory, else read.
    ///
    /// # Errors
    ///
    /// As [`Source::bytes`].
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        self.source.bytes(tensor.range())
    }
}

fn read(source: &Arc<Source>) -> Result<Gguf> {
    let mut cursor = Cursor::new(source, HEADER_BYTES_MAX);
    let version = version(&mut cursor)?;
    let tensor_count = cursor.count("tensor count", Directory::ENTRY_BYTES_MIN, TENSORS_MAX)?;
    let key_count = cursor.count("key count", 8 + 1 + 4 + 1, KEYS_MAX)?;
    let (keys, entries) = entries(&mut cursor, key_count)?;
    let directory = Directory::read(&mut cursor, tensor_count);
    let header_end = cursor.at();

    let window = cursor.into_window();
    let mut metadata =
        Metadata { source: Arc::clone(source), window, keys, entries, sorted: Vec::new() };
    metadata.sorted = metadata.sort()?;
    refuse_features(&metadata)?;
    // A feature we lack explains more than the tensor type it comes with.
    let mut directory = directory?;

    let alignment = alignment(&metadata)?;
    let data_start = match directory.tensors.is_empty() {
        // Without tensors there is no data to align, and often no padding.
        true => header_end,
        false => data_start(source, header_end, alignment)?,
    };
    directory.place(data_start, alignment, source.len())?;
    let sorted = directory.sort()?;
    Ok(Gguf {
        source: Arc::clone(source),
        version,
        metadata,
        tensors: directory.tensors,
        data_start,
        sorted,
    })
}

/// The first byte after the header's padding, which must be zeros.
///
/// A count that is too small would leave entries unread and shift all data;
/// what is then taken for padding gives it away.
fn data_start(source: &Source, header_end: u64, alignment: u64) -> Result<u64> {
    let start =
        header_end.checked_next_multiple_of(alignment).filter(|start| *start <= source.len());
    let start = start.ok_or_else(|| {
        let rule = format!("begins past the end: alignment {alignment}, {} bytes", source.len());
        Error::bad_byte("tensor data", header_end, rule)
    })?;
    let mut padding = [0; 4096];
    let mut at = header_end;
    while at < start {
        let piece = &mut padding[..4096.min((start - at) as usize)];
        source.read(at, piece)?;
        if let Some(stray) = piece.iter().position(|byte| *byte != 0) {
            let rule = format!("{}, wanted 0: the counts do not fit the header", piece[stray]);
            return Err(Error::bad_byte("padding", at + stray as u64, rule));
        }
        at += piece.len() as u64;
    }
    Ok(start)
}

fn version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic: [u8; 4] = cursor.array("magic")?;
    if &magic != b"GGUF" {
        return Err(Error::bad_byte(
            "magic",
            0,
            format!("'{}', wanted 'GGUF'", magic.escape_ascii()),
        ));
    }
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => Ok(version),
        // A big-endian file shows its small version number in the high bytes.
        _ if version & 0xffff == 0 && version != 0 => {
            Err(Error::unsupported_model("a big-endian GGUF file", "convert it to little-endian"))
        }
        1 => Err(Error::unsupported_model(
            "GGUF version 1",
            "convert the model again with a current tool",
        )),
        _ => Err(Error::bad_byte("version", 4, format!("{version}, wanted 2 or 3"))),
    }
}

fn entries(cursor: &mut Cursor<'_>, count: u64) -> Result<(String, Vec<Entry>)> {
    let mut keys = String::new();
    let mut entries = reserve(count, "the keys")?;
    for index in 0..count {
        let at = cursor.at();
        let place = || format!("key {index}");
        let range = cursor.string("key").map_err(|error| within(error, place))?;
        let text =
            text(cursor, range, KEY_LEN_MAX).map_err(|rule| Error::bad_byte(place(), at, rule))?;
        if keys.len() + text.len() > KEY_BYTES_MAX {
            let rule = format!("the keys take more than {KEY_BYTES_MAX} bytes together");
            return Err(Error::bad_byte(place(), at, rule));
        }
        keys.try_reserve(text.len()).map_err(|_| out_of_memory("the keys", text.len() as u64))?;
        let start = keys.len();
        keys.push_str(text);
        let key = start..keys.len();
        let value = Stored::pass(cursor)
            .map_err(|error| within(error, || format!("key '{}'", &keys[key.clone()])))?;
        entries.push(Entry { key, value });
    }
    Ok((keys, entries))
}

/// A key or a name: some UTF-8 without NUL, not too long. The error is the broken rule.
pub(super) fn text<'c>(
    cursor: &'c Cursor<'_>,
    range: std::ops::Range<u64>,
    most: u64,
) -> Result<&'c str, String> {
    let len = range.end - range.start;
    if len == 0 || len > most {
        return Err(format!("{len} bytes long, wanted 1 to {most}"));
    }
    let bytes = cursor.passed(range);
    if bytes.contains(&0) {
        return Err(format!("'{}' holds a NUL", bytes.escape_ascii()));
    }
    std::str::from_utf8(bytes).map_err(|_| format!("'{}' is not UTF-8", bytes.escape_ascii()))
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.opt_u64(KEY)? {
        None => Ok(ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX => {
            Ok(alignment)
        }
        Some(other) => {
            Err(metadata
                .reject(KEY, format!("{other}, wanted a power of two up to {ALIGNMENT_MAX}")))
        }
    }
}

/// Refuses files that load well and answer garbage.
fn refuse_features(metadata: &Metadata) -> Result<()> {
    if let Some((key, _)) = metadata.iter().find(|(key, _)| key.starts_with("prism.hadamard.")) {
        let what = format!("weights in a rotated basis (key '{key}')");
        return Err(Error::unsupported_model(what, "use a model with plain ternary weights"));
    }
    match metadata.opt_u64("split.count")? {
        Some(parts) if parts > 1 => {
            let what = format!("one of {parts} parts of a split model");
            Err(Error::unsupported_model(what, "merge the parts into one file"))
        }
        _ => Ok(()),
    }
}

/// Indices in the order of their names; `twice` makes the error for a name met before.
pub(super) fn sort_unique<'n>(
    len: usize,
    name: impl Fn(usize) -> &'n str,
    twice: impl FnOnce(usize) -> Error,
) -> Result<Vec<u32>> {
    let mut sorted: Vec<u32> = reserve(len as u64, "an index of names")?;
    sorted.extend(0..len as u32);
    sorted.sort_unstable_by(|a, b| name(*a as usize).cmp(name(*b as usize)).then(a.cmp(b)));
    match sorted.windows(2).find(|pair| name(pair[0] as usize) == name(pair[1] as usize)) {
        Some(pair) => Err(twice(pair[1] as usize)),
        None => Ok(sorted),
    }
}

pub(super) fn reserve<T>(len: u64, what: &'static str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    let failed = || out_of_memory(what, len.saturating_mul(size_of::<T>() as u64));
    vec.try_reserve_exact(usize::try_from(len).map_err(|_| failed())?).map_err(|_| failed())?;
    Ok(vec)
}

pub(super) fn out_of_memory(what: &'static str, bytes: u64) -> Error {
    Error::OutOfMemory { what, bytes }
}

/// Puts a field's error into the thing it is a field of.
pub(super) fn within(error: Error, place: impl FnOnce() -> String) -> Error {
    match error {
        Error::BadModel { place: field, offset, rule } => {
            Error::BadModel { place: format!("{}, {field}", place()), offset, rule }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{OpenOptions, ReadAt, Value};
    use crate::tensor::DType;
    use std::{
        io,
        sync::atomic::{AtomicU64, Ordering},
    };

    fn oracle() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/oracle/tiny-b158-i2s.gguf")
    }

    /// A reader that counts the bytes asked of it.
    struct Counting(Vec<u8>, Arc<AtomicU64>);

    impl ReadAt for Counting {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, dst: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(dst.len() as u64, Ordering::Relaxed);
            dst.copy_from_slice(&self.0[offset as usize..][..dst.len()]);
            Ok(())
        }
    }

    #[test]
    fn every_source_says_the_same() {
        let bytes = std::fs::read(oracle()).unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let sources = [
            Source::open(oracle(), OpenOptions::default()).unwrap(),
            Source::open(oracle(), OpenOptions { mmap: false, ..OpenOptions::default() }).unwrap(),
            Source::copy(&bytes).unwrap(),
            Source::from_reader(Counting(bytes.clone(), Arc::clone(&read))),
        ];
        assert!(sources[0].is_mapped() && !sources[1].is_mapped());
        for source in sources {
            let gguf = Gguf::parse(Arc::new(source)).unwrap();
            let name = gguf.source().name();
            assert_eq!(
                gguf.metadata.str("general.architecture").unwrap(),
                "bitnet-b1.58",
                "{name}"
            );
            assert_eq!(gguf.metadata.u32("bitnet-b1.58.block_count").unwrap(), 4, "{name}");
            assert_eq!(gguf.metadata.array("tokenizer.ggml.tokens").unwrap().len(), 512, "{name}");
            assert_eq!(gguf.metadata.get("general.file_type"), Some(Value::U32(40)), "{name}");
            assert_eq!(gguf.tensors.len(), 4 * 11 + 2, "{name}");
            let tensor = gguf.tensor("blk.3.ffn_down.weight").unwrap();
            assert_eq!(
                (tensor.dtype, tensor.shape.dims()),
                (DType::I2_S, &[768, 512][..]),
                "{name}"
            );
            let range = tensor.offset as usize..(tensor.offset + tensor.bytes) as usize;
            assert_eq!(gguf.tensor_bytes(tensor).unwrap(), &bytes[range], "{name}");
            assert_eq!(gguf.tensor("no such tensor"), None, "{name}");
        }
        // One window holds this header; the rest is the one tensor.
        assert!(read.load(Ordering::Relaxed) < 256 << 10, "{read:?} bytes read");
    }
}
