//! What a tokenizer keeps of the heap is what it says it will.

#[path = "common/vocab.rs"]
#[expect(dead_code, reason = "only one vocabulary is made here")]
mod vocab;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tern::{
    file::{Gguf, Metadata, OpenOptions, Source},
    text::Tokenizer,
};

/// The system's allocator, which counts what is held as the system rounds it.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

fn rounded(bytes: usize) -> i64 {
    (bytes + 8).next_multiple_of(16).max(32) as i64
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn check(metadata: &Metadata, what: &str) {
    let said = Tokenizer::heap_bytes(metadata).expect("a sound vocabulary") as i64;
    let before = HELD.load(Ordering::Relaxed);
    let tokenizer = Tokenizer::open(metadata).expect("a sound vocabulary");
    let held = HELD.load(Ordering::Relaxed) - before;
    let off = (said - held).abs() as f64 / held as f64;
    assert!(off < 0.03, "{what}: said {said}, holds {held}");
    // Use leaves nothing of the text behind. The first call fills the crates' own statics, and the
    // harness's thread may allocate a little meanwhile: far less than the text is long.
    let long = "Other words, and a number: 12345. ".repeat(1000);
    let encode = || {
        drop(tokenizer.encode(&long, true, true, None).expect("encodes"));
        HELD.load(Ordering::Relaxed)
    };
    let first = encode();
    let later = (0..8).map(|_| encode()).min().expect("eight calls");
    let kept = later - first;
    assert!(kept < long.len() as i64 / 4, "{what}: eight calls left {kept} bytes");
}

/// One test, so that no other allocates meanwhile.
#[test]
fn the_heap_holds_what_was_said() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/seed-s.gguf");
    let source =
        Source::open(&path, OpenOptions::default()).expect("the file is in the repository");
    let gguf = Gguf::parse(Arc::new(source)).expect("a sound model");
    check(&gguf.metadata, "the shipped model");
    match std::env::var_os("TERN_TEST_VOCAB") {
        Some(path) => {
            let text = std::fs::read_to_string(path).expect("TERN_TEST_VOCAB names a file");
            check(&vocab::Tiktoken::parse(&text).llama3(|_| {}).metadata, "LLaMA-3");
        }
        None => {
            let skipped =
                b"SKIPPED the LLaMA-3 half of the_heap_holds_what_was_said: set TERN_TEST_VOCAB\n";
            let _ = std::io::stderr().write_all(skipped);
        }
    }
}
