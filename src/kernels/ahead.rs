//! Asking for scattered lines before they are needed.
//!
//! What is scattered finds no help from the CPU's own prefetchers, and the first cache waits for too few
//! lines at once to hide the memory's latency: these go to the second cache, well ahead.

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
#[inline]
pub(super) fn prefetch<T>(at: *const T, bytes: usize) {
    crate::threads::prefetch(at.addr().wrapping_add(bytes));
}
