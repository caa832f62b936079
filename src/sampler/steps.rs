//! The steps of a chain: what each does to the candidates.
//!
//! Names and meanings are those of llama.h's samplers. Where llama.h leaves a
//! case to chance (ties, NaN, sums in f32 of unstated order) the rule is the
//! room's: rank order, cleaned logits, f64 sums in list order.

use crate::error::Result;
use crate::sampler::candidates::Candidates;
use crate::sampler::edits::{Custom, Dry, Penalties, Scores};
use crate::sampler::history::History;
use crate::sampler::{math, rng::Rng};

/// One step of a chain.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Penalties(Penalties),
    Dry(Dry),
    Custom(Custom),
    TopK { k: i32 },
    TopP { p: f32, min_keep: usize },
    MinP { p: f32, min_keep: usize },
    Typical { p: f32, min_keep: usize },
    TopNSigma { n: f32 },
    Xtc { probability: f32, threshold: f32, min_keep: usize },
    Temp { t: f32 },
    TempDynamic { t: f32, range: f32, exponent: f32 },
    MirostatV2(Mirostat),
}

/// Mirostat 2: holds the surprise of each choice near `tau` bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mirostat {
    pub(super) tau: f32,
    pub(super) eta: f32,
    /// Most bits of surprise that a candidate may have; learnt from choice to choice.
    pub(super) mu: f64,
}

impl Mirostat {
    pub(super) fn new(tau: f32, eta: f32) -> Self {
        Mirostat { tau, eta, mu: 2.0 * f64::from(tau) }
    }

    /// Learns from the surprise, in bits, of the token that was chosen.
    pub(super) fn learn(&mut self, surprise: f64) {
        self.mu -= f64::from(self.eta) * (surprise - f64::from(self.tau));
    }

    fn apply(&self, list: &mut Candidates) {
        list.sort();
        list.softmax();
        let keep = list.items.iter().take_while(|c| -math::log2(c.p) <= self.mu).count();
        list.items.truncate(keep.max(1));
    }
}

impl Step {
    /// Whether the step only changes scores, and so can work on a whole row.
    pub(super) fn is_edit(&self) -> bool {
        matches!(self, Step::Penalties(_) | Step::Dry(_) | Step::Custom(_))
    }

    /// Whether the parameters switch the step off.
    pub(super) fn is_off(&self) -> bool {
        match *self {
            Step::Penalties(ref penalties) => penalties.is_off(),
            Step::Dry(ref dry) => dry.is_off(),
            Step::TopK { k } => k <= 0,
            Step::TopP { p, .. } | Step::Typical { p, .. } => p >= 1.0,
            Step::MinP { p, .. } => p <= 0.0,
            Step::TopNSigma { n } => n <= 0.0,
            Step::Xtc { probability, threshold, .. } => probability <= 0.0 || threshold > 0.5,
            Step::Custom(_)
            | Step::Temp { .. }
            | Step::TempDynamic { .. }
            | Step::MirostatV2(_) => false,
        }
    }

    /// How many of the best tokens decide the outcome of the chain from this
    /// step on, whatever follows; `None`: all.
    pub(super) fn reach(&self) -> Option<usize> {
        match *self {
            Step::TopK { k } => usize::try_from(k).ok().filter(|&k| k > 0),
            Step::Temp { t } if t <= 0.0 => Some(1),
            _ => None,
        }
    }

    /// The step as an edit of `scores`; only for steps that are edits.
    pub(super) fn edit(&self, scores: Scores<'_>, history: &History) -> Result<()> {
        match self {
            Step::Penalties(penalties) => penalties.apply(scores, history),
            Step::Dry(dry) => dry.apply(scores, history),
            Step::Custom(custom) => return custom.apply(scores),
            _ => {}
        }
        Ok(())
    }

    /// The step on a list of candidates.
    pub(super) fn apply(
        &self,
        list: &mut Candidates,
        history: &History,
        rng: &mut Rng,
    ) -> Result<()> {
        if self.is_off() || list.items.is_empty() {
            return Ok(());
        }
        match *self {
            Step::Penalties(_) | Step::Dry(_) | Step::Custom(_) => {
                return self.edit(Scores::List(list), history);
            }
            Step::TopK { k } => list.keep_best(usize::try_from(k).unwrap_or(usize::MAX)),
            Step::TopP { p, min_keep } => top_p(list, p, min_keep),
            Step::MinP { p, min_keep } => min_p(list, p, min_keep),
            Step::Typical { p, min_keep } => typical(list, p, min_keep),
            Step::TopNSigma { n } => top_n_sigma(list, n),
            Step::Xtc { probability, threshold, min_keep } => {
                if list.items.len() > 1 && rng.unit() <= f64::from(probability) {
                    exclude_top(list, threshold, min_keep);
                }
            }
            Step::Temp { t } => temp(list, f64::from(t)),
            Step::TempDynamic { t, range, exponent } => {
                let t = dynamic(list, f64::from(t), f64::from(range), f64::from(exponent));
                temp(list, t);
            }
            Step::MirostatV2(ref mirostat) => mirostat.apply(list),
        }
        Ok(())
    }
}

/// Keeps the best whose probabilities together reach `p`.
fn top_p(list: &mut Candidates, p: f32, min_keep: usize) {
    list.softmax();
    // Few are needed as a rule: sort ever longer beginnings rather than all.
    let (mut sorted, mut sum, mut at) = (0, 0.0, 0);
    while at < list.items.len() {
        if at == sorted {
            sorted = (sorted * 8).max(256);
            list.sort_best(sorted);
        }
        sum += list.items[at].p;
        at += 1;
        // Rounded to f32, the precision of `p`: three tenths and four tenths reach 0.7.
        if sum as f32 >= p && at >= min_keep {
            break;
        }
    }
    list.items.truncate(at);
    list.sorted = true;
}

/// Keeps what is at least `p` times as probable as the best.
fn min_p(list: &mut Candidates, p: f32, min_keep: usize) {
    let floor = (f64::from(list.max()) + math::ln(f64::from(p))) as f32;
    let keep = list.items.iter().filter(|c| c.logit >= floor).count();
    let at_least = min_keep.max(1);
    if keep < at_least {
        list.keep_best(at_least);
    } else {
        list.items.retain(|c| c.logit >= floor);
    }
}

/// Keeps those whose surprise is nearest the expected one, until they reach `p`.
fn typical(list: &mut Candidates, p: f32, min_keep: usize) {
    list.sort();
    list.softmax();
    let entropy = entropy(list);
    // `logit` and `id` break ties: what is equally typical keeps rank order.
    let mut by_distance: Vec<(f64, usize)> =
        list.items.iter().enumerate().map(|(i, c)| ((-math::ln(c.p) - entropy).abs(), i)).collect();
    by_distance.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut sum, mut keep) = (0.0, 0);
    for &(_, i) in &by_distance {
        sum += list.items[i].p;
        keep += 1;
        if sum as f32 > p && keep >= min_keep {
            break;
        }
    }
    list.items = by_distance[..keep].iter().map(|&(_, i)| list.items[i]).collect();
    list.sorted = false;
}

/// Forbids what lies more than `n` standard deviations of the logits below the best.
fn top_n_sigma(list: &mut Candidates, n: f32) {
    let live =
        || list.items.iter().map(|c| f64::from(c.logit)).filter(|&logit| logit > f64::NEG_INFINITY);
    let count = live().count() as f64;
    if list.items.len() <= 1 || count == 0.0 {
        return;
    }
    let mean = live().sum::<f64>() / count;
    let variance = live().map(|logit| (logit - mean) * (logit - mean)).sum::<f64>() / count;
    let floor = (f64::from(list.max()) - f64::from(n) * variance.sqrt()) as f32;
    for c in &mut list.items {
        if c.logit < floor {
            c.logit = f32::NEG_INFINITY;
        }
    }
    list.softmax();
}

/// XTC: drops every candidate that reaches `threshold`, save the least probable of them.
fn exclude_top(list: &mut Candidates, threshold: f32, min_keep: usize) {
    list.sort();
    list.softmax();
    let reaching = list.items.iter().take_while(|c| c.p as f32 >= threshold).count();
    let drop = reaching.saturating_sub(1);
    if drop > 0 && list.items.len() - drop >= min_keep {
        list.items.drain(..drop);
    }
}

/// Divides logits by `t`; at 0 and below only the best stays possible.
fn temp(list: &mut Candidates, t: f64) {
    if t <= 0.0 {
        let best = list.best();
        for (i, c) in list.items.iter_mut().enumerate() {
            if Some(i) != best {
                c.logit = f32::NEG_INFINITY;
            }
        }
        list.sorted = false;
        return;
    }
    // A quotient beyond f32 would make unequal logits equal; measured from the
    // best they keep their distances, and the softmax is the same.
    let huge = |c: f32| (f64::from(c) / t).abs() > f64::from(f32::MAX) && c > f32::NEG_INFINITY;
    let origin = if list.items.iter().any(|c| huge(c.logit)) { f64::from(list.max()) } else { 0.0 };
    for c in &mut list.items {
        c.logit = math::clean(((f64::from(c.logit) - origin) / t) as f32);
    }
    // Rounding can make two logits equal, and then the lower id ranks first.
    list.sorted = false;
}

/// The temperature within `t` ± `range` that the entropy of the candidates asks for.
fn dynamic(list: &mut Candidates, t: f64, range: f64, exponent: f64) -> f64 {
    if range <= 0.0 {
        return t;
    }
    // One candidate has no entropy to speak of; any temperature leaves it alone.
    if list.items.len() <= 1 {
        return 1.0;
    }
    list.sort();
    list.softmax();
    let (low, high) = ((t - range).max(0.0), t + range);
    let share = entropy(list) / math::ln(list.items.len() as f64);
    low + (high - low) * math::pow(share.clamp(0.0, 1.0), exponent)
}

/// Shannon entropy of the candidates' probabilities, in nats.
fn entropy(list: &Candidates) -> f64 {
    list.items.iter().filter(|c| c.p > 0.0).map(|c| -c.p * math::ln(c.p)).sum()
}
