//! Where an observed run sent its tokens: between experts whose scores are nearly the same, rounding decides.

use qwen3_config::{Site, Tap};
use qwen3_trace::Trace;

use crate::Result;
use crate::segment::StepIndex;
use crate::walk::Walk;

/// So many experts on either side of the last that is chosen may be exchanged.
const EDGE: usize = 2;

/// What was observed of a layer with experts, by which tokens whose experts are nearly tied are sent as they were.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    seen: Seen,
    near: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    /// One for each expert that a token was sent to and zero for the others, `[tokens, experts]`.
    Chosen(Vec<f64>),
    /// What came out of the experts, `[tokens, hidden_size]`.
    Mlp(Vec<f64>),
    /// What came out of the layer, of the same shape.
    Output(Vec<f64>),
}

impl Sent {
    /// What the experts gave for `token`, where that was observed; `residual` is what is added to it, if anything is.
    pub fn mlp(&self, token: usize, residual: Option<&[f64]>, hidden: usize) -> Option<Vec<f64>> {
        let row = |values: &[f64]| values[token * hidden..(token + 1) * hidden].to_vec();
        match (&self.seen, residual) {
            (Seen::Chosen(_), _) => None,
            (Seen::Mlp(values), _) | (Seen::Output(values), None) => Some(row(values)),
            (Seen::Output(values), Some(residual)) => Some(
                row(values).iter().zip(row(residual)).map(|(output, residual)| output - residual).collect(),
            ),
        }
    }

    /// The experts that `token` may have been sent to for its `scores`: the `count` first of `order`, which has the most
    /// probable first, and those that noise may have made of them.
    pub fn possible(&self, token: usize, scores: &[f64], order: &[usize], count: usize) -> Vec<Vec<usize>> {
        let (own, others) = order.split_at(count);
        let near = |out: usize, into: usize| scores[out] - scores[into] <= self.near;
        let mut all = vec![own.to_vec()];
        if let Seen::Chosen(chosen) = &self.seen {
            let chosen = &chosen[token * scores.len()..(token + 1) * scores.len()];
            let seen: Vec<usize> = order.iter().filter(|expert| chosen[**expert] > 0.5).copied().collect();
            let mut out = own.iter().filter(|expert| !seen.contains(expert));
            let exchanged =
                |out: &usize| seen.iter().filter(|e| !own.contains(e)).all(|into| near(*out, *into));
            if seen.len() == count && out.all(exchanged) {
                all = vec![seen];
            }
            return all;
        }
        for place in count.saturating_sub(EDGE)..count {
            for into in others.iter().take(EDGE).filter(|into| near(own[place], **into)) {
                let mut exchanged = own.to_vec();
                exchanged[place] = *into;
                all.push(exchanged);
            }
        }
        all
    }
}

impl Walk<'_> {
    /// What a file says of where its run sent tokens in layer `step`, if anything.
    pub(crate) fn sent(&self, file: &Trace, step: StepIndex) -> Result<Option<Sent>> {
        let site = Site::inside(step, Tap::RouterLogits);
        let Some(scores) = self.expected(site)? else {
            return Ok(None);
        };
        let values = |tap: Tap| file.values(&Site::inside(step, tap).to_string());
        let seen = match values(Tap::ChosenExperts)? {
            Some(chosen) => Some(Seen::Chosen(chosen)),
            None => match values(Tap::Mlp)? {
                Some(mlp) => Some(Seen::Mlp(mlp)),
                None => values(Tap::LayerOutput)?.map(Seen::Output),
            },
        };
        let near = 2.0 * self.limit(step, &site.to_string(), &self.kept(site, &scores)).max_abs();
        Ok(seen.map(|seen| Sent { seen, near }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 4] = [1.0, 3.0, 2.0, 2.01];

    fn possible(seen: Seen, near: f64) -> Vec<Vec<usize>> {
        Sent { seen, near }.possible(0, &SCORES, &[1, 3, 2, 0], 2)
    }

    #[test]
    fn experts_that_are_nearly_tied_go_as_they_were_seen_to() {
        let settled = |chosen: [f64; 4], near: f64| possible(Seen::Chosen(chosen.to_vec()), near);
        assert_eq!(settled([0.0, 1.0, 0.0, 1.0], 0.1), [[1, 3]]);
        assert_eq!(settled([0.0, 1.0, 1.0, 0.0], 0.1), [[1, 2]]);
        assert_eq!(settled([0.0, 1.0, 1.0, 0.0], 0.001), [[1, 3]]);
        assert_eq!(settled([1.0, 1.0, 0.0, 0.0], 0.1), [[1, 3]]);
        // Another number of experts is no tie.
        assert_eq!(settled([0.0, 0.0, 1.0, 0.0], 0.1), [[1, 3]]);
    }

    #[test]
    fn experts_that_are_nearly_tied_go_either_way() {
        let output = || Seen::Output(vec![0.0; 8]);
        assert_eq!(possible(output(), 0.001), [[1, 3]]);
        assert_eq!(possible(output(), 0.1), [[1, 3], [1, 2]]);
        assert_eq!(possible(output(), 1.0), [[1, 3], [2, 3], [1, 2]]);
    }

    #[test]
    fn what_the_experts_gave_is_what_was_added() {
        let sent = |seen| Sent { seen, near: 0.0 };
        let (values, residual) = (vec![1.0, 2.0, 3.0, 4.0], [0.5; 4]);
        assert_eq!(sent(Seen::Output(values.clone())).mlp(1, Some(&residual), 2), Some(vec![2.5, 3.5]));
        assert_eq!(sent(Seen::Output(values.clone())).mlp(1, None, 2), Some(vec![3.0, 4.0]));
        assert_eq!(sent(Seen::Mlp(values.clone())).mlp(0, Some(&residual), 2), Some(vec![1.0, 2.0]));
        assert_eq!(sent(Seen::Chosen(values)).mlp(0, None, 2), None);
    }
}
