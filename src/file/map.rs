//! Read-only file maps, and what to tell the system about their pages.
//!
//! The unsafe code of the room lives here.

#![allow(unsafe_code)]

use memmap2::{Mmap, MmapOptions};
use std::{fs::File, io, ops::Range};

/// A range of a file, mapped read-only.
#[derive(Debug)]
pub(super) struct Map(Mmap);

impl Map {
    /// Maps `len` bytes from `offset`, which need not be a multiple of a page:
    /// the map then begins at the page below.
    pub(super) fn new(file: &File, offset: u64, len: usize) -> io::Result<Map> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the danger of a map is that another process changes the file
        // under it. Bytes that change are still bytes: nothing in this crate
        // derives a type's validity or a memory bound from them without a check
        // at that moment. A file that shrinks raises a signal; `Source::open`
        // says so and offers to read instead.
        unsafe { options.map(file) }.map(Map)
    }

    /// The mapped bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the system how a range will be used. Best effort.
    pub(super) fn advise(&self, advice: Advice, range: Range<usize>) {
        #[cfg(unix)]
        {
            let len = range.end - range.start;
            // A refusal changes only speed.
            let _ = match advice {
                Advice::Random => self.0.advise_range(memmap2::Advice::Random, range.start, len),
                Advice::WillNeed => {
                    self.0.advise_range(memmap2::Advice::WillNeed, range.start, len)
                }
                Advice::DontNeed => {
                    // SAFETY: the map is read-only and shared with the file, so
                    // a dropped page comes back with the file's bytes.
                    unsafe {
                        self.0.unchecked_advise_range(
                            memmap2::UncheckedAdvice::DontNeed,
                            range.start,
                            len,
                        )
                    }
                }
            };
        }
        #[cfg(not(unix))]
        let _ = (advice, range);
    }
}

/// What a range of a map is about to see.
#[derive(Clone, Copy, Debug)]
pub(super) enum Advice {
    /// Scattered reads: no read-ahead.
    Random,
    /// A read soon: fetch it.
    WillNeed,
    /// No read for a while: its pages may go.
    DontNeed,
}

/// Asks the system to keep the pages of `bytes` in memory; answers whether it will.
///
/// Best effort: limits on locked memory are often small. Unmapping the pages
/// unlocks them. Always false where there is no `mlock`.
#[must_use]
pub fn lock_pages(bytes: &[u8]) -> bool {
    #[cfg(unix)]
    {
        if bytes.is_empty() {
            return true;
        }
        // Some systems demand that the address begin a page.
        let below = bytes.as_ptr().addr() % page_size();
        let start = bytes.as_ptr().wrapping_sub(below);
        // SAFETY: locking changes only whether pages may be swapped out; those
        // pages hold a live slice, so they are mapped.
        unsafe { libc::mlock(start.cast(), bytes.len() + below) == 0 }
    }
    #[cfg(not(unix))]
    {
        let _ = bytes;
        false
    }
}

#[cfg(unix)]
fn page_size() -> usize {
    // SAFETY: `sysconf` only reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_may_begin_anywhere() {
        let path = std::env::temp_dir().join(format!("tern-map-{}", std::process::id()));
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i * 7 % 251) as u8).collect();
        File::create(&path).unwrap().write_all(&bytes).unwrap();
        let file = File::open(&path).unwrap();
        for offset in [0, 1, 4095, 4096, 4097, 19_999] {
            let map = Map::new(&file, offset as u64, bytes.len() - offset).unwrap();
            let len = map.bytes().len();
            for advice in [Advice::Random, Advice::WillNeed, Advice::DontNeed] {
                map.advise(advice, 0..len);
                map.advise(advice, len / 2..len);
                map.advise(advice, len..len);
            }
            assert_eq!(map.bytes(), &bytes[offset..], "offset {offset}");
            // Whether a lock is granted depends on the system's limits.
            let _ = lock_pages(&map.bytes()[len / 3..]);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
