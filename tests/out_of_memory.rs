//! No memory is an error, and the process lives: allocations made to fail one by one, and a process with a limit.

#![allow(clippy::print_stderr)] // a skip says so aloud

mod common;

use common::tiny::{self, Plan};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tern::{
    Error,
    context::{Context, ContextOptions, EvalOptions, KvType, Want},
    file::Source,
    kernels::Kernels,
    model::{LoadOptions, Model},
    sampler::Sampler,
    session::{GenerateOptions, Session, SessionOptions},
    tensor::DType,
    threads::ThreadPool,
};

/// Fails one large allocation of the process, when it is armed.
struct Failing;

/// What counts as large: what tern asks for with a way to be refused. Smaller ones, names and messages among them,
/// end any Rust program when they fail.
const LARGE: usize = 64 << 10;

/// How many large ones still succeed before one fails; `IDLE` is all.
static LEFT: AtomicUsize = AtomicUsize::new(IDLE);
static FAILED: AtomicBool = AtomicBool::new(false);
const IDLE: usize = usize::MAX;

/// Whether this allocation is the one.
fn fails(bytes: usize) -> bool {
    if bytes < LARGE || LEFT.load(Ordering::Relaxed) == IDLE {
        return false;
    }
    let step = |left: usize| if left == IDLE { None } else { Some(left.wrapping_sub(1)) };
    let fails = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) == Ok(0);
    if fails {
        FAILED.store(true, Ordering::Relaxed);
    }
    fails
}

// SAFETY: every call goes to the system's allocator unchanged, or is refused with null.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the contract is the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the contract is the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the contract is the caller's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the contract is the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `work` with its first large allocation failing, then its second, until none is left to fail. Each failure must
/// be `OutOfMemory`; what the last run gives is what an undisturbed one would.
fn failing_each<T>(what: &str, mut work: impl FnMut() -> Result<T, Error>) -> T {
    for n in 0..10_000 {
        FAILED.store(false, Ordering::Relaxed);
        LEFT.store(n, Ordering::Relaxed);
        let result = work();
        LEFT.store(IDLE, Ordering::Relaxed);
        match result {
            Ok(value) if !FAILED.load(Ordering::Relaxed) => {
                eprintln!("{what}: {n} large allocations");
                assert!(n > 0, "{what} makes no large allocation: nothing was tried");
                return value;
            }
            // One that was only for speed, or a spare.
            Ok(_) => {}
            Err(Error::OutOfMemory { bytes, .. }) => assert!(bytes > 0, "{what}, allocation {n}"),
            Err(error) => panic!("{what}, allocation {n}: {error}"),
        }
    }
    panic!("{what}: no end of allocations");
}

/// A vocabulary whose row of logits is large.
const VOCAB: u32 = 17_000;

fn plan() -> Plan {
    Plan { layers: 2, kv_heads: 4, vocab: VOCAB, context: 1024, ..Plan::default() }
}

/// One test at a time: what is made to fail would be the other's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prompt(n: usize) -> Vec<i32> {
    let mut rng = fastrand::Rng::with_seed(8);
    (0..n).map(|_| rng.i32(0..5000)).collect()
}

fn bits(context: &mut Context) -> Vec<u32> {
    context.logits(0).expect("a row").iter().map(|x| x.to_bits()).collect()
}

fn options(kv_type: KvType) -> ContextOptions {
    ContextOptions { kv_type, n_seq_max: 3, pool: Some(ThreadPool::single()), ..Default::default() }
}

#[test]
fn any_large_allocation_may_fail() {
    let _alone = alone();
    // Weights are large here, and the tables that the tokenizers' crate builds, which must not fail, are small.
    let narrow = Plan { vocab: 512, width: 1024, ffn: 1024, heads: 8, kv_heads: 8, ..plan() };
    let bytes = tiny::bytes(&Plan { ternary: DType::TQ1_0, ..narrow });
    failing_each("load", || {
        let source = Source::copy(&bytes)?;
        // By name: the self-test that chooses a table is a load's only small change.
        let kernels = Some(Kernels::best().name().to_owned());
        Model::from_source(source, LoadOptions { verify: true, kernels, ..LoadOptions::default() })
    });
    let model =
        Model::from_source(Source::from_memory(tiny::bytes(&plan())), LoadOptions::default())
            .expect("loads");
    let tokens = prompt(150);
    for kv_type in [KvType::F16, KvType::I8] {
        let mut fresh = Context::new(&model, options(kv_type)).expect("small");
        fresh.eval(&tokens, EvalOptions::default()).expect("fits");
        let want = bits(&mut fresh);
        let mut context = Context::new(&model, options(kv_type)).expect("small");
        failing_each("eval and logits", || {
            let held = context.tokens(0)?.to_vec();
            if held.is_empty() {
                let all = EvalOptions { want: Want::All, ..EvalOptions::default() };
                let result = context.eval(&tokens, all);
                if result.is_err() {
                    assert!(context.tokens(0)?.is_empty(), "a failed eval appends nothing");
                }
                result?;
            }
            context.logits(149).map(<[f32]>::len)
        });
        context.truncate(0, 149).expect("there");
        context.eval(&tokens[149..], EvalOptions::default()).expect("fits");
        assert!(bits(&mut context) == want, "after every failure ({kv_type:?})");
        let blob = failing_each("save", || context.save_sequence(0));
        failing_each("load a sequence", || {
            let before = context.tokens(1)?.len();
            let result = context.load_sequence(1, &blob);
            if result.is_err() {
                assert_eq!(context.tokens(1)?.len(), before, "a failed load changes nothing");
            }
            result
        });
        assert!(context.save_sequence(1).expect("computed") == blob);
        failing_each("a fork that is written to", || {
            context.clear(2)?;
            context.fork(0, 2)?;
            let on = EvalOptions { sequence: 2, ..EvalOptions::default() };
            context.eval(&tokens[..3], on).map(|_| ())
        });
        assert!(context.save_sequence(0).expect("computed") == blob, "the other side is untouched");
        failing_each("score", || context.score(0, &tokens[..70], None));
        failing_each("shift", || {
            context.clear(2)?;
            context.fork(0, 2)?;
            context.shift(2, 10, 70)
        });
        assert!(context.save_sequence(0).expect("computed") == blob, "still");
    }
    let greedy = || GenerateOptions {
        sampler: Some(Sampler::new(0)),
        max_tokens: 6,
        ..GenerateOptions::default()
    };
    let session = || {
        let context = ContextOptions { n_seq_max: 1, ..options(KvType::F16) };
        let options = SessionOptions {
            instructions: Some("Be kind. ".repeat(20)),
            context,
            ..SessionOptions::default()
        };
        Session::new(&model, options)
    };
    let mut want = session().expect("small");
    want.respond(Some("Hello!"), greedy(), |_| true).expect("answers");
    let answered = failing_each("a session's answer", || {
        let mut session = session()?;
        session.respond(Some("Hello!"), greedy(), |_| true)?;
        Ok(session)
    });
    assert_eq!(answered.turns(), want.turns());
    let blob = failing_each("a session's save", || answered.save());
    let back = failing_each("a session's restore", || {
        let context = ContextOptions { n_seq_max: 1, ..options(KvType::F16) };
        Session::restore(&model, &blob, SessionOptions { context, ..SessionOptions::default() })
    });
    assert_eq!(back.turns(), want.turns());
}

/// A model whose weights and pages are far larger than anything else in the process.
fn heavy() -> Plan {
    Plan { width: 1024, ffn: 1024, heads: 8, kv_heads: 8, layers: 4, context: 16384, ..plan() }
}

#[test]
fn a_process_at_its_limit_lives() {
    if cfg!(not(target_os = "linux")) {
        eprintln!("SKIPPED: limits of address space are set and read as Linux does");
        return;
    }
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("tern-out-of-memory-{}.gguf", std::process::id()));
    std::fs::write(&path, tiny::bytes(&heavy())).expect("written");
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg("limited::in_a_process_of_its_own")
        .env("TERN_TEST_MODEL", &path)
        .env_remove("RUST_BACKTRACE") // reading symbols takes more than the limit leaves
        .output()
        .expect("this program runs");
    std::fs::remove_file(&path).expect("ours");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let cried = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{said}\n{cried}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
mod limited {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Bytes of address space in use.
    fn used() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        pages * 4096
    }

    /// Leaves this process so many bytes more than it has; `None` lifts the limit.
    fn limit(more: Option<u64>) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the struct is ours, and the call fills it.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) }, 0);
        limit.rlim_cur = more.map_or(limit.rlim_max, |more| used() + more);
        // SAFETY: the struct is ours, and the call reads it.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    }

    fn out_of_memory<T>(what: &str, result: Result<T, Error>) {
        match result {
            Err(Error::OutOfMemory { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: succeeds, so the limit is too high"),
        }
    }

    #[test]
    #[ignore = "a process of its own: run by `a_process_at_its_limit_lives`"]
    fn in_a_process_of_its_own() {
        let path = PathBuf::from(std::env::var_os("TERN_TEST_MODEL").expect("the test gives it"));
        let load = |path: &Path, no_mmap| {
            Model::open(path, LoadOptions { no_mmap, ..LoadOptions::default() })
        };
        // The threads of a load have stacks, and must start: the system's own start of a thread knows no error.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        for no_mmap in [true, false] {
            limit(Some(8 * MB + threads * 5 * MB / 2));
            out_of_memory("a load", load(&path, no_mmap));
            limit(None);
        }
        let model = load(&path, true).expect("there is room again");
        // More pages than the unused part of a thread's heap, up to 64 MB, has room for.
        let tokens = prompt(16000);
        let mut context = Context::new(&model, options(KvType::F16)).expect("small");
        context.eval(&tokens[..20], EvalOptions::default()).expect("fits");
        let page = context.cache_bytes();
        assert!(page >= MB, "a page is large: {page}");
        let want = bits(&mut context);
        limit(Some(8 * MB));
        out_of_memory("pages", context.eval(&tokens[20..], EvalOptions::default()));
        assert_eq!(context.tokens(0).expect("there").len(), 20, "nothing was appended");
        assert_eq!(context.cache_bytes(), page, "nothing is held for it");
        assert!(bits(&mut context) == want, "the row is as it was");
        let on = |sequence| EvalOptions { sequence, ..EvalOptions::default() };
        context.eval(&tokens[..10], on(1)).expect("a smaller request fits");
        let wide = ContextOptions { n_batch: 4096, ..options(KvType::F16) };
        let mut wide = Context::new(&model, wide).expect("nothing is allocated yet");
        out_of_memory("scratch", wide.eval(&tokens[..1], EvalOptions::default()));
        // Under pressure: what a trim gives back is there for another.
        assert!(context.trim(tern::context::Trim::Cache) > page);
        limit(None);
        wide.eval(&tokens[..20], EvalOptions::default()).expect("there is room again");
        assert!(bits(&mut wide) == want, "the same row");
        context.truncate(0, 19).expect("there");
        context.eval(&tokens[19..200], on(0)).expect("fits");
        let mut fresh = Context::new(&model, options(KvType::F16)).expect("small");
        fresh.eval(&tokens[..200], on(0)).expect("fits");
        assert!(bits(&mut context) == bits(&mut fresh), "it goes on as if nothing had been");
    }
}
