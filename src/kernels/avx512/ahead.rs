//! Asking for scattered lines before they are needed.
//!
//! What is scattered finds no help from the CPU's own prefetchers, and the first cache waits for too few
//! lines at once to hide the memory's latency: these go to the second cache, well ahead.

use std::arch::x86_64::*;

/// Lines between the one at work and the one that is asked for. On a busy Zen 4, 64 and more were alike.
pub(super) const AHEAD: usize = 128;

/// The lines of live rows, in order; behind the last one, the rows that follow it in memory.
pub(super) struct Ahead<'a> {
    rows: *const u8,
    /// Bytes of a row.
    bytes: usize,
    live: &'a [u32],
    /// Which of `live`, and where in it.
    row: usize,
    at: usize,
}

impl<'a> Ahead<'a> {
    /// Starts [`AHEAD`] lines behind the first one.
    pub(super) fn new(rows: &[[u8; 64]], lines: usize, live: &'a [u32]) -> Self {
        Self { rows: rows.as_ptr().cast(), bytes: lines * 64, live, row: AHEAD / lines, at: 0 }
    }

    /// Asks for the next line.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn next(&mut self) {
        let row = match (self.live.get(self.row), self.live) {
            (Some(row), _) => *row as usize,
            (None, [.., last]) => *last as usize + self.row - self.live.len() + 1,
            (None, []) => return,
        };
        prefetch(self.rows, row * self.bytes + self.at);
        self.at += 64;
        if self.at == self.bytes {
            (self.row, self.at) = (self.row + 1, 0);
        }
    }
}

/// Asks the second cache for the line `bytes` after `at`.
#[target_feature(enable = "avx512f")]
#[allow(unused_unsafe)] // safe from Rust 1.94 on
pub(super) fn prefetch<T>(at: *const T, bytes: usize) {
    // SAFETY: a prefetch never faults, whatever its address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_byte_add(bytes).cast()) }
}
