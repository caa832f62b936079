//! A sequence as bytes, and back, checked; and prefix files that map.
//!
//! ```text
//! 0   "TERNSEQ1"              8   byte order and version, u32 each
//! 16  model fingerprint u64   24  layers, kv heads, head length, cache kind, u32 each
//! 40  tokens u64              48  width of kept states or 0, u32; page alignment, u32
//! 56  fingerprint of all that follows, u64
//! 64  tokens i32 each, then states f32 each, zeros up to the page alignment
//!     pages, each padded to the alignment: those of `computed` = `tokens` positions, zeros behind the last
//! ```
//!
//! A blob is trusted in nothing: sizes, fingerprints and shapes must fit the
//! model and the context, or the sequence stays as it is.

use super::{
    Context,
    cache::{Geometry, KvType, Page, Sequence},
};
use crate::{
    error::{Error, Result},
    file::{OpenOptions, Source, replace},
    hash::Fingerprint,
    kernels::BLOCK,
};
use std::{io::Write, path::Path, sync::Arc};

const MAGIC: &[u8; 8] = b"TERNSEQ1";
const HEADER: usize = 64;
/// Pages of prefix files begin where every system's memory pages do.
const FILE_ALIGN: usize = 16_384;
const BLOB_ALIGN: usize = 8;
/// Read back as another number by a host of the other byte order.
const ORDER: u32 = 0x0102_0304;
const VERSION: u32 = 1;

/// The fixed part of a blob.
struct Header {
    geometry: Geometry,
    model: u64,
    tokens: usize,
    states: usize,
    align: usize,
    fingerprint: u64,
}

fn mismatch(text: impl Into<String>) -> Error {
    Error::StateMismatch(text.into())
}

impl Header {
    /// Where the pages begin, and the length of the whole; `None` beyond what can be.
    fn layout(&self) -> Option<(usize, usize)> {
        let tail = self
            .tokens
            .checked_mul(4)?
            .checked_add(self.tokens.checked_mul(self.states)?.checked_mul(4)?)?;
        let pages_at = HEADER.checked_add(tail)?.checked_next_multiple_of(self.align)?;
        let page = self.geometry.page_bytes().checked_next_multiple_of(self.align)?;
        Some((pages_at, pages_at.checked_add(Geometry::pages(self.tokens).checked_mul(page)?)?))
    }

    fn write(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let kind = match self.geometry.kind {
            KvType::F16 => 0u32,
            KvType::I8 => 1,
        };
        let geometry = self.geometry;
        out[..8].copy_from_slice(MAGIC);
        out[16..24].copy_from_slice(&self.model.to_ne_bytes());
        out[40..48].copy_from_slice(&(self.tokens as u64).to_ne_bytes());
        out[56..64].copy_from_slice(&self.fingerprint.to_ne_bytes());
        for (at, value) in [
            (8, ORDER),
            (12, VERSION),
            (24, geometry.layers as u32),
            (28, geometry.kv_heads as u32),
            (32, geometry.head_dim as u32),
            (36, kind),
            (48, self.states as u32),
            (52, self.align as u32),
        ] {
            out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(mismatch(format!("{} bytes are no saved sequence", bytes.len())));
        };
        if &bytes[..8] != MAGIC {
            return Err(mismatch("the bytes do not begin as a saved sequence does"));
        }
        let u32_at = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at =
            |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        if u32_at(8) != ORDER || u32_at(12) != VERSION {
            return Err(mismatch(format!(
                "byte order {:#x}, version {}; {ORDER:#x}, {VERSION} is wanted",
                u32_at(8),
                u32_at(12)
            )));
        }
        let kind = match u32_at(36) {
            0 => KvType::F16,
            1 => KvType::I8,
            other => return Err(mismatch(format!("cache kind {other} is unknown"))),
        };
        let align = u32_at(52) as usize;
        if align != BLOB_ALIGN && align != FILE_ALIGN {
            return Err(mismatch(format!("a page alignment of {align}")));
        }
        Ok(Self {
            geometry: Geometry {
                layers: u32_at(24) as usize,
                kv_heads: u32_at(28) as usize,
                head_dim: u32_at(32) as usize,
                kind,
            },
            model: u64_at(16),
            tokens: usize::try_from(u64_at(40)).map_err(|_| mismatch("more tokens than memory"))?,
            states: u32_at(48) as usize,
            align,
            fingerprint: u64_at(56),
        })
    }
}

impl Context {
    /// Bytes that [`Context::save_sequence`] writes.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn saved_len(&self, sequence: usize) -> Result<usize> {
        let header = self.header(sequence, BLOB_ALIGN)?;
        header
            .layout()
            .map(|(_, len)| len)
            .ok_or(Error::InvalidState("the sequence is too long to save"))
    }

    /// A sequence as bytes: its tokens, keys and values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] after a trim, until the next eval; [`Error::OutOfMemory`].
    pub fn save_sequence(&self, sequence: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let len = self.saved_len(sequence)?;
        out.try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory { what: "a saved sequence", bytes: len as u64 })?;
        let io = |source| Error::Io { what: "saving".into(), source };
        self.write_sequence(sequence, BLOB_ALIGN, &mut out, io)?;
        Ok(out)
    }

    fn header(&self, sequence: usize, align: usize) -> Result<Header> {
        self.check_sequence(sequence)?;
        let saved = &self.sequences[sequence];
        if saved.computed != saved.tokens.len() {
            return Err(Error::InvalidState("the cache of the sequence was trimmed: eval first"));
        }
        let states = if self.options.embeddings { self.model.config().n_embd } else { 0 };
        let model = self.model.fingerprint()?;
        Ok(Header {
            geometry: self.geometry,
            model,
            tokens: saved.tokens.len(),
            states,
            align,
            fingerprint: 0,
        })
    }

    /// Streams the blob out; `io` says what a write was for that failed.
    fn write_sequence(
        &self,
        sequence: usize,
        align: usize,
        out: &mut dyn Write,
        io: impl Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        let mut header = self.header(sequence, align)?;
        let saved = &self.sequences[sequence];
        let (tokens, states) =
            (bytemuck::cast_slice(&saved.tokens), bytemuck::cast_slice(&saved.states));
        let (pages_at, _) =
            header.layout().ok_or(Error::InvalidState("the sequence is too long to save"))?;
        let gap = vec![0; pages_at - HEADER - tokens.len() - states.len()];
        let page_bytes = self.geometry.page_bytes();
        let pad = vec![0; page_bytes.next_multiple_of(align) - page_bytes];
        let full = header.tokens / BLOCK;
        let last = match saved.pages.get(full) {
            Some(page) if header.tokens > full * BLOCK => {
                Some(page.copy_used(self.geometry, header.tokens % BLOCK)?)
            }
            _ => None,
        };
        // A cancelled eval leaves pages beyond the last token.
        let pages = || saved.pages[..full].iter().map(|page| &**page).chain(&last);
        let mut hash = Fingerprint::new();
        hash.add(tokens);
        hash.add(states);
        for page in pages() {
            hash.add(&page.bytes()[..page_bytes]);
        }
        header.fingerprint = hash.finish();
        for piece in [&header.write()[..], tokens, states, &gap] {
            out.write_all(piece).map_err(&io)?;
        }
        for page in pages() {
            out.write_all(&page.bytes()[..page_bytes]).map_err(&io)?;
            out.write_all(&pad).map_err(&io)?;
        }
        Ok(())
    }

    /// Replaces a sequence by a saved one.
    ///
    /// # Errors
    ///
    /// [`Error::StateMismatch`] for bytes of another model, shape, version or byte order, or damaged ones;
    /// [`Error::ContextFull`]; [`Error::OutOfMemory`]. The sequence then is as it was.
    pub fn load_sequence(&mut self, sequence: usize, bytes: &[u8]) -> Result<()> {
        let (header, mut loaded) = self.check_saved(sequence, bytes)?;
        let (pages_at, _) = header.layout().ok_or_else(|| mismatch("impossible sizes"))?;
        let page_bytes = self.geometry.page_bytes();
        let stride = page_bytes.next_multiple_of(header.align);
        for i in 0..Geometry::pages(header.tokens) {
            let mut page = Page::new(self.geometry)?;
            page.bytes_mut()[..page_bytes]
                .copy_from_slice(&bytes[pages_at + i * stride..][..page_bytes]);
            loaded.pages.push(Arc::new(page));
        }
        self.install(sequence, loaded);
        Ok(())
    }

    /// Checks all of a blob against this context; answers the sequence without its pages.
    fn check_saved(&self, sequence: usize, bytes: &[u8]) -> Result<(Header, Sequence)> {
        self.check_sequence(sequence)?;
        let header = Header::read(bytes)?;
        if header.geometry != self.geometry {
            return Err(mismatch(format!(
                "saved for {:?}, this context has {:?}",
                header.geometry, self.geometry
            )));
        }
        if header.model != self.model.fingerprint()? {
            return Err(mismatch("saved with another model file"));
        }
        let width = if self.options.embeddings { self.model.config().n_embd } else { 0 };
        if header.states != width {
            return Err(mismatch("saved from a context that keeps states otherwise (embeddings)"));
        }
        if header.tokens > self.options.n_ctx {
            return Err(Error::ContextFull {
                wanted: header.tokens as u64,
                limit: self.options.n_ctx as u64,
                unit: "tokens",
            });
        }
        let cap = self.options.kv_bytes_max;
        let wanted = (Geometry::pages(header.tokens) * self.geometry.page_bytes()) as u64;
        if cap > 0 && wanted > cap {
            return Err(Error::ContextFull { wanted, limit: cap, unit: "cache bytes" });
        }
        let (pages_at, len) = header.layout().ok_or_else(|| mismatch("impossible sizes"))?;
        if bytes.len() != len {
            return Err(mismatch(format!(
                "{} bytes, {len} are wanted for {} tokens",
                bytes.len(),
                header.tokens
            )));
        }
        let (tokens, rest) = bytes[HEADER..pages_at].split_at(4 * header.tokens);
        let states = &rest[..4 * header.tokens * header.states];
        let page_bytes = self.geometry.page_bytes();
        let mut hash = Fingerprint::new();
        hash.add(tokens);
        hash.add(states);
        for page in bytes[pages_at..].chunks_exact(page_bytes.next_multiple_of(header.align)) {
            hash.add(&page[..page_bytes]);
        }
        if hash.finish() != header.fingerprint {
            return Err(mismatch("the bytes are damaged: their fingerprint differs"));
        }
        let word = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        let tokens: Vec<i32> =
            tokens.chunks_exact(4).map(|b| i32::from_ne_bytes(word(b))).collect();
        let vocab = self.model.config().n_vocab;
        if tokens.iter().any(|token| usize::try_from(*token).map_or(true, |token| token >= vocab)) {
            return Err(mismatch("a token outside the vocabulary"));
        }
        let states = states.chunks_exact(4).map(|b| f32::from_ne_bytes(word(b))).collect();
        let computed = tokens.len();
        Ok((header, Sequence { tokens, computed, states, ..Sequence::default() }))
    }

    fn install(&mut self, sequence: usize, loaded: Sequence) {
        self.pending = None;
        self.epoch += 1;
        self.states.clear();
        self.head.forget();
        self.evaluated = false;
        self.restored = (!loaded.tokens.is_empty()).then_some(sequence);
        self.sequences[sequence] = loaded;
        self.note_peak();
    }

    /// Writes a sequence to a file that [`Context::map_prefix`] shares between any number of processes. It is written
    /// beside `path` and renamed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::InvalidState`] after a trim.
    pub fn save_prefix(&self, sequence: usize, path: impl AsRef<Path>) -> Result<()> {
        self.header(sequence, FILE_ALIGN)?;
        let path = path.as_ref();
        let io = |source| Error::Io { what: format!("writing {}", path.display()), source };
        replace(path, |out| self.write_sequence(sequence, FILE_ALIGN, out, io))
    }

    /// Maps a prefix file into an empty sequence: no prefill, and no copy until a page is written to. The file must
    /// not change while a page of it is in use.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] if the sequence is not empty; [`Error::Io`]; and those of [`Context::load_sequence`].
    pub fn map_prefix(&mut self, sequence: usize, path: impl AsRef<Path>) -> Result<()> {
        if !self.tokens(sequence)?.is_empty() {
            return Err(Error::InvalidState(
                "the sequence to map into is not empty: clear it first",
            ));
        }
        let source = Arc::new(Source::open(path, OpenOptions::default())?);
        let len = source.len();
        let bytes = source.slice(0..len).ok_or(Error::InvalidState("the file cannot be mapped"))?;
        let (header, mut loaded) = self.check_saved(sequence, bytes)?;
        let (pages_at, _) = header.layout().ok_or_else(|| mismatch("impossible sizes"))?;
        let stride = self.geometry.page_bytes().next_multiple_of(header.align);
        for i in 0..Geometry::pages(header.tokens) {
            loaded.pages.push(Arc::new(Page::mapped(
                &source,
                pages_at + i * stride,
                self.geometry,
            )?));
        }
        self.install(sequence, loaded);
        Ok(())
    }
}
