//! Truncated and lying files give errors: no panic, no hang, no large allocation.

mod common;

use common::{
    raw::{Raw, sample},
    spoil::{harmless, spoiled},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};
use tern::{
    Error,
    file::{Array, Gguf, Source, Value},
    tensor::DType,
};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    let held = HELD.get().saturating_add(more).saturating_sub(less);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the contract is the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the contract is the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Part of a file in memory that many sources share.
struct Part(Arc<[u8]>, usize);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// The same bytes behind a reader.
struct Reader(Part);

impl tern::file::ReadAt for Reader {
    fn len(&self) -> u64 {
        self.0.1 as u64
    }

    fn read_at(&self, offset: u64, dst: &mut [u8]) -> std::io::Result<()> {
        dst.copy_from_slice(&self.0.as_ref()[offset as usize..][..dst.len()]);
        Ok(())
    }
}

/// Parses within a bound on memory, and asks of a file that loads whether all it promises is there.
fn parse(source: Source) -> Result<Gguf, Error> {
    // Counts in a file never cost more than this: a directory entry of 33 bytes
    // becomes one of 120, and a window of 64 KiB at the least is read.
    let bound = 8 * source.len() as usize + (80 << 10);
    let before = HELD.get();
    PEAK.set(before);
    let result = Gguf::parse(Arc::new(source));
    let peak = PEAK.get() - before;
    assert!(peak <= bound, "{peak} bytes allocated, {bound} allowed");
    match &result {
        Ok(gguf) => check(gguf),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    result
}

fn check(gguf: &Gguf) {
    let array = |array: &Array<'_>| assert_eq!(array.iter().count(), array.len());
    for (key, value) in gguf.metadata.iter() {
        assert_eq!(gguf.metadata.get(key).map(|value| value.kind()), Some(value.kind()), "{key}");
        let _ = (
            gguf.metadata.u32(key),
            gguf.metadata.f32(key),
            gguf.metadata.str(key),
            value.to_string(),
        );
        if let Value::Array(elements) = &value {
            array(elements);
        }
    }
    let mut ranges: Vec<_> = gguf.tensors.iter().map(|tensor| tensor.range()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
    for tensor in &gguf.tensors {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert!(tensor.offset >= gguf.data_start);
        assert_eq!(
            gguf.tensor_bytes(tensor).unwrap().len() as u64,
            tensor.bytes,
            "{}",
            tensor.name
        );
    }
}

fn memory(bytes: &[u8]) -> Source {
    Source::from_memory(Part(bytes.into(), bytes.len()))
}

fn refused(bytes: &[u8]) -> String {
    parse(memory(bytes)).expect_err("the file is broken").to_string()
}

#[test]
fn the_sample_itself_loads() {
    let raw = sample();
    let gguf = parse(memory(&raw.bytes)).unwrap();
    assert_eq!((gguf.metadata.len(), gguf.tensors.len()), (22, 5));
    let meta = &gguf.metadata;
    assert_eq!(meta.u32("n.u8").unwrap(), 200);
    assert_eq!(meta.u64("n.u64").unwrap(), 1 << 40);
    assert_eq!(meta.f32("n.f32").unwrap(), 1e-5);
    assert!(meta.bool("n.bool").unwrap());
    assert_eq!(meta.str("s.empty").unwrap(), "");
    let texts: Vec<_> = meta.array("a.texts").unwrap().strings().unwrap().collect();
    assert_eq!(texts, [&b"!"[..], b"", b"\xff\xfe not text", b"four"]);
    let numbers: Vec<_> = meta.array("a.i32").unwrap().integers().unwrap().collect();
    assert_eq!(numbers, [1, 3]);
    assert!(meta.array("a.i32").unwrap().strings().is_none());
    // The data must not begin where the header ends by chance.
    let end = raw.fields.last().unwrap().at.end;
    assert!(!end.is_multiple_of(32) && gguf.data_start == end.next_multiple_of(32) as u64);
}

#[test]
fn lookups_say_what_is_wrong() {
    let gguf = parse(memory(&sample().bytes)).unwrap();
    let meta = &gguf.metadata;
    for (error, want) in [
        (meta.u32("missing").unwrap_err(), "key 'missing': missing"),
        (meta.u32("n.u64").unwrap_err(), "u64 1099511627776, wanted an integer from 0 to 2^32 - 1"),
        (meta.u32("n.i8").unwrap_err(), "i8 -127, wanted an integer from 0"),
        (meta.u64("n.f32").unwrap_err(), "f32 0.00001, wanted an integer"),
        (meta.f32("n.u8").unwrap_err(), "u8 200, wanted a float"),
        (meta.bool("n.u8").unwrap_err(), "u8 200, wanted a truth value"),
        (meta.str("a.texts").unwrap_err(), "an array of 4 x string, wanted a string in UTF-8"),
        (meta.array("s.text").unwrap_err(), "a string of 18 bytes, wanted an array"),
    ] {
        assert!(error.to_string().contains(want), "{error}\nwanted: {want}");
    }
    assert_eq!(meta.opt_u32("missing").unwrap(), None);
    assert!(meta.opt_u32("s.text").is_err());
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes: Arc<[u8]> = sample().bytes.into();
    for len in 0..bytes.len() {
        assert!(
            parse(Source::from_memory(Part(bytes.clone(), len))).is_err(),
            "{len} bytes, in memory"
        );
        let reader = Reader(Part(bytes.clone(), len));
        assert!(parse(Source::from_reader(reader)).is_err(), "{len} bytes, by reader");
    }
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oracle/tiny-b158-i2s.gguf");
    let bytes: Arc<[u8]> = std::fs::read(path).unwrap().into();
    let header =
        parse(Source::from_memory(Part(bytes.clone(), bytes.len()))).unwrap().data_start as usize;
    let kilobytes = (0..bytes.len()).step_by(1024);
    for len in (0..header + 32).chain(kilobytes).chain([bytes.len() - 1]) {
        let error = parse(Source::from_memory(Part(bytes.clone(), len))).unwrap_err();
        assert!(matches!(error, Error::BadModel { .. }), "{len} bytes: {error}");
    }
}

#[test]
fn every_spoiled_field_is_refused_or_harmless() {
    let raw = sample();
    let (mut refused, mut loaded) = (0, 0);
    for field in &raw.fields {
        for new in spoiled(&raw, field) {
            let mut bytes = raw.bytes.clone();
            if bytes[field.at.clone()] == new || field.at.is_empty() {
                continue;
            }
            bytes[field.at.clone()].copy_from_slice(&new);
            match (parse(memory(&bytes)), harmless(&raw, field, &new)) {
                (Ok(_), Some(_)) => loaded += 1,
                (Err(_), None) => refused += 1,
                (Ok(_), None) => panic!("'{}' = {new:?} loads", field.name),
                (Err(error), Some(why)) => {
                    panic!("'{}' = {new:?}: {error}, although {why}", field.name)
                }
            }
        }
    }
    // Both kinds were met in number: the lists above are not empty.
    assert!(refused > 1500 && loaded > 200, "{refused} refused, {loaded} loaded");
}

#[test]
fn no_byte_of_a_header_can_do_harm() {
    let raw = sample();
    let header = raw.fields.last().unwrap().at.end;
    for at in 0..header.next_multiple_of(32) {
        for value in 0..=255 {
            let mut bytes = raw.bytes.clone();
            bytes[at] = value;
            let _ = parse(memory(&bytes));
        }
    }
}

#[test]
fn no_heap_of_damage_can_do_harm() {
    let raw = sample();
    let mut rng = fastrand::Rng::with_seed(2);
    let rounds = if std::env::var_os("TERN_SOAK").is_some() { 3_000_000 } else { 30_000 };
    for round in 0..rounds {
        let mut bytes = raw.bytes.clone();
        for _ in 0..rng.usize(1..6) {
            let field = &raw.fields[rng.usize(..raw.fields.len())];
            let at = field.at.start.min(bytes.len() - 1);
            let other = rng.usize(..bytes.len());
            match rng.u8(..5) {
                0 => bytes[at] = rng.u8(..),
                1 => drop(bytes.drain(at..(at + rng.usize(..12)).min(bytes.len()))),
                2 => bytes.splice(at..at, (0..rng.usize(..12)).map(|_| 0)).for_each(drop),
                3 => bytes.extend_from_within(other..),
                _ => bytes.truncate(other.max(64)),
            }
        }
        let source = if round % 2 == 0 {
            memory(&bytes)
        } else {
            Source::from_reader(Reader(Part(bytes[..].into(), bytes.len())))
        };
        let _ = parse(source);
    }
}

/// A file of one key and no tensor.
fn one_key(build: impl FnOnce(&mut Raw) -> &mut Raw) -> Vec<u8> {
    let mut raw = Raw::default();
    build(raw.start(3, 0, 1));
    raw.bytes
}

/// A file of some tensors over 4 KB of data.
fn tensors(list: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let mut raw = Raw::default();
    raw.start(3, list.len() as u64, 0);
    for (name, dims, kind, offset) in list {
        raw.tensor(name, dims, *kind, *offset);
    }
    raw.data(4096);
    raw.bytes
}

#[test]
fn messages_name_what_is_wrong() {
    let long = "k".repeat(65_536);
    let header = |version: u32, tensors: u64, keys: u64| {
        Raw::default().start(version, tensors, keys).bytes.clone()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".into(), "4 bytes wanted, the file has 0 more"),
        (b"PK\x03\x04".into(), "'PK\\x03\\x04', wanted 'GGUF'"),
        (header(1, 0, 0), "GGUF version 1"),
        (header(0x0300_0000, 0, 0), "big-endian"),
        (header(9, 0, 0), "version at byte 4: 9, wanted 2 or 3"),
        (
            header(3, 1 << 60, 0),
            "tensor count at byte 8: 1152921504606846976, each of 33 bytes or more",
        ),
        (header(3, 0, 1 << 60), "key count at byte 16"),
        (one_key(|raw| raw.u32("", 1)), "key 0 at byte 24: 0 bytes long"),
        (one_key(|raw| raw.u32(&long, 1)), "65536 bytes long, wanted 1 to 65535"),
        (one_key(|raw| raw.u32("a\0b", 1)), "'a\\x00b' holds a NUL"),
        (
            one_key(|raw| raw.number("b", 7, &[2])),
            "key 'b', truth value at byte 37: neither 0 nor 1",
        ),
        (
            one_key(|raw| raw.number("b", 13, &[2])),
            "key 'b', value type at byte 33: 13, wanted 0 to 12",
        ),
        (one_key(|raw| raw.numbers("b", 9, &[&[0; 12]])), "an array of arrays"),
        (one_key(|raw| raw.u32("split.count", 3)), "one of 3 parts of a split model; merge"),
        (one_key(|raw| raw.u32("prism.hadamard.version", 1)), "weights in a rotated basis"),
        (tensors(&[("t", &[4], 38, 0)]), "tensor 't' has type 38 (TL1); convert to I2_S"),
        (tensors(&[("t", &[4], 39, 0)]), "type 39 (TL2 in BitNet forks, MXFP4 upstream)"),
        (tensors(&[("t", &[4], 135, 0)]), "IQ2_BN of ik_llama.cpp"),
        (tensors(&[("t", &[4], 143, 0)]), "PTQ1_0 of PrismML"),
        (tensors(&[("t", &[4], 0x7e42, 0)]), "a packed layout of another version"),
        (tensors(&[("t", &[4], 777, 0)]), "type 777 (unknown)"),
        (
            tensors(&[("t", &[192, 2], 36, 0)]),
            "tensor 't': rows of 192 are not whole blocks of 128 (I2_S)",
        ),
        (tensors(&[("t", &[33], 8, 0)]), "rows of 33 are not whole blocks of 32 (Q8_0)"),
        (tensors(&[("t", &[], 0, 0)]), "0 dimensions, wanted 1 to 4"),
        (tensors(&[("t", &[1; 5], 0, 0)]), "5 dimensions"),
        (tensors(&[("t", &[4, 0], 0, 0)]), "dimension 1 is 0"),
        (tensors(&[("t", &[1 << 32, 1 << 31], 0, 0)]), "multiply to more than 2^63 - 1"),
        (tensors(&[("t", &[1 << 62], 0, 0)]), "takes more than 2^64 bytes"),
        (tensors(&[("t", &[4], 0, 8)]), "offset 8 is not a multiple of the alignment 32"),
        (tensors(&[("t", &[4], 0, 1 << 40)]), "it is cut short or damaged"),
        (tensors(&[("t", &[4], 0, u64::MAX - 31)]), "reaches past 2^64"),
        (tensors(&[("t", &[4], 0, 0), ("t", &[4], 0, 32)]), "tensor 't' at byte 82: appears twice"),
        (
            tensors(&[("t", &[16], 0, 0), ("u", &[4], 0, 32)]),
            "within tensor 't', which ends at byte",
        ),
        (
            tensors(&[(&long[..65], &[4], 0, 0)]),
            "tensor 0 at byte 24: 65 bytes long, wanted 1 to 64",
        ),
    ];
    for (bytes, want) in cases {
        let error = refused(&bytes);
        assert!(error.contains(want), "{error}\nwanted: {want}");
    }
    let mut twice = Raw::default();
    twice.start(3, 0, 2).u32("k", 1).u32("k", 2);
    assert!(
        refused(&twice.bytes).contains("key 'k' at byte 54: appears twice"),
        "{}",
        refused(&twice.bytes)
    );
}

#[test]
fn a_feature_is_named_before_the_type_it_comes_with() {
    let mut raw = Raw::default();
    raw.start(3, 1, 1).u32("prism.hadamard.version", 1).tensor("t", &[128], 142, 0).data(4096);
    for source in [
        memory(&raw.bytes),
        Source::from_reader(Reader(Part(raw.bytes[..].into(), raw.bytes.len()))),
    ] {
        let error = parse(source).unwrap_err();
        assert!(error.to_string().contains("rotated basis"), "{error}");
    }
}

#[test]
fn unusual_files_load() {
    // No key, no tensor; an alignment above the default; integers of another width.
    assert!(parse(memory(&Raw::default().start(3, 0, 0).bytes)).is_ok());
    let mut raw = Raw::default();
    raw.start(2, 1, 2).number("general.alignment", 0, &[64]).number("split.count", 2, &[1, 0]);
    raw.tensor("t", &[2, 2, 2, 2], 0, 64);
    raw.bytes.resize(raw.bytes.len().next_multiple_of(64) + 128, 0);
    let gguf = parse(memory(&raw.bytes)).unwrap();
    assert_eq!((gguf.version, gguf.tensors[0].dtype), (2, DType::F32));
    assert_eq!(gguf.tensors[0].offset, gguf.data_start + 64);
}
