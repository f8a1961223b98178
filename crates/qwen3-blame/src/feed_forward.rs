//! The feed-forward block of a layer on the host: one that every token passes through, or experts.

use std::sync::Arc;

use qwen3_config::Tap;

use crate::habits::Habit;
use crate::ops::{activate, dot};
use crate::probe::LayerTaps;
use crate::routes::{Route, Routes};
use crate::variant::{Layout, Variant};
use crate::weights::{FeedForwardWeights, MlpWeights, SparseWeights};

/// What comes out of the block for `x` `[tokens, hidden_size]`, same shape. What the router gives is kept. `residual` is
/// what will be added, if anything is.
pub fn feed_forward(
    weights: &FeedForwardWeights,
    variant: &Variant,
    x: &[f64],
    residual: Option<&[f64]>,
    taps: &mut LayerTaps,
) -> Vec<f64> {
    match weights {
        FeedForwardWeights::Dense(mlp) => mlp.apply(x, variant.gate_up_swapped, variant),
        FeedForwardWeights::Sparse(sparse) => experts(sparse, variant, x, residual, taps),
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
        let inner = if variant.habit == Some(Habit::SiluOnProduct) {
            gate.iter().zip(&up).map(|(gate, up)| activate(gate * up, variant.activation)).collect()
        } else {
            let gate = arithmetic.round(gate.into_iter().map(|x| activate(x, variant.activation)).collect());
            gate.iter().zip(&up).map(|(gate, up)| gate * up).collect()
        };
        let inner = arithmetic.round(inner);
        self.down_proj.adapted(&inner, Layout::OutIn, variant)
    }
}

fn experts(
    sparse: &SparseWeights,
    variant: &Variant,
    x: &[f64],
    residual: Option<&[f64]>,
    taps: &mut LayerTaps,
) -> Vec<f64> {
    let arithmetic = variant.arithmetic;
    let (count, hidden) = (sparse.of.count, sparse.router.input);
    let scores = sparse.router.apply(x, Layout::OutIn, arithmetic.of_router());
    let given = |expert: usize, rows: &[f64]| {
        let order = variant.expert_order.as_ref();
        let block = &sparse.experts[order.map_or(expert, |order| order[expert])];
        block.apply(rows, variant.expert_gate_up_swapped, variant)
    };
    let row = |token: usize| token * hidden..(token + 1) * hidden;
    let nearest = |token: usize, routes: &[Route]| {
        let seen = variant.sent.as_ref().and_then(|sent| sent.mlp(token, residual, hidden));
        let seen = seen.expect("several routes are possible where what comes out was observed");
        let left = |route: &Route| {
            let mut left = seen.clone();
            for (expert, weight) in route {
                let given = given(*expert, &x[row(token)]);
                left.iter_mut().zip(given).for_each(|(left, given)| *left -= weight * given);
            }
            dot(&left, &left)
        };
        let left: Vec<f64> = routes.iter().map(left).collect();
        (0..left.len()).min_by(|a, b| left[*a].total_cmp(&left[*b])).expect("there are routes")
    };
    let routes = Routes::new(&scores, sparse.of, variant, nearest);
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
        if sent.is_empty() || variant.habit == Some(Habit::ExpertZero(expert)) {
            continue;
        }
        let rows: Vec<f64> = sent.iter().flat_map(|(token, _)| &x[row(*token)]).copied().collect();
        let given = given(expert, &rows);
        for ((token, weight), given) in sent.into_iter().zip(given.chunks(hidden)) {
            for (output, given) in outputs[row(token)].iter_mut().zip(given) {
                *output = arithmetic.held(*output + arithmetic.held(given * weight));
            }
        }
    }
    arithmetic.round(outputs)
}

/// Which expert's weights each has instead of its own.
pub type ExpertOrder = Arc<[usize]>;
