//! Log-probabilities of a row of logits, in the room's own arithmetic.

use crate::error::{Error, Result};
use crate::sampler::candidates::Candidates;
use crate::sampler::math::{self, clean};

/// The logarithm of the sum of `exp` over a row, in f64.
///
/// # Errors
///
/// [`Error::BadModel`] if no logit is a number above minus infinity.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    let max = math::max(logits.iter().copied());
    if max == f32::NEG_INFINITY {
        return Err(Error::bad_model(
            "logits",
            format!("no logit of {} is a number", logits.len()),
        ));
    }
    Ok(f64::from(max) + math::ln(math::sum_exp(logits.iter().copied(), max)))
}

/// Natural logarithm of the softmax probability of token `id`.
///
/// # Errors
///
/// [`Error::BadModel`] as [`log_sum_exp`]; [`Error::InvalidArgument`] for an id outside the row.
pub fn log_softmax_at(logits: &[f32], id: i32) -> Result<f32> {
    let logit = usize::try_from(id).ok().and_then(|id| logits.get(id)).ok_or_else(|| {
        Error::InvalidArgument(format!("token {id} among {}", logits.len()).into())
    })?;
    Ok((f64::from(clean(*logit)) - log_sum_exp(logits)?) as f32)
}

/// The `k` most probable tokens with their log-probabilities, best first.
///
/// Fewer where fewer have a probability above 0; the lower id first among equals.
///
/// # Errors
///
/// [`Error::BadModel`] as [`log_sum_exp`].
pub fn logprobs_top(logits: &[f32], k: usize) -> Result<Vec<(i32, f32)>> {
    let total = log_sum_exp(logits)?;
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut best = Candidates::default();
    best.fill_best(logits, k)?;
    Ok(best.as_slice().iter().map(|c| (c.id, (f64::from(c.logit) - total) as f32)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let row = [0.0, 1.0, f32::NAN, 1.0, f32::NEG_INFINITY, -2.0];
        let sum: f64 = [0.0f64, 1.0, 1.0, -2.0].iter().map(|x| x.exp()).sum();
        let want = |logit: f64| (logit - sum.ln()) as f32;
        let top = logprobs_top(&row, 9).expect("finite row");
        let ids: Vec<i32> = top.iter().map(|t| t.0).collect();
        assert_eq!(ids, [1, 3, 0, 5]);
        for (id, logprob) in top {
            assert!((logprob - want(f64::from(row[id as usize]))).abs() < 1e-6, "{id}: {logprob}");
            assert_eq!(log_softmax_at(&row, id).expect("in range"), logprob);
        }
        assert_eq!(log_softmax_at(&row, 2).expect("in range"), f32::NEG_INFINITY);
        assert!(matches!(log_softmax_at(&row, 6), Err(Error::InvalidArgument(_))));
        assert!(matches!(log_softmax_at(&row, -1), Err(Error::InvalidArgument(_))));
        assert!(matches!(logprobs_top(&[f32::NAN], 1), Err(Error::BadModel { .. })));
        assert!(matches!(logprobs_top(&[], 1), Err(Error::BadModel { .. })));
        assert_eq!(logprobs_top(&row, 0).expect("finite row"), []);
    }
}
