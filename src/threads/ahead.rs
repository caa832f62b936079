//! Asking for memory while a thread waits.
//!
//! Weights are read once and in order, so what a thread reads next is known long before: who waits for the others,
//! or for a step that the leader takes alone, asks the second cache for it meanwhile.

use super::{
    ranges::Alone,
    sync::{AtomicU64, Ordering},
};

/// Bytes that are asked for at a time.
pub(super) const LINE: usize = 64;
/// Lines between two looks at the phase.
pub(super) const LINES: u64 = 4;
/// The most that one thread asks for: a part of the second cache.
pub(super) const MOST: usize = 256 << 10;
/// A word is the number of the next line, and in the lower bits how many there are.
const COUNT_BITS: u32 = (MOST / LINE).ilog2() + 1;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Pieces of memory, in the order in which they are asked for.
pub type Pieces<'a> = [&'a [u8]; PIECES];
const PIECES: usize = 3;

/// For each thread the lines that it reads next and has not asked for.
pub(super) struct Ahead(Vec<Alone<[AtomicU64; PIECES]>>);

impl Ahead {
    /// For so many threads. None of them asks where they are more than the cores: somebody else has use for the core of one that waits.
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Alone([const { AtomicU64::new(0) }; PIECES])).collect())
    }

    /// Threads that ask.
    pub(super) fn threads(&self) -> usize {
        self.0.len()
    }

    /// Says what a thread reads next. The bytes need not stay: nothing is read here.
    pub(super) fn set(&self, thread: usize, pieces: Pieces<'_>) {
        for (word, bytes) in self.0[thread].0.iter().zip(pieces) {
            let count = bytes.len().min(MOST).div_ceil(LINE) as u64;
            let first = (bytes.as_ptr().addr() / LINE) as u64;
            word.store(first << COUNT_BITS | count, Ordering::Relaxed);
        }
    }

    /// Asks for a few of a thread's lines; false if there are none.
    pub(super) fn ask(&self, thread: usize) -> bool {
        let words = self.0.get(thread).map_or(&[][..], |words| &words.0);
        let mut words = words.iter().map(|word| (word, word.load(Ordering::Relaxed)));
        let Some((word, now)) = words.find(|(_, now)| now & COUNT > 0) else { return false };
        let first = now >> COUNT_BITS;
        let lines = LINES.min(now & COUNT);
        let next = (first + lines) << COUNT_BITS | ((now & COUNT) - lines);
        // The leader may have said something else meanwhile: that stays.
        let _ = word.compare_exchange(now, next, Ordering::Relaxed, Ordering::Relaxed);
        (first..first + lines).for_each(|line| prefetch(line as usize * LINE));
        true
    }
}

/// Asks the second cache for all of some values.
pub(crate) fn ask<T>(values: &[T]) {
    let first = values.as_ptr().addr() / LINE * LINE;
    let end = values.as_ptr().addr() + size_of_val(values);
    (first..end).step_by(LINE).for_each(prefetch);
}

/// Bytes of a stream that come before what its kernel asks for ahead.
const START: usize = 8 << 10;

/// Asks for where a stream begins that is read soon.
pub(crate) fn ask_start(stream: &[u8]) {
    ask(&stream[..stream.len().min(START)]);
}

/// Asks the second cache for the line at an address.
#[inline]
#[allow(unused_unsafe)] // safe on x86-64 from Rust 1.94 on
pub(crate) fn prefetch(at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(at)) }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: likewise.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
