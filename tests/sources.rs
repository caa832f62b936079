//! Wherever a model's bytes are, the same model comes out; and whoever lent them gets them back once.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tern::{
    Error,
    file::{Gguf, OpenOptions, ReadAt, Source},
};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oracle/tiny-b158-i2s.gguf");

/// A file of its own for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, parts: &[&[u8]]) -> Scratch {
        let path = std::env::temp_dir().join(format!("tern-{name}-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        parts.iter().for_each(|part| file.write_all(part).unwrap());
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes of a host, in the middle of more; counts how often they are given back.
struct Lent {
    bytes: Vec<u8>,
    skip: usize,
    releases: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.skip..]
    }
}

impl ReadAt for Lent {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, dst: &mut [u8]) -> io::Result<()> {
        let from = &self.as_ref()[offset as usize..];
        dst.copy_from_slice(from.get(..dst.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.releases.fetch_add(1, Ordering::Relaxed);
    }
}

fn lent(bytes: &[u8], skip: usize) -> (Lent, Arc<AtomicUsize>) {
    let releases = Arc::new(AtomicUsize::new(0));
    let bytes = [&vec![0xaa; skip], bytes].concat();
    (Lent { bytes, skip, releases: Arc::clone(&releases) }, releases)
}

#[test]
fn a_model_may_lie_anywhere_in_a_file() {
    let model = std::fs::read(MODEL).unwrap();
    for skip in [0, 1, 4095, 4096, 4109, 70_001] {
        let pack =
            Scratch::new(&format!("pack-{skip}"), &[&vec![0xaa; skip], &model, b"what follows"]);
        let part = OpenOptions { offset: skip as u64, length: model.len() as u64, mmap: true };
        let mut sources = vec![
            Source::open(&pack.0, part).unwrap(),
            Source::open(&pack.0, OpenOptions { mmap: false, ..part }).unwrap(),
            Source::from_memory(lent(&model, skip).0),
            Source::from_reader(lent(&model, skip).0),
            Source::copy(&model).unwrap(),
        ];
        #[cfg(unix)]
        {
            use std::{io::Seek, os::fd::AsFd};
            let mut file = File::open(&pack.0).unwrap();
            file.seek(io::SeekFrom::Start(11)).unwrap();
            sources.push(Source::open_fd(file.as_fd(), part).unwrap());
            sources
                .push(Source::open_fd(file.as_fd(), OpenOptions { mmap: false, ..part }).unwrap());
            assert_eq!(file.stream_position().unwrap(), 11);
            // The sources hold duplicates: they outlive the descriptor.
        }
        assert!(sources[0].is_mapped() && !sources[1].is_mapped());
        for source in sources {
            let what = format!("{source:?}, {skip} bytes before");
            let all = 0..source.len();
            let gguf = Gguf::parse(Arc::new(source)).unwrap();
            assert_eq!(gguf.tensors.len(), 46, "{what}");
            for tensor in &gguf.tensors {
                let range = tensor.range();
                let want = &model[range.start as usize..range.end as usize];
                assert_eq!(gguf.tensor_bytes(tensor).unwrap(), want, "{what}, {}", tensor.name);
                gguf.source().advise_random(range.clone());
                gguf.source().advise_dontneed(range.clone());
                gguf.source().advise_willneed(range.clone());
                assert_eq!(
                    gguf.tensor_bytes(tensor).unwrap(),
                    want,
                    "{what}, {} again",
                    tensor.name
                );
            }
            gguf.source().advise_dontneed(all.start..all.end + 1); // past the end: no effect
            assert!(gguf.source().is_mapped() || !gguf.source().mlock(0..4096), "{what}");
        }
    }
}

#[test]
fn lent_memory_is_given_back_once() {
    let model = std::fs::read(MODEL).unwrap();
    for reader in [false, true] {
        for broken in [false, true] {
            let mut bytes = model.clone();
            bytes[0] ^= u8::from(broken);
            let (lent, releases) = lent(&bytes, 3);
            let source = Arc::new(if reader {
                Source::from_reader(lent)
            } else {
                Source::from_memory(lent)
            });
            let gguf = Gguf::parse(source);
            let count = || releases.load(Ordering::Relaxed);
            match gguf {
                Ok(gguf) => {
                    let other = Arc::clone(gguf.source());
                    drop(gguf);
                    assert_eq!((broken, count()), (false, 0), "given back while in use");
                    drop(other);
                }
                Err(_) => assert!(broken),
            }
            assert_eq!(count(), 1, "reader: {reader}, broken: {broken}");
        }
    }
}

#[test]
fn a_failing_reader_is_an_io_error() {
    struct Failing(u64);
    impl ReadAt for Failing {
        fn len(&self) -> u64 {
            1 << 60
        }
        fn read_at(&self, offset: u64, dst: &mut [u8]) -> io::Result<()> {
            dst.fill(0);
            if offset < self.0 { Ok(()) } else { Err(io::Error::other("the archive is damaged")) }
        }
    }
    let error = Gguf::parse(Arc::new(Source::from_reader(Failing(0)))).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot read bytes 0..65536 of model reader: the archive is damaged"
    );
    let source = Source::from_reader(Failing(u64::MAX));
    // More than any machine has: an error, not an abort.
    assert!(matches!(source.bytes(0..1 << 60), Err(Error::OutOfMemory { .. }) | Ok(_)));
    assert!(matches!(source.bytes(0..(1 << 60) + 1), Err(Error::BadModel { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "a mistake that must not panic")]
    let reversed = source.bytes(9..8);
    assert!(matches!(reversed, Err(Error::BadModel { .. })));
}

#[test]
fn what_is_no_file_is_an_io_error() {
    let directory = std::env::temp_dir();
    let missing = directory.join("no such model.gguf");
    for path in [&directory, &missing] {
        let error = Source::open(path, OpenOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    #[cfg(unix)]
    {
        // Opening it for reading would wait for a writer that never comes.
        let pipe = directory.join(format!("tern-pipe-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = Source::open(&pipe, OpenOptions::default()).unwrap_err();
        std::fs::remove_file(&pipe).unwrap();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
        let device = File::open("/dev/zero").unwrap();
        let error =
            Source::open_fd(std::os::fd::AsFd::as_fd(&device), OpenOptions::default()).unwrap_err();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
    }
}

#[test]
fn a_part_beyond_the_end_is_refused() {
    let file = Scratch::new("short", &[&[7; 1000]]);
    for (offset, length) in
        [(1001, 0), (0, 1001), (1000, 1), (999, 2), (1, u64::MAX), (u64::MAX, 1)]
    {
        for mmap in [true, false] {
            let error = Source::open(&file.0, OpenOptions { offset, length, mmap }).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{offset}, {length}: {error}");
            assert!(error.to_string().contains("has 1000 bytes"), "{error}");
        }
    }
    // Nothing at all is a source, though not a model.
    let empty =
        Source::open(&file.0, OpenOptions { offset: 1000, ..OpenOptions::default() }).unwrap();
    assert!(empty.is_empty());
    let error = Gguf::parse(Arc::new(empty)).unwrap_err();
    assert!(
        error.to_string().contains("magic at byte 0: 4 bytes wanted, the file has 0 more"),
        "{error}"
    );
}

#[test]
fn a_file_that_shrinks_is_an_io_error_when_read() {
    let model = std::fs::read(MODEL).unwrap();
    let file = Scratch::new("shrinks", &[&model]);
    let source =
        Source::open(&file.0, OpenOptions { mmap: false, ..OpenOptions::default() }).unwrap();
    let gguf = Gguf::parse(Arc::new(source)).unwrap();
    File::options().write(true).open(&file.0).unwrap().set_len(100_000).unwrap();
    let last = gguf.tensors.last().unwrap();
    let error = gguf.tensor_bytes(last).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // The header was kept.
    assert_eq!(gguf.metadata.str("general.architecture").unwrap(), "bitnet-b1.58");
}

#[test]
fn memory_that_shrinks_is_no_panic() {
    /// Gives out less each time it is asked.
    struct Melting(Vec<u8>, AtomicUsize);
    impl AsRef<[u8]> for Melting {
        fn as_ref(&self) -> &[u8] {
            let times = self.1.fetch_add(1, Ordering::Relaxed);
            &self.0[..self.0.len() - self.0.len().min(times * 1000)]
        }
    }
    let source = Source::from_memory(Melting(std::fs::read(MODEL).unwrap(), AtomicUsize::new(0)));
    // What is still there is copied and read; what is gone is an error.
    let gguf = Gguf::parse(Arc::new(source)).unwrap();
    let errors = gguf.tensors.iter().filter(|tensor| gguf.tensor_bytes(tensor).is_err()).count();
    assert!(errors > 0);
    assert!(gguf.metadata.iter().all(|(_, value)| !value.to_string().contains('\u{fffd}')));
}
