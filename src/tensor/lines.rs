//! A vector that begins at a cache line: a wide load that crosses lines takes the time of two.

use crate::error::{Result, try_zeroed};
use std::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// A fixed number of values, the first at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct Lines<T> {
    all: Vec<T>,
    skip: usize,
    len: usize,
}

impl<T: Copy + Default> Lines<T> {
    /// `len` zeros; `what` names them if there is no memory.
    pub(crate) fn zeroed(len: usize, what: &'static str) -> Result<Self> {
        if len == 0 {
            return Ok(Self { all: Vec::new(), skip: 0, len });
        }
        let spare = LINE / size_of::<T>();
        let all: Vec<T> = try_zeroed(len.saturating_add(spare), what)?;
        // The vector never grows, so that it stays where it is.
        let skip = all.as_ptr().align_offset(LINE).min(spare);
        Ok(Self { all, skip, len })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<T>()
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[self.skip..self.skip + self.len]
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.skip..self.skip + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_at_a_line() {
        for len in [0, 1, 15, 16, 1000] {
            let mut lines = Lines::<f32>::zeroed(len, "a test").expect("memory for a test");
            assert_eq!(lines.len(), len);
            assert!(len == 0 || lines.as_ptr().addr().is_multiple_of(LINE), "{len}");
            lines.fill(1.0);
            assert_eq!(lines.iter().sum::<f32>(), len as f32);
            assert!(lines.bytes() >= 4 * len && lines.bytes() <= 4 * len + LINE);
        }
        let error = Lines::<u64>::zeroed(usize::MAX, "a test").expect_err("more than there is");
        assert!(error.to_string().contains("a test"), "{error}");
    }
}
