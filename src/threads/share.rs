//! How long a part of the work is.

use super::{Team, ranges::first};

impl Team<'_> {
    /// Units of one part, of `units` that take alike.
    ///
    /// Parts of `fewest` units and more, four to eight a thread where there are so many: long enough to be one stream of
    /// memory, short enough that an uneven core does not hold up the rest. Of such shares it is the one that equal
    /// cores finish first.
    #[must_use]
    pub fn share(&self, units: usize, fewest: usize) -> usize {
        share(units, self.at_once(), fewest)
    }

    /// Where parts of [`share`](Self::share) units begin, and the end of the last.
    #[must_use]
    pub fn cuts(&self, units: usize, fewest: usize) -> Vec<usize> {
        (0..units).step_by(self.share(units, fewest)).chain([units]).collect()
    }

    /// Where the parts of a stream of memory begin, and its end: for each thread a half of its share, a quarter and two eighths.
    ///
    /// The first is one long stream; who has nothing left finds short parts at the ends of the others. Some may be empty.
    #[must_use]
    pub fn stream(&self, units: usize) -> Vec<usize> {
        if self.takes_in_order() {
            return self.cuts(units, STREAM);
        }
        stream(units, self.at_once())
    }
}

/// Units of a part that is no end of a stream.
const STREAM: usize = 32;

fn stream(units: usize, threads: usize) -> Vec<usize> {
    if threads == 1 {
        return vec![0, units];
    }
    let ends = (0..threads).flat_map(|thread| {
        let (start, end) = (first(units, threads, thread), first(units, threads, thread + 1));
        let eighth = |n: usize| start + ((end - start) * n).div_ceil(8);
        [eighth(4), eighth(6), eighth(7), end]
    });
    std::iter::once(0).chain(ends).collect()
}

fn share(units: usize, threads: usize, fewest: usize) -> usize {
    if threads == 1 {
        return units.max(1);
    }
    let least = units.div_ceil(8 * threads).min(fewest).max(1);
    let most = units.div_ceil(4 * threads).max(least);
    let longest = |share: &usize| units.div_ceil(*share).div_ceil(threads) * share;
    (least..=most).min_by_key(longest).expect("least is not above most")
}

#[cfg(test)]
mod tests {
    use super::{first, share, stream};

    #[test]
    fn parts_end_together() {
        // The layers of 2B4T, in panels of 32 rows and of 256.
        for (units, threads, fewest, want) in [
            (80, 2, 32, 5),
            (216, 2, 32, 18),
            (120, 2, 32, 10),
            (10, 2, 32, 1),
            (80, 2, 4, 4),
            (80, 2, 1, 1),
            (80, 1, 1, 80),
            (1, 4, 1, 1),
            (0, 4, 1, 1),
            (0, 1, 1, 1),
        ] {
            assert_eq!(share(units, threads, fewest), want, "{units}, {threads}, {fewest}");
        }
    }

    #[test]
    fn parts_of_a_stream_shrink_to_the_ends_of_equal_shares() {
        assert_eq!(stream(216, 2), [0, 54, 81, 95, 108, 162, 189, 203, 216]);
        assert_eq!(stream(10, 2), [0, 3, 4, 5, 5, 8, 9, 10, 10]);
        assert_eq!(stream(7, 1), [0, 7]);
        assert_eq!(stream(0, 2), [0; 9]);
        for units in 0..300 {
            for threads in 2..9 {
                let bounds = stream(units, threads);
                assert!(
                    bounds.is_sorted() && bounds.len() == 4 * threads + 1,
                    "{units}, {threads}"
                );
                for thread in 0..threads {
                    let start = bounds[first(bounds.len() - 1, threads, thread)];
                    assert_eq!(start, first(units, threads, thread), "{units}, {threads}");
                }
            }
        }
    }

    #[test]
    fn no_share_is_longer_than_it_need_be() {
        for units in 1..300 {
            for threads in 1..9 {
                for fewest in [1, 3, 32] {
                    let share = share(units, threads, fewest);
                    let longest = units.div_ceil(share).div_ceil(threads) * share;
                    assert!(
                        share <= units.div_ceil(threads).max(1),
                        "{units}, {threads}, {fewest}"
                    );
                    // A quarter of a thread's part too much at most.
                    let even = units.div_ceil(threads);
                    assert!(4 * longest <= 5 * even + 4, "{units}, {threads}, {fewest}: {longest}");
                }
            }
        }
    }
}
