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

/// A slice cut at given places: part `i` is `bounds[i] .. bounds[i + 1]`, in units of so many values.
pub struct CutAt<'a, T> {
    start: *mut T,
    bounds: &'a [usize],
    unit: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `Cut`.
unsafe impl<T: Send> Sync for CutAt<'_, T> {}

impl<'a, T> CutAt<'a, T> {
    /// Cuts `slice` at `bounds`, counted in units.
    ///
    /// # Panics
    ///
    /// If the bounds fall, or leave the slice.
    #[must_use]
    pub fn new(slice: &'a mut [T], bounds: &'a [usize], unit: usize) -> Self {
        assert!(bounds.is_sorted(), "bounds must rise");
        assert!(
            bounds
                .last()
                .is_none_or(|last| last.checked_mul(unit).is_some_and(|end| end <= slice.len())),
            "bounds must lie in the slice"
        );
        Self { start: slice.as_mut_ptr(), bounds, unit, of: PhantomData }
    }
}

impl<'a, T: Send> Parts for CutAt<'a, T> {
    type Part = &'a mut [T];

    fn parts(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let (first, end) = (self.bounds[i] * self.unit, self.bounds[i + 1] * self.unit);
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
