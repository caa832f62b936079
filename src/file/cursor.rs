//! A little-endian reader that checks every bound.
//!
//! It walks a [`Source`] from the start. What is in memory is read in place;
//! of everything else it fetches a window that grows as the walk goes on, so a
//! model behind a reader is not read whole for its header.

use super::Source;
use crate::error::{Error, Result};
use std::ops::Range;

/// The first window that is fetched from a reader.
const WINDOW_BYTES: u64 = 64 << 10;

/// Walks the header of a model file.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// The whole file, where it is in memory.
    whole: Option<&'a [u8]>,
    /// The file's first bytes, where it is not.
    window: Vec<u8>,
    at: u64,
    /// No byte from here on may be asked for.
    limit: u64,
}

impl<'a> Cursor<'a> {
    /// A cursor at byte 0 that refuses to go past `limit`.
    pub(super) fn new(source: &'a Source, limit: u64) -> Self {
        Cursor { source, whole: source.slice(0..source.len()), window: Vec::new(), at: 0, limit }
    }

    /// The byte that comes next.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes from here to the end of the file.
    pub(super) fn remaining(&self) -> u64 {
        self.source.len().saturating_sub(self.at)
    }

    /// What was fetched, for those who will read it again; `None` if it was in memory.
    pub(super) fn into_window(self) -> Option<Vec<u8>> {
        self.whole.is_none().then_some(self.window)
    }

    /// Bytes that were passed before.
    pub(super) fn passed(&self, range: Range<u64>) -> &[u8] {
        let bytes = self.whole.unwrap_or(&self.window);
        // Both ends were compared with the file's length, which memory or the window holds.
        bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// Passes `len` bytes; `what` names them in an error.
    pub(super) fn skip(&mut self, len: u64, what: &'static str) -> Result<Range<u64>> {
        if len > self.remaining() {
            let rule = format!("{len} bytes wanted, the file has {} more", self.remaining());
            return Err(Error::bad_byte(what, self.at, rule));
        }
        let range = self.at..self.at + len;
        if range.end > self.limit {
            let rule = format!("the header takes more than {} bytes", self.limit);
            return Err(Error::bad_byte(what, self.at, rule));
        }
        self.fetch(range.end)?;
        self.at = range.end;
        Ok(range)
    }

    /// A string: a u64 length, then that many bytes.
    pub(super) fn string(&mut self, what: &'static str) -> Result<Range<u64>> {
        let len = self.u64(what)?;
        self.skip(len, what)
    }

    /// A count that promises at least `least` bytes each, and may not exceed `most`.
    pub(super) fn count(&mut self, what: &'static str, least: u64, most: u64) -> Result<u64> {
        let at = self.at;
        let count = self.u64(what)?;
        if count > self.remaining() / least {
            let rule = format!(
                "{count}, each of {least} bytes or more; the file has {} more",
                self.remaining()
            );
            return Err(Error::bad_byte(what, at, rule));
        }
        if count > most {
            return Err(Error::bad_byte(what, at, format!("{count}, wanted {most} at most")));
        }
        Ok(count)
    }

    /// The next four bytes as a number.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let range = self.skip(N as u64, what)?;
        let bytes = self.passed(range.clone());
        // Only memory whose owner gives it out differently each time comes short here.
        let short = || Error::bad_byte(what, range.start, "the bytes are gone");
        bytes.first_chunk().copied().ok_or_else(short)
    }

    /// Makes the window reach to `end`, which lies within the file.
    fn fetch(&mut self, end: u64) -> Result<()> {
        let have = self.window.len() as u64;
        if self.whole.is_some() || end <= have {
            return Ok(());
        }
        // Doubling keeps the number of reads small; the limit bounds the last one.
        let len =
            end.max(2 * have).max(WINDOW_BYTES).min(self.limit.max(end)).min(self.source.len());
        let failed = || Error::OutOfMemory { what: "the header", bytes: len };
        let more = usize::try_from(len - have).map_err(|_| failed())?;
        self.window.try_reserve_exact(more).map_err(|_| failed())?;
        self.window.resize(len as usize, 0);
        let read = self.source.read(have, &mut self.window[have as usize..]);
        if read.is_err() {
            self.window.truncate(have as usize);
        }
        read
    }
}
