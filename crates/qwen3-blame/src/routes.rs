//! Where a router sends tokens.

use qwen3_config::Experts;

use crate::arithmetic::Arithmetic;
use crate::variant::{ExpertWeighing, Variant};

/// The experts of one token, with what their outputs are multiplied by.
pub type Route = Vec<(usize, f64)>;

/// The experts of the tokens.
pub struct Routes {
    /// Of each token.
    pub tokens: Vec<Route>,
}

impl Routes {
    /// Where the router sends tokens with `scores` `[tokens, count]`. `nearest` says which it was of the routes that a
    /// token may have had, where there are several.
    ///
    /// Follows Transformers `Qwen3MoeTopKRouter`.
    pub fn new(
        scores: &[f64],
        of: Experts,
        variant: &Variant,
        nearest: impl Fn(usize, &[Route]) -> usize,
    ) -> Self {
        let count = variant.top_k.unwrap_or(of.per_token);
        let token = |(token, scores): (usize, &[f64])| {
            let probabilities = softmax(scores, variant.arithmetic);
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
            let possible = match &variant.sent {
                Some(sent) => sent.possible(token, scores, &order, count),
                None => vec![order[..count].to_vec()],
            };
            let routes = possible.into_iter().map(|experts| weighed(experts, &probabilities, of, variant));
            let mut routes: Vec<Route> = routes.collect();
            let which = if routes.len() > 1 { nearest(token, &routes) } else { 0 };
            routes.swap_remove(which)
        };
        Self { tokens: scores.chunks(of.count).enumerate().map(token).collect() }
    }

    /// The same by what a layer gave: `chosen` and `weights` `[tokens, count]`.
    pub fn observed(chosen: &[f64], weights: &[f64], count: usize) -> Self {
        let token = |(chosen, weights): (&[f64], &[f64])| {
            let all = chosen.iter().zip(weights).enumerate();
            all.filter(|(_, (chosen, _))| **chosen > 0.0)
                .map(|(expert, (_, weight))| (expert, *weight))
                .collect()
        };
        Self { tokens: chosen.chunks(count).zip(weights.chunks(count)).map(token).collect() }
    }

    /// `of` each of the experts a token is sent to, zero for the others: `[tokens, count]`.
    pub fn dense(&self, count: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut dense = vec![0.0; self.tokens.len() * count];
        for (row, token) in dense.chunks_mut(count).zip(&self.tokens) {
            for (expert, weight) in token {
                row[*expert] = of(*weight);
            }
        }
        dense
    }
}

/// A token's `experts` with their weights.
fn weighed(experts: Vec<usize>, probabilities: &[f64], of: Experts, variant: &Variant) -> Route {
    let arithmetic = variant.arithmetic;
    let chosen: Vec<f64> = experts.iter().map(|expert| probabilities[*expert]).collect();
    let weights = match variant.expert_weighing {
        ExpertWeighing::Own if of.normalised => normalised(&chosen, arithmetic),
        ExpertWeighing::Own | ExpertWeighing::Probabilities => chosen,
        ExpertWeighing::Normalised => normalised(&chosen, arithmetic),
        ExpertWeighing::SoftmaxOfProbabilities => softmax(&chosen, arithmetic),
    };
    experts.into_iter().zip(weights).map(|(expert, weight)| (expert, arithmetic.held(weight))).collect()
}

fn softmax(scores: &[f64], arithmetic: Arithmetic) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| arithmetic.inside((score - largest).exp())).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| arithmetic.inside(power / total)).collect()
}

fn normalised(weights: &[f64], arithmetic: Arithmetic) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| arithmetic.inside(weight / total)).collect()
}
