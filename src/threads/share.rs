//! How long a part of the work is.

use super::Team;

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
    use super::share;

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
