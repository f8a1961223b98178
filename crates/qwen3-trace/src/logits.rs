//! What differences in logits mean: for the distribution and for the best id.

/// Differences of logits, over the tokens that count.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitsDifference {
    /// KL divergence from the reference's distribution to the observed one, mean, in nats; `None` when
    /// a logit is not finite.
    pub kl_divergence: Option<f64>,
    /// The share of tokens with the same best id.
    pub top1_agreement: f64,
    /// Log-probability, under the reference, of its best id minus that of the observed best id; mean,
    /// in nats.
    pub regret_nats: Option<f64>,
}

/// Compares logits `[tokens, vocab]` over the tokens that count.
pub fn compare(
    expected: &[f32],
    observed: &[f32],
    vocab: usize,
    counted: impl Fn(usize) -> bool,
) -> LogitsDifference {
    let rows = expected.chunks(vocab).zip(observed.chunks(vocab));
    let rows = rows.enumerate().filter(|(token, _)| counted(*token));
    let (mut count, mut same, mut divergence, mut regret) = (0.0, 0.0, 0.0, 0.0);
    for (_, (expected, observed)) in rows {
        count += 1.0;
        same += f64::from(u8::from(best(expected) == best(observed)));
        divergence += kl_divergence(expected, observed);
        regret += lost(expected, best(observed));
    }
    let mean = |sum: f64| (sum / count).is_finite().then_some(sum / count);
    LogitsDifference {
        kl_divergence: mean(divergence),
        top1_agreement: same / f64::max(count, 1.0),
        regret_nats: mean(regret),
    }
}

/// The index of the largest logit; of the first, when several are. NaN is never the best.
pub fn best<T: PartialOrd>(logits: &[T]) -> usize {
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    let better = |best: usize, index: usize| logits[index] > logits[best] || is_nan(&logits[best]);
    let indices = 0..logits.len();
    let best = indices.reduce(|best, index| if better(best, index) { index } else { best });
    best.unwrap_or(0)
}

fn log_normaliser(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|l| (f64::from(*l) - largest).exp()).sum();
    largest + sum.ln()
}

/// From the distribution of the `expected` logits to that of the `observed` ones, in nats; NaN when a logit is not
/// finite.
pub fn kl_divergence(expected: &[f32], observed: &[f32]) -> f64 {
    let (p, q) = (log_normaliser(expected), log_normaliser(observed));
    let pairs = expected.iter().zip(observed);
    let terms = pairs.map(|(e, o)| {
        let (log_p, log_q) = (f64::from(*e) - p, f64::from(*o) - q);
        log_p.exp() * (log_p - log_q)
    });
    let divergence = terms.sum::<f64>();
    // Rounding can make it negative by a little; NaN stays.
    if divergence < 0.0 { 0.0 } else { divergence }
}

/// By how much `chosen` is behind the best of the `expected` logits, in nats.
pub fn lost(expected: &[f32], chosen: usize) -> f64 {
    f64::from(expected[best(expected)]) - f64::from(expected[chosen])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_lose_nothing() {
        let logits = [1.0, 3.0, 2.0, 0.5, 0.0, 4.0];
        let report = compare(&logits, &logits, 3, |_| true);
        let nothing =
            LogitsDifference { kl_divergence: Some(0.0), top1_agreement: 1.0, regret_nats: Some(0.0) };
        assert_eq!(report, nothing);
    }

    #[test]
    fn divergence_and_regret_are_in_nats() {
        // p = (3/4, 1/4), q = (1/2, 1/2); the observed best of equals is the first.
        let (expected, observed) = ([3.0_f32.ln(), 0.0], [0.0, 0.0]);
        let report = compare(&expected, &observed, 2, |_| true);
        let divergence = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((report.kl_divergence.unwrap() - divergence).abs() < 1e-7);
        assert_eq!(report.regret_nats, Some(0.0));
        let other = compare(&expected, &[0.0, 1.0], 2, |_| true);
        assert!((other.regret_nats.unwrap() - 3.0_f64.ln()).abs() < 1e-6);
        assert_eq!(other.top1_agreement, 0.0);
    }

    #[test]
    fn nan_is_reported_and_never_the_best() {
        let report = compare(&[1.0, 0.0], &[f32::NAN, 0.0], 2, |_| true);
        assert_eq!((report.kl_divergence, report.top1_agreement), (None, 0.0));
    }
}
