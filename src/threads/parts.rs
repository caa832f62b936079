//! How memory is cut among threads.

use std::marker::PhantomData;

/// Something that falls into disjoint parts.
pub trait Parts: Sync {
    /// One part.
    type Part;
    /// How many there are.
    fn parts(&self) -> usize;
    /// The `i`-th part.
    ///
    /// # Safety
    ///
    /// `i` is below [`parts`](Self::parts), and no other value made from the same `i` is alive.
    unsafe fn part(&self, i: usize) -> Self::Part;
}

/// A slice cut into parts of one length; the last may be shorter.
pub struct Cut<'a, T> {
    start: *mut T,
    len: usize,
    part: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: a part is an exclusive borrow, and `part`'s contract gives each to one thread.
unsafe impl<T: Send> Sync for Cut<'_, T> {}

impl<'a, T> Cut<'a, T> {
    /// Cuts `slice` into parts of `part` values.
    #[must_use]
    pub fn new(slice: &'a mut [T], part: usize) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), part: part.max(1), of: PhantomData }
    }
}

impl Cut<'_, ()> {
    /// No parts: a placeholder for jobs that write one thing.
    #[must_use]
    pub fn none() -> Nothing {
        Nothing
    }
}

impl<'a, T: Send> Parts for Cut<'a, T> {
    type Part = &'a mut [T];

    fn parts(&self) -> usize {
        self.len.div_ceil(self.part)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let first = i * self.part;
        // SAFETY: the caller keeps `i` below `parts`, so `first` is within the slice.
        let start = unsafe { self.start.add(first) };
        // SAFETY: the range lies in the slice that is borrowed for 'a, and the caller has no other part `i`.
        unsafe { std::slice::from_raw_parts_mut(start, self.part.min(self.len - first)) }
    }
}

/// Slices of one length, cut alike: part `i` is part `i / n` of slice `i % n`, of `n` slices.
pub struct CutEach<'a, T>(Vec<Cut<'a, T>>);

impl<'a, T> CutEach<'a, T> {
    /// Cuts each of some slices into parts of `part` values.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    #[must_use]
    pub fn new(slices: impl IntoIterator<Item = &'a mut [T]>, part: usize) -> Self {
        let cuts: Vec<_> = slices.into_iter().map(|slice| Cut::new(slice, part)).collect();
        assert!(cuts.windows(2).all(|two| two[0].len == two[1].len), "slices of one length");
        Self(cuts)
    }
}

impl<'a, T: Send> Parts for CutEach<'a, T> {
    type Part = &'a mut [T];

    fn parts(&self) -> usize {
        self.0.iter().map(Parts::parts).sum()
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let n = self.0.len();
        // SAFETY: the slices have as many parts each, so `i / n` is below that, and no other `i` makes the same part.
        unsafe { self.0[i % n].part(i / n) }
    }
}

/// A slice cut at given places: part `i` is `bounds[i] .. bounds[i + 1]`.
pub struct CutAt<'a, T> {
    start: *mut T,
    bounds: &'a [usize],
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `Cut`.
unsafe impl<T: Send> Sync for CutAt<'_, T> {}

impl<'a, T> CutAt<'a, T> {
    /// Cuts `slice` at `bounds`.
    ///
    /// # Panics
    ///
    /// If the bounds fall, or leave the slice.
    #[must_use]
    pub fn new(slice: &'a mut [T], bounds: &'a [usize]) -> Self {
        assert!(bounds.is_sorted(), "bounds must rise");
        assert!(
            bounds.last().is_none_or(|last| *last <= slice.len()),
            "bounds must lie in the slice"
        );
        Self { start: slice.as_mut_ptr(), bounds, of: PhantomData }
    }
}

impl<'a, T: Send> Parts for CutAt<'a, T> {
    type Part = &'a mut [T];

    fn parts(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let (first, end) = (self.bounds[i], self.bounds[i + 1]);
        // SAFETY: the bounds were checked against the slice.
        let start = unsafe { self.start.add(first) };
        // SAFETY: rising bounds make parts disjoint, and the caller has no other part `i`.
        unsafe { std::slice::from_raw_parts_mut(start, end - first) }
    }
}

impl<A: Parts, B: Parts> Parts for (A, B) {
    type Part = (A::Part, B::Part);

    fn parts(&self) -> usize {
        self.0.parts().min(self.1.parts())
    }

    unsafe fn part(&self, i: usize) -> Self::Part {
        // SAFETY: the caller's contract for `i` is each part's.
        let a = unsafe { self.0.part(i) };
        // SAFETY: likewise.
        let b = unsafe { self.1.part(i) };
        (a, b)
    }
}

/// No parts at all.
pub struct Nothing;

impl Parts for Nothing {
    type Part = ();

    fn parts(&self) -> usize {
        usize::MAX
    }

    unsafe fn part(&self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cut_alike_give_their_parts_in_turn() {
        let (mut a, mut b) = ([0u8; 6], [0u8; 6]);
        let parts = CutEach::new([&mut a[..], &mut b], 2);
        assert_eq!(parts.parts(), 6);
        for i in 0..6 {
            // SAFETY: below the number of parts, and each once.
            unsafe { parts.part(i) }.fill(i as u8);
        }
        assert_eq!((a, b), ([0, 0, 2, 2, 4, 4], [1, 1, 3, 3, 5, 5]));
    }
}
