//! Sets of characters.

/// Code points in ascending ranges, both ends included, that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Chars(Vec<(u32, u32)>);

/// The highest code point.
const LAST: u32 = 0x10_ffff;

impl Chars {
    pub(super) fn new(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Chars(merged)
    }

    pub(super) fn complement(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.0.len() + 1);
        let mut next = 0;
        for &(from, to) in &self.0 {
            if from > next {
                ranges.push((next, from - 1));
            }
            next = to + 1;
        }
        if next <= LAST {
            ranges.push((next, LAST));
        }
        Chars(ranges)
    }

    /// Adds all of `other`; whether that was more than nothing.
    pub(super) fn add(&mut self, other: &Chars) -> bool {
        let mut ranges = self.0.clone();
        ranges.extend_from_slice(&other.0);
        let sum = Chars::new(ranges);
        let grew = sum != *self;
        *self = sum;
        grew
    }

    pub(super) fn intersects(&self, other: &Chars) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.1 < y.0 {
                a.next();
            } else if y.1 < x.0 {
                b.next();
            } else {
                return true;
            }
        }
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// The character, if there is exactly one.
    pub(super) fn single(&self) -> Option<char> {
        match self.0[..] {
            [(from, to)] if from == to => char::from_u32(from),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave() {
        let set = Chars::new(vec![(10, 20), (21, 22), (5, 7), (6, 6)]);
        assert_eq!(set.ranges(), [(5, 7), (10, 22)]);
        assert_eq!(set.complement().ranges(), [(0, 4), (8, 9), (23, LAST)]);
        assert_eq!(set.complement().complement(), set);
        assert!(!set.intersects(&set.complement()));
        assert!(set.intersects(&Chars::new(vec![(22, 30)])));
        assert!(Chars::default().complement().complement().is_empty());
    }
}
