//! What this machine can do: bytes read from memory and products of small integers, each second.
//!
//! A figure of speed means little without these two beside it, taken in the same
//! minute: memory of a shared machine runs at half its speed for minutes on end.
//! Nothing here knows the library.
#![allow(dead_code)] // the benches use a part

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// Bytes read each second by `threads` threads, from a buffer of `bytes` that no cache holds: the best of `rounds`.
pub fn read_bandwidth(threads: usize, bytes: usize, rounds: usize) -> f64 {
    Memory::new(bytes).read_bandwidth(threads, rounds)
}

/// Memory to read from, held so that probes taken between two runs cost no page faults.
pub struct Memory(memmap2::MmapMut);

impl Memory {
    /// A buffer of `bytes`, every page of it touched, in huge pages where the system has them: the memory's speed is
    /// asked for, not that of address translation.
    pub fn new(bytes: usize) -> Self {
        let mut memory = memmap2::MmapMut::map_anon(bytes).expect("memory for a probe");
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        memory.fill(1);
        Self(memory)
    }

    /// Bytes read each second by `threads` threads: the best of `rounds`.
    ///
    /// Each thread reads one contiguous part from front to back, asking for lines ahead of itself.
    pub fn read_bandwidth(&self, threads: usize, rounds: usize) -> f64 {
        // SAFETY: any eight bytes are a number, and a mapping begins at a page.
        let (_, all, _) = unsafe { self.0.align_to::<u64>() };
        let words = all.len() / threads * threads;
        let parts: Vec<&[u64]> = all.chunks_exact(words / threads).collect();
        let seconds = together(threads, rounds, |thread| {
            black_box(read(parts[thread]));
        });
        (words * 8) as f64 / seconds
    }
}

/// Eight-bit products each second by `threads` threads that touch no memory, with the widest
/// instruction this CPU has, and its name.
pub fn dot_peak(threads: usize, rounds: usize) -> (f64, &'static str) {
    let (name, macs, run) = dot_loop();
    let seconds = together(threads, rounds, |_| run(DOT_ROUNDS));
    (threads as f64 * (macs * DOT_ROUNDS) as f64 / seconds, name)
}

/// About 20 ms.
const DOT_ROUNDS: usize = 4_000_000;

/// Runs `work` on all threads at once, `rounds` times, and gives the shortest time from first start to last end.
fn together(threads: usize, rounds: usize, work: impl Fn(usize) + Sync) -> f64 {
    let start = Barrier::new(threads);
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    let (start, work) = (&start, &work);
                    scope.spawn(move || {
                        start.wait();
                        let from = Instant::now();
                        work(thread);
                        (from, Instant::now())
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("a probe does not panic"))
                .collect()
        });
        let from = spans.iter().map(|span| span.0).min().expect("at least one thread");
        let to = spans.iter().map(|span| span.1).max().expect("at least one thread");
        best = best.min(to - from);
    }
    best.as_secs_f64()
}

/// A sum of all words.
fn read(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is detected.
            return unsafe { x86::read_avx512(words) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature is detected.
            return unsafe { x86::read_avx2(words) };
        }
    }
    sum(words, |_| ())
}

/// Adds words, four lines at a time; `ahead` is told where each stretch lies.
#[inline(always)]
fn sum(words: &[u64], ahead: impl Fn(*const u64)) -> u64 {
    let mut lanes = [0u64; 32];
    let (stretches, _) = words.as_chunks::<32>();
    for words in stretches {
        for line in 0..4 {
            ahead(words.as_ptr().wrapping_add(8 * line));
        }
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// The name, products a round, and loop of the widest product this CPU has.
#[cfg(target_arch = "x86_64")]
fn dot_loop() -> (&'static str, usize, fn(usize)) {
    if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f") {
        // SAFETY: the features are detected.
        return ("avx512vnni", 24 * 64, |rounds| unsafe { x86::dots_avx512(rounds) });
    }
    if is_x86_feature_detected!("avxvnni") {
        // SAFETY: the feature is detected.
        return ("avxvnni", 12 * 32, |rounds| unsafe { x86::dots_avxvnni(rounds) });
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature is detected.
        return ("avx2", 12 * 32, |rounds| unsafe { x86::dots_avx2(rounds) });
    }
    ("none", 0, |_| ())
}

/// The name, products a round, and loop of the widest product this CPU has.
#[cfg(target_arch = "aarch64")]
fn dot_loop() -> (&'static str, usize, fn(usize)) {
    if std::arch::is_aarch64_feature_detected!("i8mm") {
        // SAFETY: the feature is detected.
        return ("i8mm", 12 * 32, |rounds| unsafe { arm::dots_i8mm(rounds) });
    }
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        // SAFETY: the feature is detected.
        return ("dotprod", 12 * 16, |rounds| unsafe { arm::dots_dotprod(rounds) });
    }
    ("none", 0, |_| ())
}

/// No product this program knows.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn dot_loop() -> (&'static str, usize, fn(usize)) {
    ("none", 0, |_| ())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, hint::black_box};

    /// Bytes ahead of the read that lines are asked for.
    const AHEAD: usize = 6 << 10;

    #[allow(unused_unsafe)] // safe from Rust 1.94 on
    #[target_feature(enable = "avx2")]
    fn prefetch(at: *const u64) {
        // SAFETY: a prefetch never faults, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(AHEAD).cast()) }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn read_avx512(words: &[u64]) -> u64 {
        super::sum(words, |at| prefetch(at))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn read_avx2(words: &[u64]) -> u64 {
        super::sum(words, |at| prefetch(at))
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn dots_avx512(rounds: usize) {
        let (a, b) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(2)));
        let mut acc = [_mm512_setzero_si512(); 24];
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm512_dpbusd_epi32(*acc, a, b);
            }
        }
        black_box(acc);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn dots_avxvnni(rounds: usize) {
        let (a, b) = (black_box(_mm256_set1_epi8(1)), black_box(_mm256_set1_epi8(2)));
        let mut acc = [_mm256_setzero_si256(); 12];
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm256_dpbusd_avx_epi32(*acc, a, b);
            }
        }
        black_box(acc);
    }

    /// `vpmaddubsw` and the addition it needs.
    #[target_feature(enable = "avx2")]
    pub(super) fn dots_avx2(rounds: usize) {
        let mut acc = [_mm256_setzero_si256(); 12];
        let b = black_box(_mm256_set1_epi8(2));
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm256_add_epi16(*acc, _mm256_maddubs_epi16(*acc, b));
            }
        }
        black_box(acc);
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::asm;

    /// Twelve chains of `sdot`: the intrinsic is not in stable Rust.
    #[target_feature(enable = "dotprod")]
    pub(super) fn dots_dotprod(rounds: usize) {
        for _ in 0..rounds {
            // SAFETY: writes only the registers it names.
            unsafe {
                asm!(
                    "sdot v0.4s, v16.16b, v17.16b", "sdot v1.4s, v16.16b, v17.16b",
                    "sdot v2.4s, v16.16b, v17.16b", "sdot v3.4s, v16.16b, v17.16b",
                    "sdot v4.4s, v16.16b, v17.16b", "sdot v5.4s, v16.16b, v17.16b",
                    "sdot v18.4s, v16.16b, v17.16b", "sdot v19.4s, v16.16b, v17.16b",
                    "sdot v20.4s, v16.16b, v17.16b", "sdot v21.4s, v16.16b, v17.16b",
                    "sdot v22.4s, v16.16b, v17.16b", "sdot v23.4s, v16.16b, v17.16b",
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
                    out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v16") _, out("v17") _, options(nomem, nostack),
                );
            }
        }
    }

    /// Twelve chains of `smmla`.
    #[target_feature(enable = "i8mm")]
    pub(super) fn dots_i8mm(rounds: usize) {
        for _ in 0..rounds {
            // SAFETY: writes only the registers it names.
            unsafe {
                asm!(
                    "smmla v0.4s, v16.16b, v17.16b", "smmla v1.4s, v16.16b, v17.16b",
                    "smmla v2.4s, v16.16b, v17.16b", "smmla v3.4s, v16.16b, v17.16b",
                    "smmla v4.4s, v16.16b, v17.16b", "smmla v5.4s, v16.16b, v17.16b",
                    "smmla v18.4s, v16.16b, v17.16b", "smmla v19.4s, v16.16b, v17.16b",
                    "smmla v20.4s, v16.16b, v17.16b", "smmla v21.4s, v16.16b, v17.16b",
                    "smmla v22.4s, v16.16b, v17.16b", "smmla v23.4s, v16.16b, v17.16b",
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
                    out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v16") _, out("v17") _, options(nomem, nostack),
                );
            }
        }
    }
}
