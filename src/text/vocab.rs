//! What a model file says about its tokens: bytes, kinds and special ids.

use crate::{
    error::{Error, Result},
    file::{Array, Metadata},
};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Tokens that end a turn or a text, whatever the file's keys say.
const EOG_NAMES: [&str; 7] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
];
/// How many of them, from the front, end a turn rather than a text.
const EOT_NAMES: usize = 4;

/// What a token is for. The numbers are the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    /// Marks structure, like the end of a turn; no text of the user.
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    Unused = 5,
    /// One byte, written `<0x0A>`.
    Byte = 6,
}

impl Kind {
    fn from_id(id: i128) -> Option<Kind> {
        use Kind::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte]
            .into_iter()
            .find(|kind| *kind as i128 == id)
    }

    /// Whether the token stands for text, not for structure.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Kind::Normal | Kind::UserDefined | Kind::Byte)
    }
}

/// How the bytes of a token are spelled in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One printable character for each byte, as GPT-2 does it.
    ByteLevel,
    /// UTF-8 with `▁` for a space.
    Spaces,
}

/// The tokens of a model.
#[derive(Debug)]
pub(super) struct Vocab {
    /// The bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unknown: Option<u32>,
    /// All ids after which generation ends, ascending.
    pub(super) eog: Vec<i32>,
}

impl Vocab {
    /// Reads tokens, kinds and special ids.
    pub(super) fn open(metadata: &Metadata, spelling: Spelling) -> Result<Vocab> {
        let tokens = tokens(metadata)?;
        let kinds = kinds(metadata, tokens.len())?;
        let special = |name: &str| special_id(metadata, name, tokens.len());
        let mut vocab = Vocab {
            bytes: Vec::new(),
            ends: reserved(tokens.len(), "the ends of tokens")?,
            kinds,
            bos: special("bos")?,
            eos: special("eos")?,
            eot: special("eot")?,
            unknown: special("unknown")?,
            eog: Vec::new(),
        };
        let eom = special("eom")?;
        if spelling == Spelling::Spaces {
            // The ids of the first LLaMA, which files of its time take for granted.
            let default = |id: u32| (tokens.len() > 2).then_some(id);
            vocab.unknown = vocab.unknown.or(default(0));
            vocab.bos = vocab.bos.or(default(1));
            vocab.eos = vocab.eos.or(default(2));
        }
        vocab.read(&tokens, spelling)?;
        vocab.find_eog(eom);
        Ok(vocab)
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token below [`len`](Vocab::len).
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..self.ends[id] as usize]
    }

    /// What a token below [`len`](Vocab::len) is for.
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    /// The id of a token given from outside.
    pub(super) fn check(&self, token: i32) -> Result<u32> {
        u32::try_from(token).ok().filter(|id| (*id as usize) < self.len()).ok_or_else(|| {
            Error::InvalidArgument(format!("token {token}, wanted 0 to {}", self.len() - 1).into())
        })
    }

    fn read(&mut self, tokens: &Array<'_>, spelling: Spelling) -> Result<()> {
        let strings = || tokens.strings().into_iter().flatten();
        let total: usize = strings().map(<[u8]>::len).sum();
        if u32::try_from(total).is_err() {
            return Err(Error::bad_model(
                TOKENS,
                format!("{total} bytes of text, at most 4 GiB are read"),
            ));
        }
        self.bytes = reserved(total, "the bytes of tokens")?;
        let bos = self.bos.and_then(|bos| strings().nth(bos as usize)).unwrap_or_default();
        for (id, text) in strings().enumerate() {
            let kind = match self.kinds[id] {
                _ if is_eog_name(text) => Kind::Control,
                kind => kind,
            };
            self.kinds[id] = kind;
            match (kind, spelling) {
                (Kind::Byte, _) if byte(text).is_some() => self.bytes.extend(byte(text)),
                (Kind::Normal | Kind::Byte, Spelling::ByteLevel) => {
                    decode_bytes(text, &mut self.bytes)
                }
                (Kind::Normal | Kind::UserDefined, Spelling::Spaces) => {
                    unescape_spaces(text, &mut self.bytes)
                }
                (Kind::Control, _) => self.bytes.extend(unmangled(text, bos)),
                _ => self.bytes.extend(text),
            }
            self.ends.push(self.bytes.len() as u32);
            if kind == Kind::Control && is_eog_name(self.bytes(id as u32)) {
                self.eog.push(id as i32);
            }
        }
        if self.ends.len() != tokens.len() {
            return Err(Error::bad_model(TOKENS, "the file changed while it was read"));
        }
        Ok(())
    }

    fn find_eog(&mut self, eom: Option<u32>) {
        let named = |name: &str| {
            self.eog.iter().map(|id| *id as u32).find(|id| self.bytes(*id) == name.as_bytes())
        };
        self.eot = self.eot.or_else(|| EOG_NAMES[..EOT_NAMES].iter().find_map(|name| named(name)));
        self.eog.extend([self.eos, self.eot, eom].into_iter().flatten().map(|id| id as i32));
        self.eog.sort_unstable();
        self.eog.dedup();
    }
}

/// The array of tokens: strings, at least one.
pub(super) fn tokens(metadata: &Metadata) -> Result<Array<'_>> {
    let tokens = metadata.array(TOKENS)?;
    if tokens.strings().is_none() {
        return Err(metadata.reject(TOKENS, format!("{tokens}, wanted strings")));
    }
    match tokens.len() {
        0 => Err(metadata.reject(TOKENS, "no tokens, wanted at least one")),
        len if i32::try_from(len).is_err() => {
            Err(metadata.reject(TOKENS, format!("{len} tokens, ids are 32-bit")))
        }
        _ => Ok(tokens),
    }
}

/// An empty vector with room for `len` elements, or an error.
pub(super) fn reserved<T>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        what,
        bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
    })?;
    Ok(vec)
}

/// The character that spells a byte: itself if printable, else the next of U+0100 on.
pub(super) const fn byte_char(byte: u8) -> char {
    let past = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => return byte as char,
        0..=0x20 => byte,
        0x7f..=0xa0 => byte - 0x7f + 33,
        0xad => 67,
    };
    match char::from_u32(0x100 + past as u32) {
        Some(c) => c,
        None => panic!("U+0100 to U+0143 are characters"),
    }
}

/// The byte that a character spells.
fn char_byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0..=0xff => code as u8,
        0x100..=0x120 => (code - 0x100) as u8,
        0x121..=0x142 => (code - 0x121 + 0x7f) as u8,
        0x143 => 0xad,
        _ => return None,
    };
    (byte_char(byte) == c).then_some(byte)
}

/// Adds what a byte-level spelling stands for; other characters and bytes stand for themselves.
fn decode_bytes(text: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = str::from_utf8(text) else { return out.extend(text) };
    for c in text.chars() {
        match char_byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

fn unescape_spaces(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some((first, rest)) = text.split_first() {
        match text.strip_prefix("▁".as_bytes()) {
            Some(rest) => {
                out.push(b' ');
                text = rest;
            }
            None => {
                out.push(*first);
                text = rest;
            }
        }
    }
}

/// The byte of a token written `<0x0A>`.
pub(super) fn byte(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let hex = str::from_utf8(hex).ok().filter(|hex| hex.len() == 2 && !hex.starts_with('+'))?;
    u8::from_str_radix(hex, 16).ok()
}

/// A control token's name without the BOS that a converter of 2024–26 put before it.
fn unmangled<'a>(mut text: &'a [u8], bos: &[u8]) -> &'a [u8] {
    while let Some(rest) = text.strip_prefix(bos)
        && !rest.is_empty()
        && !bos.is_empty()
    {
        text = rest;
    }
    text
}

fn is_eog_name(text: &[u8]) -> bool {
    EOG_NAMES.iter().any(|name| name.as_bytes() == text)
}

fn kinds(metadata: &Metadata, len: usize) -> Result<Vec<Kind>> {
    let mut kinds = reserved(len, "the kinds of tokens")?;
    let Some(types) = metadata.opt_array(TYPES)? else {
        kinds.resize(len, Kind::Normal);
        return Ok(kinds);
    };
    let Some(ids) = types.integers().filter(|_| types.len() == len) else {
        return Err(
            metadata.reject(TYPES, format!("{types}, wanted {len} integers, one for each token"))
        );
    };
    for (token, id) in ids.enumerate() {
        kinds.push(Kind::from_id(id).ok_or_else(|| {
            metadata.reject(TYPES, format!("{id} for token {token}, wanted 1 to 6"))
        })?);
    }
    kinds.resize(len, Kind::Normal); // only if the file shrank meanwhile
    Ok(kinds)
}

fn special_id(metadata: &Metadata, name: &str, len: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match metadata.opt_u32(&key)? {
        Some(id) if id as usize >= len => {
            Err(metadata.reject(&key, format!("token {id} of {len}")))
        }
        id => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let mut chars: Vec<char> = (0..=255).map(byte_char).collect();
        for (byte, c) in chars.iter().enumerate() {
            assert_eq!(char_byte(*c), Some(byte as u8), "{c:?}");
        }
        assert_eq!((byte_char(b' '), byte_char(b'\n'), byte_char(0xad)), ('Ġ', 'Ċ', '\u{143}'));
        chars.sort_unstable();
        chars.dedup();
        assert_eq!(chars.len(), 256);
        assert_eq!([' ', '\u{ad}', '\u{144}', '你'].map(char_byte), [None; 4]);
    }

    #[test]
    fn bytes_are_read_strictly() {
        assert_eq!(byte(b"<0x0A>"), Some(10));
        assert_eq!(byte(b"<0xff>"), Some(255));
        for text in ["<0x>", "<0x+1>", "<0x0A", "0x0A", "<0x00A>", "<0xGG>", ""] {
            assert_eq!(byte(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn mangled_names_lose_every_bos() {
        assert_eq!(unmangled(b"<s><eot>", b"<s>"), b"<eot>");
        assert_eq!(unmangled(b"<s><s><eot>", b"<s>"), b"<eot>");
        assert_eq!(unmangled(b"<s>", b"<s>"), b"<s>");
        assert_eq!(unmangled(b"<eot>", b""), b"<eot>");
    }
}
