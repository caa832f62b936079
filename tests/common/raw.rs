//! A GGUF file written field by field, each with its name and place, so that tests can spoil them one at a time.

use std::ops::Range;

/// What a field is, which decides how to spoil it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Magic,
    Version,
    TensorCount,
    KeyCount,
    /// Length of a key, of a string value, of a string in an array, of a tensor's name.
    Length,
    Key,
    /// Type of a value or of the elements of an array.
    ValueType,
    /// A number of this many bytes.
    Number,
    Bool,
    Alignment,
    Text,
    ArrayLength,
    Name,
    Rank,
    Dimension,
    TensorType,
    Offset,
}

/// One field: its place in [`Raw::bytes`].
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) at: Range<usize>,
}

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

impl Raw {
    pub(crate) fn field(&mut self, role: Role, name: &str, bytes: &[u8]) -> &mut Raw {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        self.fields.push(Field { role, name: name.to_owned(), at: start..self.bytes.len() });
        self
    }

    pub(crate) fn start(&mut self, version: u32, tensors: u64, keys: u64) -> &mut Raw {
        self.field(Role::Magic, "magic", b"GGUF");
        self.field(Role::Version, "version", &version.to_le_bytes());
        self.field(Role::TensorCount, "tensor count", &tensors.to_le_bytes());
        self.field(Role::KeyCount, "key count", &keys.to_le_bytes())
    }

    fn string(&mut self, role: Role, name: &str, text: &[u8]) -> &mut Raw {
        self.field(Role::Length, &format!("{name}: length"), &(text.len() as u64).to_le_bytes());
        self.field(role, name, text)
    }

    pub(crate) fn key(&mut self, key: &str, kind: u32) -> &mut Raw {
        self.string(Role::Key, key, key.as_bytes());
        self.field(Role::ValueType, &format!("{key}: type"), &kind.to_le_bytes())
    }

    pub(crate) fn number(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Raw {
        let role = match key {
            "general.alignment" => Role::Alignment,
            _ if kind == 7 => Role::Bool,
            _ => Role::Number,
        };
        self.key(key, kind).field(role, &format!("{key}: value"), value)
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) -> &mut Raw {
        self.number(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn text(&mut self, key: &str, text: &[u8]) -> &mut Raw {
        self.key(key, 8).string(Role::Text, &format!("{key}: value"), text)
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) -> &mut Raw {
        self.key(key, 9);
        self.field(Role::ValueType, &format!("{key}: element type"), &kind.to_le_bytes());
        self.field(Role::ArrayLength, &format!("{key}: array length"), &(len as u64).to_le_bytes())
    }

    pub(crate) fn numbers(&mut self, key: &str, kind: u32, values: &[&[u8]]) -> &mut Raw {
        self.array(key, kind, values.len());
        let role = if kind == 7 { Role::Bool } else { Role::Number };
        for (i, value) in values.iter().enumerate() {
            self.field(role, &format!("{key}[{i}]"), value);
        }
        self
    }

    pub(crate) fn texts(&mut self, key: &str, texts: &[&[u8]]) -> &mut Raw {
        self.array(key, 8, texts.len());
        for (i, text) in texts.iter().enumerate() {
            self.string(Role::Text, &format!("{key}[{i}]"), text);
        }
        self
    }

    pub(crate) fn tensor(&mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> &mut Raw {
        self.string(Role::Name, name, name.as_bytes());
        self.field(Role::Rank, &format!("{name}: rank"), &(dims.len() as u32).to_le_bytes());
        for (i, dim) in dims.iter().enumerate() {
            self.field(Role::Dimension, &format!("{name}: dimension {i}"), &dim.to_le_bytes());
        }
        self.field(Role::TensorType, &format!("{name}: type"), &kind.to_le_bytes());
        self.field(Role::Offset, &format!("{name}: offset"), &offset.to_le_bytes())
    }

    /// Pads the header and adds `len` bytes of data.
    pub(crate) fn data(&mut self, len: usize) -> &mut Raw {
        self.bytes.resize(self.bytes.len().next_multiple_of(32), 0);
        let data = self.bytes.len()..self.bytes.len() + len;
        self.bytes.extend(data.map(|i| (i % 251) as u8 + 1));
        self
    }
}

/// A small file with every kind of value and of tensor, every field known.
///
/// Its header does not end on the alignment, so that a missing entry shows.
pub(crate) fn sample() -> Raw {
    let mut raw = Raw::default();
    raw.start(3, 5, 22);
    raw.text("general.architecture", b"bitnet-b1.58");
    raw.u32("general.alignment", 32);
    raw.number("n.u8", 0, &[200]);
    raw.number("n.i8", 1, &[0x81]);
    raw.number("n.u16", 2, &60_000u16.to_le_bytes());
    raw.number("n.i16", 3, &(-5i16).to_le_bytes());
    raw.number("n.u32", 4, &70_000u32.to_le_bytes());
    raw.number("n.i32", 5, &(-70_000i32).to_le_bytes());
    raw.number("n.f32", 6, &1e-5f32.to_le_bytes());
    raw.number("n.bool", 7, &[1]);
    raw.number("n.u64", 10, &(1u64 << 40).to_le_bytes());
    raw.number("n.i64", 11, &(-1i64 << 40).to_le_bytes());
    raw.number("n.f64", 12, &0.1f64.to_le_bytes());
    raw.text("s.empty", b"");
    raw.text("s.text", "a template with \u{e9}".as_bytes());
    raw.numbers("a.u8", 0, &[&[1], &[2], &[3]]);
    raw.numbers("a.bool", 7, &[&[0], &[1]]);
    raw.numbers("a.i32", 5, &[&1i32.to_le_bytes(), &3i32.to_le_bytes()]);
    raw.numbers("a.f32", 6, &[&0f32.to_le_bytes(), &1f32.to_le_bytes()]);
    raw.numbers("a.u64", 10, &[&7u64.to_le_bytes()]);
    raw.texts("a.texts", &[b"!", b"", b"\xff\xfe not text", b"four"]);
    raw.numbers("a.empty", 4, &[]);
    raw.tensor("token_embd.weight", &[32, 3], 1, 0); // 192 bytes
    raw.tensor("blk.0.attn_q.weight", &[128, 2], 36, 192); // 96
    raw.tensor("blk.0.attn_k.weight", &[256, 1], 34, 288); // 54, padded to 64
    raw.tensor("blk.0.attn_norm.weight", &[5], 0, 352); // 20, padded to 32
    raw.tensor("output.weight", &[32, 2], 8, 384); // 68
    raw.data(384 + 68);
    raw
}
