//! The values of a header: their kinds, and how each is stored.

use super::cursor::Cursor;
use crate::error::{Error, Result};
use std::{fmt, ops::Range};

/// What a value is, with the id it has in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are the widths")]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    /// The kind with an id.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Kind> {
        use Kind::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
            .get(id as usize)
            .copied()
    }

    /// Bytes of one value; `None` for strings and arrays, which say themselves.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::String | Kind::Array => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

/// One value of a header, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the widths")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Nominally UTF-8, not checked.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Decodes a value of fixed width or the bytes of a string.
    ///
    /// Missing bytes count as zero: the walk that found them checked that they
    /// are there, and a file that shrinks under a map must not cause a panic.
    pub(super) fn decode(kind: Kind, bytes: &'a [u8]) -> Value<'a> {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match kind {
            Kind::U8 => Value::U8(first::<1>(bytes)[0]),
            Kind::I8 => Value::I8(i8::from_le_bytes(first(bytes))),
            Kind::U16 => Value::U16(u16::from_le_bytes(first(bytes))),
            Kind::I16 => Value::I16(i16::from_le_bytes(first(bytes))),
            Kind::U32 => Value::U32(u32::from_le_bytes(first(bytes))),
            Kind::I32 => Value::I32(i32::from_le_bytes(first(bytes))),
            Kind::F32 => Value::F32(f32::from_le_bytes(first(bytes))),
            Kind::Bool => Value::Bool(first::<1>(bytes)[0] != 0),
            Kind::String | Kind::Array => Value::String(bytes),
            Kind::U64 => Value::U64(u64::from_le_bytes(first(bytes))),
            Kind::I64 => Value::I64(i64::from_le_bytes(first(bytes))),
            Kind::F64 => Value::F64(f64::from_le_bytes(first(bytes))),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// Its number, if it is an integer of any width.
    #[must_use]
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// Its number, if it is a float of any width.
    #[must_use]
    pub fn float(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }
}

/// A value as text: strings as they are, arrays as their length and kind.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::F32(v) => write!(f, "{v}"),
            Value::F64(v) => write!(f, "{v}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::String(v) => f.write_str(&String::from_utf8_lossy(v)),
            Value::Array(v) => write!(f, "{v}"),
            integer => write!(f, "{}", integer.integer().expect("every other kind is an integer")),
        }
    }
}

/// An array of a header, decoded as it is walked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// `bytes` are `len` elements that were passed before.
    pub(super) fn new(kind: Kind, len: usize, bytes: &'a [u8]) -> Array<'a> {
        Array { kind, len, bytes }
    }

    /// What its elements are. Never arrays.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as they lie in the file: strings are u64 lengths and bytes.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its elements in order.
    ///
    /// There are [`len`](Array::len) of them, unless the file changes meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Array { kind, len, mut bytes } = *self;
        (0..len).map_while(move |_| {
            let len = match kind.bytes() {
                Some(len) => len,
                None => {
                    let (len, rest) = bytes.split_first_chunk()?;
                    bytes = rest;
                    u64::from_le_bytes(*len)
                }
            };
            let (value, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
            bytes = rest;
            Some(Value::decode(kind, value))
        })
    }

    /// Its elements, if they are strings; their bytes are not checked for UTF-8.
    #[must_use]
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        (self.kind == Kind::String).then(|| {
            self.iter().map(|value| match value {
                Value::String(bytes) => bytes,
                _ => unreachable!("the kind was asked"),
            })
        })
    }

    /// Its elements, if they are integers of any width.
    #[must_use]
    pub fn integers(&self) -> Option<impl Iterator<Item = i128> + use<'a>> {
        let sample = Value::decode(self.kind, &[]);
        sample.integer().is_some().then(|| self.iter().filter_map(|value| value.integer()))
    }

    /// Its elements, if they are floats of any width.
    #[must_use]
    pub fn floats(&self) -> Option<impl Iterator<Item = f64> + use<'a>> {
        let sample = Value::decode(self.kind, &[]);
        sample.float().is_some().then(|| self.iter().filter_map(|value| value.float()))
    }
}

/// An array as text: its length and the kind of its elements.
impl fmt::Display for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.len, self.kind)
    }
}

/// Where a value lies in a file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) kind: Kind,
    /// Kind and number of the elements, if `kind` is an array.
    pub(super) array: Option<(Kind, usize)>,
    /// The number, the bytes of the string or the elements.
    pub(super) bytes: Range<u64>,
}

impl Stored {
    /// Passes a value and its kind, checking all that may be wrong with it.
    pub(super) fn pass(cursor: &mut Cursor<'_>) -> Result<Stored> {
        let kind = kind(cursor)?;
        let (array, bytes) = match kind {
            Kind::Array => {
                let (element, len, bytes) = elements(cursor)?;
                (Some((element, len)), bytes)
            }
            Kind::String => (None, cursor.string("string")?),
            _ => (None, numbers(cursor, kind, 1)?),
        };
        Ok(Stored { kind, array, bytes })
    }
}

fn kind(cursor: &mut Cursor<'_>) -> Result<Kind> {
    let at = cursor.at();
    let id = cursor.u32("value type")?;
    Kind::from_id(id)
        .ok_or_else(|| Error::bad_byte("value type", at, format!("{id}, wanted 0 to 12")))
}

fn elements(cursor: &mut Cursor<'_>) -> Result<(Kind, usize, Range<u64>)> {
    let at = cursor.at();
    let kind = kind(cursor)?;
    if kind == Kind::Array {
        return Err(Error::bad_byte("element type", at, "an array of arrays"));
    }
    let count = cursor.count("array length", kind.bytes().unwrap_or(8), u64::MAX)?;
    let bytes = if kind == Kind::String {
        let start = cursor.at();
        for _ in 0..count {
            cursor.string("string of an array")?;
        }
        start..cursor.at()
    } else {
        numbers(cursor, kind, count)?
    };
    // Each element takes a byte of a file that `usize` can address, or a window.
    let len = usize::try_from(count)
        .map_err(|_| Error::OutOfMemory { what: "an array", bytes: count })?;
    Ok((kind, len, bytes))
}

/// Passes `count` values of fixed width, of which the file has enough.
fn numbers(cursor: &mut Cursor<'_>, kind: Kind, count: u64) -> Result<Range<u64>> {
    let len = kind.bytes().and_then(|bytes| bytes.checked_mul(count)).unwrap_or(u64::MAX);
    let range = cursor.skip(len, "value")?;
    let bad = |byte: &u8| kind == Kind::Bool && *byte > 1;
    match cursor.passed(range.clone()).iter().position(bad) {
        Some(at) => Err(Error::bad_byte("truth value", range.start + at as u64, "neither 0 nor 1")),
        None => Ok(range),
    }
}

/// A value in an error: its kind, and what it holds if that is short.
pub(super) fn found(value: &Value<'_>) -> String {
    match value {
        Value::String(bytes) => format!("a string of {} bytes", bytes.len()),
        Value::Array(array) => {
            format!("an array of {array}")
        }
        value => format!("{} {value}", value.kind()),
    }
}
