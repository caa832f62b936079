//! The tokens a sampler accepted, newest last.

/// How far back any step can look: the longest context of the models this
/// library runs. Bounds the memory of a sampler that lives for ever.
pub(super) const HISTORY_MAX: usize = 1 << 17;

/// The last [`HISTORY_MAX`] accepted tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History(Vec<i32>);

impl History {
    pub(super) fn push(&mut self, token: i32) {
        // Trimmed by halves, so that a push costs a constant on average.
        if self.0.len() >= 2 * HISTORY_MAX {
            self.0.drain(..HISTORY_MAX);
        }
        self.0.push(token);
    }

    /// The newest `n` tokens, or all there are; `None`: all.
    pub(super) fn last(&self, n: Option<usize>) -> &[i32] {
        let n = n.unwrap_or(HISTORY_MAX).min(HISTORY_MAX).min(self.0.len());
        &self.0[self.0.len() - n..]
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// `last_n` of the interface: -1 is the whole history, 0 none.
pub(super) fn window(last_n: i32) -> Option<usize> {
    usize::try_from(last_n).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept() {
        let mut history = History::default();
        assert!(history.last(None).is_empty());
        for token in 0..(5 * HISTORY_MAX as i32 / 2) {
            history.push(token);
        }
        let newest = 5 * HISTORY_MAX as i32 / 2 - 1;
        assert_eq!(history.last(Some(3)), [newest - 2, newest - 1, newest]);
        assert_eq!(history.last(None).len(), HISTORY_MAX);
        assert!(history.last(Some(0)).is_empty());
        assert_eq!(history.last(window(-1)).first(), Some(&(newest - HISTORY_MAX as i32 + 1)));
    }
}
