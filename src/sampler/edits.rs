//! Steps that change the scores of a few tokens: penalties, DRY, and the host's own function.
//!
//! An edit works on a whole row of logits while nothing has been dropped yet,
//! and on the list of candidates after that, with the same arithmetic.

use crate::error::{Result, try_zeroed};
use crate::sampler::candidates::Candidates;
use crate::sampler::history::{History, window};
use crate::sampler::math::{self, clean};
use std::{fmt, sync::Arc};

/// Where scores are edited.
pub(super) enum Scores<'a> {
    /// A cleaned logit per token id.
    Row(&'a mut [f32]),
    /// What is left of them.
    List(&'a mut Candidates),
}

impl Scores<'_> {
    /// Applies `f` to the logit of each listed token that is still in the running.
    ///
    /// `edits` is ordered by id, one entry each. `f` cannot forbid a token: a
    /// finite logit stays finite.
    fn each<T: Copy>(&mut self, edits: &[(i32, T)], f: impl Fn(f32, T) -> f32) {
        let f = |logit: &mut f32, with| {
            if *logit > f32::NEG_INFINITY {
                *logit = clean(f(*logit, with)).max(f32::MIN);
            }
        };
        match self {
            Scores::Row(row) => {
                for &(id, with) in edits {
                    if let Some(logit) = usize::try_from(id).ok().and_then(|id| row.get_mut(id)) {
                        f(logit, with);
                    }
                }
            }
            Scores::List(list) => {
                for c in &mut list.items {
                    if let Ok(at) = edits.binary_search_by_key(&c.id, |&(id, _)| id) {
                        f(&mut c.logit, edits[at].1);
                    }
                }
                list.sorted = false;
            }
        }
    }
}

/// Repetition, frequency and presence penalties over the last tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Penalties {
    pub(super) last_n: i32,
    pub(super) repeat: f32,
    pub(super) freq: f32,
    pub(super) present: f32,
}

impl Penalties {
    /// Whether the step does nothing.
    pub(super) fn is_off(&self) -> bool {
        self.last_n == 0 || (self.repeat == 1.0 && self.freq == 0.0 && self.present == 0.0)
    }

    /// Tokens of the window with how often each occurs, by id.
    pub(super) fn counts(&self, history: &History) -> Vec<(i32, u32)> {
        let mut tokens = history.last(window(self.last_n)).to_vec();
        tokens.sort_unstable();
        tokens.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
    }

    pub(super) fn apply(&self, mut scores: Scores<'_>, history: &History) {
        scores.each(&self.counts(history), |logit, count| {
            // Dividing a negative logit would favour the token.
            let logit = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
            logit - (count as f32 * self.freq + self.present)
        });
    }
}

/// "Don't repeat yourself": a penalty that grows with the length of the
/// repetition that a token would continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// Penalty of a repetition of the allowed length; 0 switches the step off.
    pub multiplier: f32,
    /// Growth per token beyond; below 1 switches the step off.
    pub base: f32,
    /// Repetitions shorter than this, in tokens, cost nothing.
    pub allowed_length: i32,
    /// Tokens looked back at; 0 switches the step off, -1 is the whole history.
    pub last_n: i32,
    /// Token sequences across which no repetition is counted, such as a line
    /// feed; one of a single token is never penalised itself.
    pub breakers: Vec<Vec<i32>>,
}

impl Dry {
    /// Whether the step does nothing.
    pub(super) fn is_off(&self) -> bool {
        self.multiplier == 0.0 || self.base < 1.0 || self.last_n == 0
    }

    /// Tokens that would continue a repetition, with the penalty of each, by id.
    pub(super) fn penalties(&self, history: &History) -> Vec<(i32, f32)> {
        // Newest first: a repetition of the end of the text is a repetition of
        // the start of this.
        let text: Vec<i32> = history.last(window(self.last_n)).iter().rev().copied().collect();
        let allowed = self.allowed_length as usize;
        let limit = self.newest_breaker(&text);
        if text.len() <= allowed || limit < allowed {
            return Vec::new();
        }
        let mut found: Vec<(i32, usize)> = prefix_lengths(&text)
            .into_iter()
            .enumerate()
            .skip(1)
            .map(|(k, len)| (text[k - 1], len.min(limit)))
            .filter(|&(id, len)| len >= allowed && !self.breakers.iter().any(|b| b[..] == [id]))
            .collect();
        // The longest repetition of each token comes first and stays.
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        found.dedup_by_key(|&mut (id, _)| id);
        let penalty = |len: usize| {
            let growth = math::powi(f64::from(self.base), (len - allowed) as u32);
            (f64::from(self.multiplier) * growth).min(f64::from(f32::MAX)) as f32
        };
        found.into_iter().map(|(id, len)| (id, penalty(len))).collect()
    }

    /// How many tokens lie after the newest breaker.
    fn newest_breaker(&self, text: &[i32]) -> usize {
        for at in 0..text.len() {
            // A breaker reads forwards in time, so backwards here.
            let matches = |b: &&Vec<i32>| {
                b.len() <= at + 1 && b.iter().zip(text[..=at].iter().rev()).all(|(x, y)| x == y)
            };
            if let Some(longest) = self.breakers.iter().filter(matches).map(Vec::len).max() {
                return at + 1 - longest;
            }
        }
        text.len()
    }

    pub(super) fn apply(&self, mut scores: Scores<'_>, history: &History) {
        scores.each(&self.penalties(history), |logit, penalty| logit - penalty);
    }
}

/// For each k, how many items from k on equal those from the start (the Z-function, linear time).
fn prefix_lengths(text: &[i32]) -> Vec<usize> {
    let mut z = vec![0; text.len()];
    // [left, right) is the match found so far that reaches furthest.
    let (mut left, mut right) = (0, 0);
    for k in 1..text.len() {
        let mut len = if k < right { z[k - left].min(right - k) } else { 0 };
        while k + len < text.len() && text[len] == text[k + len] {
            len += 1;
        }
        if k + len > right {
            (left, right) = (k, k + len);
        }
        z[k] = len;
    }
    z
}

/// A function of the host's that edits a whole row of logits in place.
pub type LogitsFn = dyn Fn(&mut [f32]) + Send + Sync;

/// A step that runs such a function.
///
/// Clones of a sampler share it; what it owns is dropped with the last of them.
#[derive(Clone)]
pub(super) struct Custom(pub(super) Arc<LogitsFn>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl Custom {
    pub(super) fn apply(&self, scores: Scores<'_>) -> Result<()> {
        match scores {
            Scores::Row(row) => {
                (self.0)(row);
                for logit in row {
                    *logit = clean(*logit);
                }
            }
            Scores::List(list) => {
                // What was dropped is shown as minus infinity and stays dropped.
                let mut row =
                    try_zeroed::<f32>(list.vocab_len, "a row of logits for a custom sampler")?;
                row.fill(f32::NEG_INFINITY);
                for c in &list.items {
                    row[c.id as usize] = c.logit;
                }
                (self.0)(&mut row);
                for c in &mut list.items {
                    c.logit = clean(row[c.id as usize]);
                }
                list.sorted = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_lengths_equal_their_definition() {
        let mut rng = fastrand::Rng::with_seed(9);
        for len in [0, 1, 2, 5, 40, 300] {
            let text: Vec<i32> = (0..len).map(|_| rng.i32(0..3)).collect();
            let got = prefix_lengths(&text);
            for k in 1..len {
                let want = text.iter().zip(&text[k..]).take_while(|(a, b)| a == b).count();
                assert_eq!(got[k], want, "{text:?} at {k}");
            }
        }
    }

    #[test]
    fn row_and_list_are_edited_alike() {
        let mut rng = fastrand::Rng::with_seed(10);
        let mut history = History::default();
        for _ in 0..200 {
            history.push(rng.i32(0..60));
        }
        let row: Vec<f32> = (0..64)
            .map(|i| if i == 5 { f32::NEG_INFINITY } else { rng.f32() * 8.0 - 4.0 })
            .collect();
        let penalties = Penalties { last_n: 50, repeat: 1.3, freq: 0.2, present: -0.1 };
        let dry = Dry {
            multiplier: 0.8,
            base: 1.75,
            allowed_length: 1,
            last_n: -1,
            breakers: vec![vec![7], vec![1, 2]],
        };
        let (mut as_row, mut as_list) = (row.clone(), Candidates::from_logits(&row));
        penalties.apply(Scores::Row(&mut as_row), &history);
        dry.apply(Scores::Row(&mut as_row), &history);
        penalties.apply(Scores::List(&mut as_list), &history);
        dry.apply(Scores::List(&mut as_list), &history);
        assert_ne!(as_row, row);
        let list: Vec<f32> = as_list.as_slice().iter().map(|c| c.logit).collect();
        assert_eq!(list, as_row);
    }

    #[test]
    fn penalties_never_forbid_a_token() {
        let mut history = History::default();
        (0..40).for_each(|i| history.push(i % 2));
        let mut row = vec![-3.0f32, -5.0, f32::NEG_INFINITY];
        Dry { multiplier: 1e30, base: 1e30, allowed_length: 0, last_n: -1, breakers: vec![] }
            .apply(Scores::Row(&mut row), &history);
        Penalties { last_n: 64, repeat: f32::MAX, freq: f32::MAX, present: f32::MAX }
            .apply(Scores::Row(&mut row), &history);
        assert_eq!(row, [f32::MIN, f32::MIN, f32::NEG_INFINITY]);
    }
}
