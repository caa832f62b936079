//! Where a model's bytes are.

use super::map::{Advice, Map, lock_pages};
use crate::error::{Error, Result, try_zeroed};
use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io,
    ops::Range,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Bytes that are fetched on request: an archive entry, an encrypted file, an asset.
///
/// Called from any thread, by one at a time. Dropped after the last read, also
/// when a load fails.
pub trait ReadAt: Send {
    /// Bytes there are; asked once.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `dst` with the bytes from `offset` on, or fails.
    ///
    /// # Errors
    ///
    /// Whatever kept the reader from filling all of `dst`.
    fn read_at(&self, offset: u64, dst: &mut [u8]) -> io::Result<()>;
}

/// Which part of a file to open, and how.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// First byte of the model within the file; any number will do.
    pub offset: u64,
    /// Bytes of the model; 0 is all up to the end of the file.
    pub length: u64,
    /// Map the file (the default); otherwise read from it what is asked for.
    pub mmap: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { offset: 0, length: 0, mmap: true }
    }
}

/// The bytes of one model, wherever they are.
pub struct Source {
    name: String,
    len: u64,
    bytes: Bytes,
}

enum Bytes {
    Map {
        map: Map,
        /// What is mapped, from `offset` on.
        file: File,
        offset: u64,
    },
    File {
        file: File,
        offset: u64,
    },
    Memory(Box<dyn AsRef<[u8]> + Send + Sync>),
    Reader(Mutex<Box<dyn ReadAt>>),
}

impl Source {
    /// Opens a file by its path.
    ///
    /// A mapped file must not shrink while it is in use: the system then ends
    /// the process with a signal. Where that may happen, turn `mmap` off. If
    /// the system cannot map the file, it is read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be opened or is no regular file,
    /// [`Error::InvalidArgument`] if the options reach past its end.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Source> {
        let path = path.as_ref();
        let refuse = |source| Error::Io { what: format!("cannot open {}", path.display()), source };
        // Asked before opening: opening a pipe would wait for its other end.
        if !std::fs::metadata(path).map_err(refuse)?.is_file() {
            return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(refuse)?;
        Source::from_file(file, path.display().to_string(), options)
    }

    /// Opens a duplicate of a file descriptor; its position is ignored.
    ///
    /// # Errors
    ///
    /// As [`open`](Source::open).
    #[cfg(unix)]
    pub fn open_fd(fd: std::os::fd::BorrowedFd<'_>, options: OpenOptions) -> Result<Source> {
        use std::os::fd::AsRawFd;
        let name = format!("file descriptor {}", fd.as_raw_fd());
        match fd.try_clone_to_owned() {
            Ok(fd) => Source::from_file(File::from(fd), name, options),
            Err(source) => Err(Error::Io { what: format!("cannot duplicate {name}"), source }),
        }
    }

    /// Opens a duplicate of a file handle; its position is ignored, and moved by the system where bytes are read.
    ///
    /// # Errors
    ///
    /// As [`open`](Source::open).
    #[cfg(windows)]
    pub fn open_handle(
        handle: std::os::windows::io::BorrowedHandle<'_>,
        options: OpenOptions,
    ) -> Result<Source> {
        match handle.try_clone_to_owned() {
            Ok(handle) => Source::from_file(File::from(handle), "file handle".into(), options),
            Err(source) => {
                Err(Error::Io { what: "cannot duplicate the file handle".into(), source })
            }
        }
    }

    /// Takes an open file; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`open`](Source::open).
    pub fn from_file(file: File, name: String, options: OpenOptions) -> Result<Source> {
        let refuse = |source| Error::Io { what: format!("cannot read {name}"), source };
        let metadata = file.metadata().map_err(refuse)?;
        if !metadata.is_file() {
            return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let OpenOptions { offset, length, mmap } = options;
        let outside = || {
            Error::InvalidArgument(
                format!("offset {offset}, length {length}: {name} has {} bytes", metadata.len())
                    .into(),
            )
        };
        let rest = metadata.len().checked_sub(offset).ok_or_else(outside)?;
        let len = if length == 0 { rest } else { length };
        if len > rest {
            return Err(outside());
        }
        // An empty range cannot be mapped, and a map may be impossible: on some
        // network file systems, or where address space is short.
        let map = usize::try_from(len).ok().filter(|len| mmap && *len > 0);
        let bytes = match map.map(|len| Map::new(&file, offset, len)) {
            Some(Ok(map)) => Bytes::Map { map, file, offset },
            _ => Bytes::File { file, offset },
        };
        Ok(Source { name, len, bytes })
    }

    /// Bytes in memory that `owner` keeps alive, at any alignment.
    ///
    /// The owner is dropped with the last use of the source, also when a load
    /// fails: a release callback belongs in its `Drop`.
    #[must_use]
    pub fn from_memory(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Source {
        let len = owner.as_ref().len() as u64;
        Source { name: "model in memory".into(), len, bytes: Bytes::Memory(Box::new(owner)) }
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn copy(bytes: &[u8]) -> Result<Source> {
        let mut copy = try_zeroed(bytes.len(), "a copy of the model")?;
        copy.copy_from_slice(bytes);
        Ok(Source::from_memory(copy))
    }

    /// Bytes that `reader` fetches.
    #[must_use]
    pub fn from_reader(reader: impl ReadAt + 'static) -> Source {
        let len = reader.len();
        Source {
            name: "model reader".into(),
            len,
            bytes: Bytes::Reader(Mutex::new(Box::new(reader))),
        }
    }

    /// What errors call this source: its path, where it has one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the model file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bytes are pages of a file, which the system may drop and fetch again.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Map { .. })
    }

    /// A range that is already in memory; `None` if it must be read first, or does not exist.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Option<&[u8]> {
        let bytes = match &self.bytes {
            Bytes::Map { map, .. } => map.bytes(),
            Bytes::Memory(owner) => (**owner).as_ref(),
            Bytes::File { .. } | Bytes::Reader(_) => return None,
        };
        bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }

    /// A range of the file: borrowed where it is in memory, else read.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] if the range does not lie within the file, else
    /// as [`read`](Source::read).
    pub fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        self.check(&range)?;
        if let Some(bytes) = self.slice(range.clone()) {
            return Ok(Cow::Borrowed(bytes));
        }
        let bytes = range.end - range.start;
        let len = usize::try_from(bytes)
            .map_err(|_| Error::OutOfMemory { what: "part of the model", bytes })?;
        let mut copy = try_zeroed(len, "part of the model")?;
        self.read(range.start, &mut copy)?;
        Ok(Cow::Owned(copy))
    }

    /// Fills `dst` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file or the reader fails, [`Error::BadModel`] if
    /// there are not that many bytes.
    pub fn read(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        let range = offset..offset.saturating_add(dst.len() as u64);
        self.check(&range)?;
        let done = match &self.bytes {
            Bytes::Map { .. } | Bytes::Memory(_) => {
                let bytes = self.slice(range.clone()).ok_or_else(|| self.outside(&range))?;
                dst.copy_from_slice(bytes);
                return Ok(());
            }
            Bytes::File { file, offset: base } => read_exact_at(file, base + offset, dst),
            // A reader that panicked is only ever asked again, never trusted more.
            Bytes::Reader(reader) => {
                reader.lock().unwrap_or_else(PoisonError::into_inner).read_at(offset, dst)
            }
        };
        done.map_err(|source| Error::Io {
            what: format!("cannot read bytes {}..{} of {}", range.start, range.end, self.name),
            source,
        })
    }

    /// Fills `dst` with the bytes from `offset` on of a mapped file, past the map, none of whose pages become
    /// resident for it. False if there is no such file or it cannot be read: `dst` then holds anything.
    #[must_use]
    pub(crate) fn read_past_map(&self, offset: u64, dst: &mut [u8]) -> bool {
        let inside = self.check(&(offset..offset.saturating_add(dst.len() as u64))).is_ok();
        match &self.bytes {
            Bytes::Map { file, offset: base, .. } if inside => {
                read_exact_at(file, base + offset, dst).is_ok()
            }
            _ => false,
        }
    }

    /// Says that a range will be read here and there. Best effort, maps only.
    pub fn advise_random(&self, range: Range<u64>) {
        self.advise(Advice::Random, range);
    }

    /// Says that a range will be read soon. Best effort, maps only.
    pub fn advise_willneed(&self, range: Range<u64>) {
        self.advise(Advice::WillNeed, range);
    }

    /// Says that a range will not be read for a while: its pages may go. Best effort, maps only.
    pub fn advise_dontneed(&self, range: Range<u64>) {
        self.advise(Advice::DontNeed, range);
    }

    /// Asks the system to keep a range of a map in memory; answers whether it will.
    ///
    /// Memory of the host is the host's to lock.
    #[must_use]
    pub fn mlock(&self, range: Range<u64>) -> bool {
        self.is_mapped() && self.slice(range).is_some_and(lock_pages)
    }

    /// Puts the name of this source in front of an error's place.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let name = &self.name;
        match error {
            Error::BadModel { place, offset, rule } => {
                Error::BadModel { place: format!("{name}: {place}"), offset, rule }
            }
            Error::UnsupportedModel { what, remedy } => {
                Error::UnsupportedModel { what: format!("{name}: {what}"), remedy }
            }
            other => other,
        }
    }

    fn advise(&self, advice: Advice, range: Range<u64>) {
        if let (Bytes::Map { map, .. }, true) = (&self.bytes, self.check(&range).is_ok()) {
            // A map's length is a `usize`, and the range lies within it.
            map.advise(advice, range.start as usize..range.end as usize);
        }
    }

    fn check(&self, range: &Range<u64>) -> Result<()> {
        if range.start <= range.end && range.end <= self.len {
            Ok(())
        } else {
            Err(self.outside(range))
        }
    }

    fn outside(&self, range: &Range<u64>) -> Error {
        Error::bad_byte(
            self.name.as_str(),
            range.start,
            format!("bytes {}..{} wanted, the file has {}", range.start, range.end, self.len),
        )
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.bytes {
            Bytes::Map { .. } => "map",
            Bytes::File { .. } => "file",
            Bytes::Memory(_) => "memory",
            Bytes::Reader(_) => "reader",
        };
        write!(f, "Source({kind}, {:?}, {} bytes)", self.name, self.len)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, dst: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, dst, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut dst: &mut [u8]) -> io::Result<()> {
    while !dst.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, dst, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                dst = &mut dst[len..];
                offset += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: u64, _: &mut [u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_read_past_its_map() {
        let path = std::env::temp_dir().join(format!("tern-past-map-{}", std::process::id()));
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).expect("room");
        let options = OpenOptions { offset: 33, length: 19_000, mmap: true };
        let source = Source::open(&path, options).expect("opens");
        let mut got = vec![0; 5000];
        for offset in [0, 1, 4096, 14_000] {
            assert!(source.read_past_map(offset, &mut got), "offset {offset}");
            assert_eq!(Some(&got[..]), source.slice(offset..offset + 5000), "offset {offset}");
        }
        // Past the model's end, though not past the file's.
        assert!(!source.read_past_map(14_001, &mut got));
        assert!(!source.read_past_map(u64::MAX, &mut got));
        drop(source);
        std::fs::remove_file(&path).expect("ours");
        assert!(!Source::from_memory(bytes).read_past_map(0, &mut got), "no file");
    }
}
