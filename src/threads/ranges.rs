//! Who takes which part of a phase.
//!
//! Each thread goes through a range of its own from front to back, so that what lies together is read by one
//! thread, and what its kernels asked for ahead comes next. Who has nothing left takes from the back of the others.

use super::sync::{AtomicU64, Ordering};

/// A word alone on its cache lines.
#[repr(align(128))]
pub(super) struct Alone<T>(pub T);

/// For each thread, or several where they share a core, the first part that nobody took, in the upper half, and the end of its range.
pub(super) struct Ranges(Vec<Alone<AtomicU64>>);

/// The first of a thread's share of so many parts.
pub(super) fn first(parts: usize, threads: usize, thread: usize) -> usize {
    (parts as u64 * thread as u64 / threads as u64) as usize
}

impl Ranges {
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Alone(AtomicU64::new(0))).collect())
    }

    /// Gives each thread its share of so many parts. Nobody takes any meanwhile.
    ///
    /// # Panics
    ///
    /// If there are more parts than 32 bits count.
    pub(super) fn fill(&self, parts: usize) {
        u32::try_from(parts).expect("parts of a phase");
        let first = |thread| first(parts, self.0.len(), thread) as u64;
        for (thread, range) in self.0.iter().enumerate() {
            range.0.store(first(thread) << 32 | first(thread + 1), Ordering::Relaxed);
        }
    }

    /// How many ranges there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// A part that nobody else took.
    pub(super) fn take(&self, thread: usize) -> Option<usize> {
        let (before, from) = self.0.split_at(thread % self.0.len());
        let (own, after) = from.split_first()?;
        own.take(|front, end| (front, (front + 1, end))).or_else(|| {
            after
                .iter()
                .chain(before)
                .find_map(|other| other.take(|front, end| (end - 1, (front, end - 1))))
        })
    }
}

impl Alone<AtomicU64> {
    /// Takes what `which` says of a range that is not empty: the part, and what stays.
    fn take(&self, which: impl Fn(u64, u64) -> (u64, (u64, u64))) -> Option<usize> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (front, end) = (word >> 32, word & u64::from(u32::MAX));
            if front == end {
                return None;
            }
            let (part, (front, end)) = which(front, end);
            // The phase orders what is written; here only one may win.
            match self.0.compare_exchange_weak(
                word,
                front << 32 | end,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(part as usize),
                Err(now) => word = now,
            }
        }
    }
}
