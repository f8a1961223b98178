//! Mistakes in layers with experts: those of the catalogue, and experts that have each other's weights, which are found
//! by what comes out of them.

use std::sync::Arc;

use qwen3_config::{Experts, Qwen3Config, Site, Tap};

use crate::Result;
use crate::explanation::{Explanation, Trial};
use crate::feed_forward::ExpertOrder;
use crate::hypothesis::Hypothesis;
use crate::ops::dot;
use crate::routes::Routes;
use crate::search::Search;
use crate::variant::{ExpertWeighing, Variant};
use crate::weights::{FeedForwardWeights, SparseWeights};

/// Tokens that are looked at together.
const TOKENS: usize = 12;
/// So much of a squared error has to go for a change to be one.
const GAIN: f64 = 0.02;
/// Moved experts that are told one by one.
const TOLD: usize = 6;

/// Mistakes in the router and in all experts alike, where there are experts.
pub fn of_experts(config: &Qwen3Config) -> Vec<Hypothesis> {
    let Some(sparse) = &config.sparse else {
        return Vec::new();
    };
    let Experts { count, per_token, normalised, .. } = sparse.experts;
    let weighed = |id, words: &str, wrong| Hypothesis::new(id, words, move |v| v.expert_weighing = wrong);
    let mut list = if normalised {
        let words = "the weights of a token's experts are not divided by their sum";
        vec![weighed("router_not_renormalised", words, ExpertWeighing::Probabilities)]
    } else {
        let words = "the weights of a token's experts are divided by their sum";
        let same = "the softmax is taken over the chosen experts alone";
        vec![
            weighed("router_renormalised", words, ExpertWeighing::Normalised),
            weighed("router_softmax_after_topk", same, ExpertWeighing::Normalised),
        ]
    };
    list.push(weighed(
        "router_softmax_after_topk",
        "the probabilities of a token's experts go through a softmax of their own",
        ExpertWeighing::SoftmaxOfProbabilities,
    ));
    list.push(Hypothesis::new(
        "expert_gate_up_swapped",
        "in every expert gate_proj and up_proj are swapped",
        |v| {
            v.expert_gate_up_swapped = true;
        },
    ));
    let others = (1..=count.min(2 * per_token + 1)).filter(|k| *k != per_token);
    list.extend(others.map(|k| {
        let words =
            format!("a token is sent to {k} expert{}, not to {per_token}", if k == 1 { "" } else { "s" });
        Hypothesis::new("top_k_off", words, move |v| v.top_k = Some(k))
    }));
    if count > 1 {
        list.extend(
            [1, count - 1].map(|by| permuted((0..count).map(|expert| (expert + by) % count).collect())),
        );
        list.push(permuted((0..count).rev().collect()));
    }
    list
}

/// Experts of which each has the weights of the one in `order`.
fn permuted(order: ExpertOrder) -> Hypothesis {
    Hypothesis::new("experts_permuted", order_words(&order), move |v| {
        v.expert_order = Some(Arc::clone(&order))
    })
}

/// Whose weights the experts have.
fn order_words(order: &[usize]) -> String {
    let (count, by) = (order.len(), order[0]);
    if by != 0 && order.iter().enumerate().all(|(expert, whose)| *whose == (expert + by) % count) {
        return match by {
            1 => "every expert has the weights of the next, the last those of the first".into(),
            _ if by == count - 1 => {
                "every expert has the weights of the one before, the first those of the last".into()
            }
            _ => format!("every expert has the weights of the one {by} behind it"),
        };
    }
    let moved = order.iter().enumerate().filter(|(expert, whose)| expert != *whose);
    let moved: Vec<(usize, usize)> = moved.map(|(expert, whose)| (expert, *whose)).collect();
    if let [(a, b), (c, d)] = moved[..]
        && (a, b) == (d, c)
    {
        return format!("experts {a} and {c} have each other's weights");
    }
    let told: Vec<_> = moved
        .iter()
        .take(TOLD)
        .map(|(expert, whose)| format!("expert {expert} has the weights of {whose}"))
        .collect();
    let more = moved.len().saturating_sub(TOLD);
    let more = if more > 0 { format!(" and {more} more are not in their places") } else { String::new() };
    format!("{}{more}", told.join(", "))
}

impl Search<'_, '_> {
    /// `experts_permuted`, where the segment is one layer with experts.
    pub(crate) fn expert_order(&mut self) -> Result<Vec<Explanation>> {
        let watched = |tap: Tap| self.segment.watched.iter().find(|watched| watched.site.tap == tap);
        let Some(watched) = watched(Tap::Mlp).or_else(|| watched(Tap::LayerOutput)) else {
            return Ok(Vec::new());
        };
        let steps = self.segment.steps.clone();
        if steps.len() != 1 {
            return Ok(Vec::new());
        }
        let (weights, taps) = self.laboratory.right_run(steps.start, &self.segment.input)?;
        let FeedForwardWeights::Sparse(sparse) = &weights.mlp else {
            return Ok(Vec::new());
        };
        let kept = |tap: Tap| self.laboratory.without_padding(Site::inside(steps.start, tap), taps.get(tap));
        let mlp = kept(Tap::Mlp);
        let given = match watched.site.tap {
            Tap::Mlp => watched.values.clone(),
            _ => {
                let output = kept(Tap::LayerOutput);
                watched
                    .values
                    .iter()
                    .zip(&output)
                    .zip(&mlp)
                    .map(|((seen, output), mlp)| seen - output + mlp)
                    .collect()
            }
        };
        let x = kept(Tap::PostAttentionLayernorm);
        let right = self.laboratory.right().clone();
        let routes = Routes::observed(&kept(Tap::ChosenExperts), &kept(Tap::ExpertWeights), sparse.of.count);
        let Some(order) = Exchange { sparse, right: &right, routes: &routes, x: &x, given: &given }.order()
        else {
            return Ok(Vec::new());
        };
        self.attempt(vec![Trial { parts: vec![Arc::new(permuted(order))], steps }])
    }
}

/// What is known of the experts of one layer.
struct Exchange<'a> {
    sparse: &'a SparseWeights,
    right: &'a Variant,
    routes: &'a Routes,
    /// What goes in, `[tokens, hidden_size]`.
    x: &'a [f64],
    /// What comes out, of the same shape.
    given: &'a [f64],
}

impl Exchange<'_> {
    /// Whose weights each expert has to have for what comes out; none when they are in their places as far as it tells.
    fn order(&self) -> Option<ExpertOrder> {
        let count = self.sparse.of.count;
        let mut order: Vec<usize> = (0..count).collect();
        // Each round looks at the tokens that are still off most.
        for _ in 0..count {
            let worst = self.worst(&order);
            if !self.improve(&worst, &mut order) {
                break;
            }
        }
        (!order.iter().enumerate().all(|(expert, whose)| expert == *whose)).then(|| order.into())
    }

    /// What expert `expert` gives for `token`.
    fn output(&self, expert: usize, token: usize) -> Vec<f64> {
        let hidden = self.sparse.router.input;
        let x = &self.x[token * hidden..(token + 1) * hidden];
        self.sparse.experts[expert].apply(x, false, self.right)
    }

    /// What is left of `token`'s output when experts have the weights of those in `order`.
    fn left(&self, token: usize, order: &[usize]) -> Vec<f64> {
        let hidden = self.sparse.router.input;
        let mut left = self.given[token * hidden..(token + 1) * hidden].to_vec();
        for (expert, weight) in &self.routes.tokens[token] {
            let output = self.output(order[*expert], token);
            left.iter_mut().zip(output).for_each(|(left, output)| *left -= weight * output);
        }
        left
    }

    /// The tokens of which most is left, with that.
    fn worst(&self, order: &[usize]) -> Vec<(usize, Vec<f64>)> {
        let mut tokens: Vec<_> =
            (0..self.routes.tokens.len()).map(|token| (token, self.left(token, order))).collect();
        tokens.sort_by(|(_, a), (_, b)| dot(b, b).total_cmp(&dot(a, a)));
        tokens.truncate(TOKENS);
        tokens
    }

    /// Gives experts the weights of others as long as that helps `tokens`; did it?
    fn improve(&self, tokens: &[(usize, Vec<f64>)], order: &mut [usize]) -> bool {
        let count = self.sparse.of.count;
        let mut left: Vec<Vec<f64>> = tokens.iter().map(|(_, left)| left.clone()).collect();
        let outputs: Vec<Vec<Vec<f64>>> = tokens
            .iter()
            .map(|(token, _)| (0..count).map(|expert| self.output(expert, *token)).collect())
            .collect();
        let mut changed = false;
        loop {
            let total: f64 = left.iter().map(|left| dot(left, left)).sum();
            let mut best = (0.0, 0, 0);
            for expert in 0..count {
                for whose in (0..count).filter(|whose| *whose != order[expert]) {
                    let gain: f64 = self
                        .moved(tokens, expert)
                        .map(|(place, weight)| {
                            let (new, old) = (&outputs[place][whose], &outputs[place][order[expert]]);
                            let change: Vec<f64> =
                                new.iter().zip(old).map(|(new, old)| weight * (new - old)).collect();
                            2.0 * dot(&left[place], &change) - dot(&change, &change)
                        })
                        .sum();
                    if gain > best.0 {
                        best = (gain, expert, whose);
                    }
                }
            }
            let (gain, expert, whose) = best;
            if gain <= GAIN * total {
                return changed;
            }
            for (place, weight) in self.moved(tokens, expert) {
                let (new, old) = (&outputs[place][whose], &outputs[place][order[expert]]);
                for ((left, new), old) in left[place].iter_mut().zip(new).zip(old) {
                    *left -= weight * (new - old);
                }
            }
            order[expert] = whose;
            changed = true;
        }
    }

    /// The places among `tokens` of those that are sent to `expert`, with its weight there.
    fn moved<'t>(
        &'t self,
        tokens: &'t [(usize, Vec<f64>)],
        expert: usize,
    ) -> impl Iterator<Item = (usize, f64)> + 't {
        tokens.iter().enumerate().filter_map(move |(place, (token, _))| {
            let found = self.routes.tokens[*token].iter().find(|(chosen, _)| *chosen == expert);
            found.map(|(_, weight)| (place, *weight))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_experts_are_told() {
        assert_eq!(
            order_words(&[1, 2, 0]),
            "every expert has the weights of the next, the last those of the first"
        );
        assert_eq!(
            order_words(&[2, 0, 1]),
            "every expert has the weights of the one before, the first those of the last"
        );
        assert_eq!(order_words(&[2, 3, 0, 1]), "every expert has the weights of the one 2 behind it");
        assert_eq!(order_words(&[0, 3, 2, 1]), "experts 1 and 3 have each other's weights");
        assert_eq!(order_words(&[0, 3, 2, 3]), "expert 1 has the weights of 3");
        let more = order_words(&[0, 2, 3, 4, 5, 6, 7, 8, 1]);
        assert!(more.ends_with("expert 6 has the weights of 7 and 2 more are not in their places"), "{more}");
    }
}
