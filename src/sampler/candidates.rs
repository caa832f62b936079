//! The tokens that may still be chosen, with their scores.
//!
//! Logits are cleaned on entry and after every edit ([`math::clean`]), so `>`
//! orders them totally. Among equal logits the lower id ranks first, and every
//! sum runs in the order of the list: both are part of "same seed, same text".

use crate::error::{Error, Result};
use crate::sampler::math::{self, clean};
use std::cmp::Ordering;

/// One token in the running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: i32,
    /// Score; minus infinity is never chosen.
    pub logit: f32,
    /// Probability among the candidates, as the last step that needed it left it.
    pub p: f64,
}

/// The tokens in the running: at first the whole vocabulary by id, then what the steps leave.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub(super) items: Vec<Candidate>,
    /// The list is in rank order.
    pub(super) sorted: bool,
    /// Length of the row of logits they come from.
    pub(super) vocab_len: usize,
}

/// Highest logit first, lower id first among equals.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    // Cleaned logits hold neither NaN nor -0.0, so `total_cmp` is the order of numbers.
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

impl Candidates {
    /// Every token of a row of logits, by id.
    #[must_use]
    pub fn from_logits(logits: &[f32]) -> Self {
        let items = (0i32..)
            .zip(logits)
            .map(|(id, &logit)| Candidate { id, logit: clean(logit), p: 0.0 })
            .collect();
        Candidates { items, sorted: false, vocab_len: logits.len() }
    }

    /// The candidates, in the order that the last step left.
    #[must_use]
    pub fn as_slice(&self) -> &[Candidate] {
        &self.items
    }

    /// Sets every probability: the softmax over the candidates.
    ///
    /// Nothing happens where no candidate has a finite logit.
    pub fn softmax(&mut self) {
        let max = self.max();
        if max == f32::NEG_INFINITY {
            return;
        }
        let sum = math::sum_exp(self.items.iter().map(|c| c.logit), max);
        for c in &mut self.items {
            c.p = math::exp(f64::from(c.logit) - f64::from(max)) / sum;
        }
    }

    /// The largest logit; minus infinity if there is none.
    pub(super) fn max(&self) -> f32 {
        math::max(self.items.iter().map(|c| c.logit))
    }

    /// Replaces the list by the `k` best live tokens of a row, in rank order.
    ///
    /// One pass: a logit that does not beat the k-th best so far is dropped
    /// with one comparison. An equal one has a higher id, so it loses too.
    pub(super) fn fill_best(&mut self, row: &[f32], k: usize) -> Result<()> {
        self.items.clear();
        let room = k.saturating_mul(2).saturating_add(64).min(row.len());
        reserve(&mut self.items, room)?;
        let mut floor = f32::NEG_INFINITY;
        for (id, &logit) in (0i32..).zip(row) {
            // False for NaN.
            if logit > floor {
                if self.items.len() == room {
                    // More than k are held: room < row.len() here, or the pass would have ended.
                    self.items.select_nth_unstable_by(k - 1, by_rank);
                    self.items.truncate(k);
                    floor = self.items[k - 1].logit;
                    if clean(logit) <= floor {
                        continue;
                    }
                }
                self.items.push(Candidate { id, logit: clean(logit), p: 0.0 });
            }
        }
        self.sorted = false;
        self.vocab_len = row.len();
        self.keep_best(k);
        Ok(())
    }

    /// Replaces the list by every live token of a row, by id.
    pub(super) fn fill_live(&mut self, row: &[f32]) -> Result<()> {
        self.items.clear();
        reserve(&mut self.items, row.len())?;
        let all =
            (0i32..).zip(row).map(|(id, &logit)| Candidate { id, logit: clean(logit), p: 0.0 });
        self.items.extend(all.filter(|c| c.logit > f32::NEG_INFINITY));
        self.sorted = false;
        self.vocab_len = row.len();
        Ok(())
    }

    /// Replaces the list by the tokens given, by id.
    pub(super) fn fill_given(&mut self, given: &[(i32, f32)], vocab_len: usize) -> Result<()> {
        self.items.clear();
        reserve(&mut self.items, given.len())?;
        self.items.extend(given.iter().map(|&(id, logit)| Candidate {
            id,
            logit: clean(logit),
            p: 0.0,
        }));
        self.items.sort_unstable_by_key(|c| c.id);
        self.items.dedup_by_key(|c| c.id);
        self.sorted = false;
        self.vocab_len = vocab_len;
        Ok(())
    }

    /// Drops what can never be chosen.
    pub(super) fn drop_dead(&mut self) {
        self.items.retain(|c| c.logit > f32::NEG_INFINITY);
    }

    /// Puts the whole list in rank order.
    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.items.sort_unstable_by(by_rank);
            self.sorted = true;
        }
    }

    /// Puts the `k` best first, in rank order; the rest follows in no order.
    pub(super) fn sort_best(&mut self, k: usize) {
        if self.sorted {
            return;
        }
        if k < self.items.len() {
            if k > 0 {
                self.items.select_nth_unstable_by(k - 1, by_rank);
                self.items[..k].sort_unstable_by(by_rank);
            }
        } else {
            self.sort();
        }
    }

    /// Keeps the `k` best, in rank order.
    pub(super) fn keep_best(&mut self, k: usize) {
        self.sort_best(k);
        self.items.truncate(k);
        self.sorted = true;
    }

    /// Index of the first of the best; `None` for an empty list.
    pub(super) fn best(&self) -> Option<usize> {
        (0..self.items.len()).min_by(|&a, &b| by_rank(&self.items[a], &self.items[b]))
    }

    /// The candidate at which the running sum of probabilities passes `unit`, in [0, 1).
    pub(super) fn at(&self, unit: f64) -> Option<Candidate> {
        let mut sum = 0.0;
        for c in &self.items {
            sum += c.p;
            if sum > unit && c.p > 0.0 {
                return Some(*c);
            }
        }
        // The sum may end a rounding short of 1.
        self.items.iter().rev().find(|c| c.p > 0.0).copied()
    }
}

/// Room for `len` more items, or [`Error::OutOfMemory`].
fn reserve(items: &mut Vec<Candidate>, len: usize) -> Result<()> {
    items.try_reserve(len).map_err(|_| Error::OutOfMemory {
        what: "the sampler's candidates",
        bytes: (len as u64).saturating_mul(size_of::<Candidate>() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(c: &Candidates) -> Vec<i32> {
        c.as_slice().iter().map(|c| c.id).collect()
    }

    #[test]
    fn best_of_a_row_equals_a_full_sort() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..400 {
            let len = [1, 2, 63, 64, 65, 200, 1000, 5000][round % 8];
            // Few distinct values, so that ties are common, and what must not be chosen.
            let row: Vec<f32> = (0..len)
                .map(|_| match rng.u32(..40) {
                    0 => f32::NAN,
                    1 => f32::NEG_INFINITY,
                    2 => f32::INFINITY,
                    3 => -0.0,
                    n => (n as f32 - 20.0) * if round % 3 == 0 { rng.f32() } else { 1.0 },
                })
                .collect();
            let mut want = Candidates::from_logits(&row);
            want.drop_dead();
            want.sort();
            for k in [1, 2, 40, len, len + 7] {
                let mut got = Candidates::default();
                got.fill_best(&row, k).expect("memory");
                let want = &want.as_slice()[..k.min(want.as_slice().len())];
                assert_eq!(got.as_slice(), want, "len {len}, k {k}, round {round}");
            }
        }
    }

    #[test]
    fn equal_logits_rank_by_id() {
        let mut c = Candidates::from_logits(&[1.0, 2.0, 2.0, -0.0, 0.0, f32::NAN, 2.0]);
        c.sort();
        assert_eq!(ids(&c), [1, 2, 6, 0, 3, 4, 5]);
        assert_eq!(c.best(), Some(0));
    }

    #[test]
    fn softmax_sums_to_one_and_survives_extremes() {
        for row in [
            vec![f32::MAX, f32::INFINITY, -3.0],
            vec![-1e30, 1e30],
            vec![f32::MIN, f32::MIN],
            vec![0.0; 1000],
        ] {
            let mut c = Candidates::from_logits(&row);
            c.softmax();
            let sum: f64 = c.as_slice().iter().map(|c| c.p).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{row:?}: {sum}");
        }
        let mut dead = Candidates::from_logits(&[f32::NAN, f32::NEG_INFINITY]);
        dead.softmax();
        assert!(dead.as_slice().iter().all(|c| c.p == 0.0));
        assert_eq!(dead.at(0.5), None);
    }

    #[test]
    fn running_sum_finds_each_candidate() {
        let mut c = Candidates::from_logits(&[0.0, f32::NEG_INFINITY, 0.0, 0.0]);
        c.softmax();
        let pick = |unit| c.at(unit).map(|c| c.id);
        assert_eq!(
            [pick(0.0), pick(0.34), pick(0.67), pick(1.0 - f64::EPSILON / 2.0)],
            [Some(0), Some(2), Some(3), Some(3)]
        );
    }
}
