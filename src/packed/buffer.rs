//! Large read-mostly buffers: anonymous pages of our own, or a part of a mapped file.

use crate::error::{Error, Result};
use memmap2::MmapMut;
use std::fmt;

/// Bytes that are written once and then shared.
pub(crate) enum Bytes {
    /// Anonymous pages, in huge ones where the system has them.
    Owned(Pages),
}

impl Bytes {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Owned(pages) => pages.as_slice(),
        }
    }

    /// Whether they are a part of a file or of the host's memory.
    pub(crate) fn is_mapped(&self) -> bool {
        false
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
