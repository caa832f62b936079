//! Large read-mostly buffers: anonymous pages of our own, or a part of a mapped file.

use crate::{
    error::{Error, Result},
    file::Source,
};
use memmap2::MmapMut;
use std::{fmt, ops::Range, sync::Arc};

/// Bytes that are written once and then shared.
pub(crate) enum Bytes {
    /// Anonymous pages of its own, in huge ones where the system has them.
    Owned(Pages),
    /// A part of pages that many share.
    Part {
        /// Keeps the bytes alive.
        pages: Arc<Pages>,
        /// Which of them.
        range: Range<usize>,
    },
    /// A part of an [`Arena`] that still fills: no bytes yet.
    Promised(Range<usize>),
    /// A range of a file that stays mapped, or of memory that stays borrowed.
    Mapped {
        /// Keeps the bytes alive.
        source: Arc<Source>,
        /// Which of them.
        range: Range<u64>,
    },
}

impl Bytes {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Owned(pages) => pages.as_slice(),
            Bytes::Part { pages, range } => &pages.as_slice()[range.clone()],
            Bytes::Promised(_) => &[],
            Bytes::Mapped { source, range } => {
                source.slice(range.clone()).expect("checked when the range was taken")
            }
        }
    }

    /// A range of a source: borrowed where it can be, else copied into pages.
    pub(crate) fn from_source(source: &Arc<Source>, range: Range<u64>) -> Result<Self> {
        if source.slice(range.clone()).is_some() {
            return Ok(Bytes::Mapped { source: Arc::clone(source), range });
        }
        let mut pages = Pages::zeroed((range.end - range.start) as usize)?;
        source.read(range.start, pages.as_mut_slice())?;
        Ok(Bytes::Owned(pages))
    }

    /// Says that a part of a mapped file will not be read for a while.
    pub(crate) fn advise_dontneed(&self, part: Range<usize>) {
        if let Bytes::Mapped { source, range } = self {
            let place = |at: usize| range.start.saturating_add(at as u64).min(range.end);
            source.advise_dontneed(place(part.start)..place(part.end));
        }
    }

    /// Fills `out` from byte `at` on, past a map ([`Source::read_past_map`]); false if that is not possible.
    pub(crate) fn read_past_map(&self, at: usize, out: &mut [u8]) -> bool {
        match self {
            Bytes::Mapped { source, range }
                if at as u64 + out.len() as u64 <= range.end - range.start =>
            {
                source.read_past_map(range.start + at as u64, out)
            }
            _ => false,
        }
    }

    /// Whether they are a part of a file or of the host's memory.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self, Bytes::Mapped { .. })
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({}, mapped: {})", self.as_slice().len(), self.is_mapped())
    }
}

/// Pages for many matrices, one behind the other: huge pages have no holes between small matrices, and a pass
/// over the weights reads one stream.
pub(crate) struct Arena {
    pages: Pages,
    taken: usize,
}

impl Arena {
    /// A matrix begins at a multiple of this.
    const ALIGN: usize = 64;

    /// Room for matrices of these sizes.
    pub(crate) fn new(sizes: impl Iterator<Item = usize>) -> Result<Self> {
        let total = sizes.fold(0usize, |sum, size| sum.saturating_add(Self::padded(size)));
        Ok(Self { pages: Pages::zeroed(total)?, taken: 0 })
    }

    /// Whether it was made for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.len == 0
    }

    fn padded(size: usize) -> usize {
        size.checked_next_multiple_of(Self::ALIGN).unwrap_or(usize::MAX)
    }

    /// The next `size` bytes, to be written now, and what stands for them until the arena settles. `None` if
    /// there is no room for so many.
    pub(crate) fn take(&mut self, size: usize) -> Option<(&mut [u8], Bytes)> {
        let range = self.taken..self.taken.checked_add(size)?;
        let bytes = self.pages.as_mut_slice().get_mut(range.clone())?;
        self.taken = Self::padded(range.end);
        Some((bytes, Bytes::Promised(range)))
    }

    /// All is written: what keeps every promise.
    pub(crate) fn settle(self) -> Arc<Pages> {
        Arc::new(self.pages)
    }
}

impl Bytes {
    /// Turns a promise of an arena into its bytes.
    pub(crate) fn settle(&mut self, arena: &Arc<Pages>) {
        if let Bytes::Promised(range) = self {
            *self = Bytes::Part { pages: Arc::clone(arena), range: range.clone() };
        }
    }

    /// How many bytes there are, or will be.
    pub(crate) fn len(&self) -> usize {
        match self {
            Bytes::Promised(range) => range.len(),
            bytes => bytes.as_slice().len(),
        }
    }
}

/// Zeroed anonymous pages, in huge ones where the system has them and there are enough.
pub(crate) struct Pages {
    map: Option<MmapMut>,
    /// Where in the map they begin: at a huge page.
    start: usize,
    len: usize,
}

/// Bytes of a huge page on the systems that matter.
const HUGE: usize = 2 << 20;

impl Pages {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self { map: None, start: 0, len });
        }
        let out_of_memory = || Error::OutOfMemory { what: "packed weights", bytes: len as u64 };
        // Address space alone is taken for the alignment: untouched pages are none.
        let slack = if len >= HUGE { HUGE } else { 0 };
        let size = len.checked_add(slack).ok_or_else(out_of_memory)?;
        let map = MmapMut::map_anon(size).map_err(|_| out_of_memory())?;
        let start = if slack == 0 { 0 } else { map.as_ptr().align_offset(HUGE).min(slack) };
        // A hint: without huge pages the stream is a tenth slower, or more.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map: Some(map), start, len })
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.map.as_deref().map_or(&[], |map| &map[self.start..][..self.len])
    }

    /// The bytes, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().map_or(&mut [], |map| &mut map[self.start..][..self.len])
    }
}
