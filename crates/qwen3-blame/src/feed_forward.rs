//! The feed-forward block of a layer on the host: one that every token passes through, or experts.

use std::sync::Arc;

use qwen3_config::{Experts, Tap};

use crate::arithmetic::Arithmetic;
use crate::ops::activate;
use crate::probe::LayerTaps;
use crate::variant::{ExpertWeighing, Layout, Variant};
use crate::weights::{FeedForwardWeights, MlpWeights, SparseWeights};

/// What comes out of the block for `x` `[tokens, hidden_size]`, same shape. What the router gives is kept.
pub fn feed_forward(
    weights: &FeedForwardWeights,
    variant: &Variant,
    x: &[f64],
    taps: &mut LayerTaps,
) -> Vec<f64> {
    match weights {
        FeedForwardWeights::Dense(mlp) => mlp.apply(x, variant.gate_up_swapped, variant),
        FeedForwardWeights::Sparse(sparse) => experts(sparse, variant, x, taps),
    }
}

impl MlpWeights {
    /// `down(act(gate(x)) * up(x))` of `x` `[tokens, hidden_size]`, same shape.
    pub fn apply(&self, x: &[f64], swapped: bool, variant: &Variant) -> Vec<f64> {
        let (mut gate, mut up) = (&self.gate_proj, &self.up_proj);
        if swapped {
            std::mem::swap(&mut gate, &mut up);
        }
        let arithmetic = variant.arithmetic;
        let gate = gate.adapted(x, Layout::OutIn, variant);
        let up = up.adapted(x, Layout::OutIn, variant);
        let gate = arithmetic.round(gate.into_iter().map(|x| activate(x, variant.activation)).collect());
        let inner = arithmetic.round(gate.iter().zip(&up).map(|(gate, up)| gate * up).collect());
        self.down_proj.adapted(&inner, Layout::OutIn, variant)
    }
}

/// The experts of the tokens, and what their outputs are multiplied by.
pub struct Routes {
    /// Of each token, its experts with their weights, the most probable first.
    pub tokens: Vec<Vec<(usize, f64)>>,
}

impl Routes {
    /// Where the router sends tokens with `scores` `[tokens, count]`.
    ///
    /// Follows Transformers `Qwen3MoeTopKRouter`.
    pub fn new(scores: &[f64], of: Experts, variant: &Variant) -> Self {
        let arithmetic = variant.arithmetic;
        let k = variant.top_k.unwrap_or(of.per_token);
        let token = |scores: &[f64]| {
            let probabilities = softmax(scores, arithmetic);
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
            order.truncate(k);
            let chosen: Vec<f64> = order.iter().map(|expert| probabilities[*expert]).collect();
            let weights = match variant.expert_weighing {
                ExpertWeighing::Own if of.normalised => normalised(&chosen, arithmetic),
                ExpertWeighing::Own | ExpertWeighing::Probabilities => chosen,
                ExpertWeighing::Normalised => normalised(&chosen, arithmetic),
                ExpertWeighing::SoftmaxOfProbabilities => softmax(&chosen, arithmetic),
            };
            let weights = weights.into_iter().map(|weight| arithmetic.held(weight));
            order.into_iter().zip(weights).collect()
        };
        Self { tokens: scores.chunks(of.count).map(token).collect() }
    }

    /// `of` each of the experts a token is sent to, zero for the others: `[tokens, count]`.
    fn dense(&self, count: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut dense = vec![0.0; self.tokens.len() * count];
        for (row, token) in dense.chunks_mut(count).zip(&self.tokens) {
            for (expert, weight) in token {
                row[*expert] = of(*weight);
            }
        }
        dense
    }
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

fn experts(sparse: &SparseWeights, variant: &Variant, x: &[f64], taps: &mut LayerTaps) -> Vec<f64> {
    let arithmetic = variant.arithmetic;
    let (count, hidden) = (sparse.of.count, sparse.router.input);
    let scores = sparse.router.apply(x, Layout::OutIn, arithmetic);
    let routes = Routes::new(&scores, sparse.of, variant);
    taps.keep(Tap::RouterLogits, &scores);
    taps.keep(Tap::ChosenExperts, &routes.dense(count, |_| 1.0));
    taps.keep(Tap::ExpertWeights, &routes.dense(count, |weight| weight));

    let mut outputs = vec![0.0; x.len()];
    for expert in 0..count {
        let sent = routes.tokens.iter().enumerate().filter_map(|(token, chosen)| {
            let found = chosen.iter().find(|(chosen, _)| *chosen == expert);
            found.map(|(_, weight)| (token, *weight))
        });
        let sent: Vec<(usize, f64)> = sent.collect();
        if sent.is_empty() {
            continue;
        }
        let rows: Vec<f64> =
            sent.iter().flat_map(|(token, _)| &x[token * hidden..(token + 1) * hidden]).copied().collect();
        let order = variant.expert_order.as_ref();
        let block = &sparse.experts[order.map_or(expert, |order| order[expert])];
        let given = block.apply(&rows, variant.expert_gate_up_swapped, variant);
        for ((token, weight), given) in sent.into_iter().zip(given.chunks(hidden)) {
            for (output, given) in outputs[token * hidden..(token + 1) * hidden].iter_mut().zip(given) {
                *output = arithmetic.held(*output + arithmetic.held(given * weight));
            }
        }
    }
    arithmetic.round(outputs)
}

/// Which expert's weights each has instead of its own.
pub type ExpertOrder = Arc<[usize]>;
