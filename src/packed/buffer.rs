//! Large read-mostly buffers: anonymous pages of our own, or a part of a mapped file.

use crate::{
    error::{Error, Result},
    file::Source,
};
use memmap2::MmapMut;
use std::{fmt, ops::Range, sync::Arc};

/// Bytes that are written once and then shared.
pub(crate) enum Bytes {
    /// Anonymous pages, in huge ones where the system has them.
    Owned(Pages),
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

/// Zeroed anonymous pages, 4 KiB aligned.
pub(crate) struct Pages {
    map: Option<MmapMut>,
}

impl Pages {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        let map = MmapMut::map_anon(len)
            .map_err(|_| Error::OutOfMemory { what: "packed weights", bytes: len as u64 })?;
        // A hint: without huge pages the stream is a few percent slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map: Some(map) })
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The bytes, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or_default()
    }
}
