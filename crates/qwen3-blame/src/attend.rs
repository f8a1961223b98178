//! Attention between RoPE and the output projection: which keys a query sees, the softmax of their scores, and the mean of
//! their values.

use qwen3_config::{Qwen3Config, Reach, Rows};

use crate::cache::{Slot, Turns};
use crate::formats::Format;
use crate::habits::Habit;
use crate::ops::each_chunk;
use crate::variant::{Mask, Variant};

/// Attention before the output projection, `[batch * seq, heads * head_dim]`. `turned` are keys that are rotated more or
/// less often than once, where the variant has any.
pub fn attend(
    config: &Qwen3Config,
    variant: &Variant,
    reach: Reach,
    rows: &Rows,
    [q, k, v]: [&[f64]; 3],
    turned: &[f64],
) -> Vec<f64> {
    let ([_, seq], head_dim) = (rows.dims(), config.head_dim);
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let groups = heads / kv_heads;
    let arithmetic = variant.arithmetic;
    let kv_head = |head: usize| {
        if variant.groups_interleaved { head % kv_heads } else { head / groups }
    };
    let of = |x, token, count, head| head_of(x, (token * count + head) * head_dim, head_dim);
    let [k, v] = [k, v].map(|x| arithmetic.in_format(|held| held.cache, x, head_dim));
    let q = arithmetic.in_format(|held| held.attention.or(held.queries), q, head_dim);
    let (q, k, v) = (&q[..], &k[..], &v[..]);
    let mut context = vec![0.0; q.len()];
    let products = 2 * q.len() * seq;
    each_chunk(&mut context, heads * head_dim, products, |(token, context)| {
        let (row, query) = (token / seq, token % seq);
        let mask = variant.mask;
        let seen = |key: &usize| sees(mask, query, *key) && reach.sees(query.saturating_sub(*key));
        let mut keys: Vec<usize> = (0..seq).filter(|key| rows.visible[row][*key] && seen(key)).collect();
        let mut blind = keys.is_empty();
        if blind {
            (keys, blind) = match mask {
                Mask::HidesSelfButFirst => (vec![query], false),
                Mask::HidesSelfFirstSeesAll => {
                    let visible = (0..seq).filter(|key| rows.visible[row][*key]);
                    (visible.collect(), false)
                }
                // All of its pass.
                _ => ((0..variant.cached.map_or(seq, |cached| cached.from)).collect(), true),
            };
        }
        let slots = variant.cached.and_then(|cached| cached.slots(rows, row, query, &keys));
        let slots = slots.unwrap_or_else(|| {
            keys.iter().map(|token| Slot::Token { row, token: *token, turns: Turns::Once }).collect()
        });
        for (head, context) in context.chunks_mut(head_dim).enumerate() {
            let q = of(q, token, heads, head);
            let score = |slot: &Slot| {
                let key = match *slot {
                    Slot::Empty => return 0.0,
                    Slot::Token { row, token, turns } => {
                        let keys = if turns == Turns::Once { k } else { turned };
                        of(keys, row * seq + token, kv_heads, kv_head(head))
                    }
                };
                let score = arithmetic.held(arithmetic.held(arithmetic.dot(q, key)) * variant.scale);
                match variant.habit {
                    Some(Habit::Softcap(cap)) => cap * (score / cap).tanh(),
                    _ => score,
                }
            };
            let scores: Vec<f64> =
                if blind { vec![0.0; slots.len()] } else { slots.iter().map(score).collect() };
            let count = scores.len().max(1);
            let scores = arithmetic.in_format(|held| held.scores, scores, count);
            if let Some(format) = arithmetic.formats().running {
                let value = |slot: &Slot| match *slot {
                    Slot::Token { row, token, .. } => Some(of(v, row * seq + token, kv_heads, kv_head(head))),
                    Slot::Empty => None,
                };
                running_sum(&scores, &slots.iter().map(value).collect::<Vec<_>>(), format, context);
                continue;
            }
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| arithmetic.inside((s - largest).exp())).collect();
            let sink = variant.sinks.as_ref().map_or(0.0, |sinks| (sinks[head] - largest).exp());
            let total = match variant.habit {
                Some(Habit::SoftmaxUnnormalised) => 1.0,
                _ => weights.iter().sum::<f64>() + sink,
            };
            let weights =
                weights.into_iter().map(|weight| arithmetic.held(arithmetic.inside(weight / total)));
            let weights = arithmetic.in_format(|held| held.softmax, weights.collect::<Vec<_>>(), count);
            let weights = arithmetic.in_format(|held| held.attention, weights, count);
            for (slot, weight) in slots.iter().zip(weights.iter()) {
                let Slot::Token { row, token, .. } = *slot else {
                    continue;
                };
                let v = of(v, row * seq + token, kv_heads, kv_head(head));
                for (context, v) in context.iter_mut().zip(v) {
                    *context = arithmetic.inside(*context + weight * v);
                }
            }
        }
    });
    match variant.habit {
        Some(Habit::HeadZero(head)) => {
            context.chunks_mut(head_dim).skip(head).step_by(heads).for_each(|context| context.fill(0.0));
        }
        Some(Habit::HeadsExchanged(a, b)) => {
            for token in context.chunks_mut(heads * head_dim) {
                (0..head_dim).for_each(|i| token.swap(a * head_dim + i, b * head_dim + i));
            }
        }
        _ => {}
    }
    arithmetic.round(context)
}

/// The mean of values by the softmax of their scores in one pass, as flash attention on a CPU has it (ggml's
/// `flash_attn_ext_f16_one_chunk`): the sum so far is held in a format, and made smaller when a larger score comes.
fn running_sum(scores: &[f64], values: &[Option<&[f64]>], format: Format, sum: &mut [f64]) {
    let (mut largest, mut total) = (f64::NEG_INFINITY, 0.0);
    for (score, value) in scores.iter().zip(values) {
        let mut weight = (score - largest).exp();
        if *score > largest {
            let shrink = (largest - score).exp();
            sum.iter_mut().for_each(|x| *x *= shrink);
            format.round(sum);
            (largest, total, weight) = (*score, total * shrink, 1.0);
        }
        if let Some(value) = value {
            sum.iter_mut().zip(*value).for_each(|(x, value)| *x += value * weight);
            format.round(sum);
        }
        total += weight;
    }
    sum.iter_mut().for_each(|x| *x /= total);
}

fn head_of(x: &[f64], start: usize, head_dim: usize) -> &[f64] {
    &x[start..start + head_dim]
}

fn sees(mask: Mask, query: usize, key: usize) -> bool {
    match mask {
        Mask::Causal => key <= query,
        Mask::Missing => true,
        Mask::ShowsNext => key <= query + 1,
        Mask::HidesSelf | Mask::HidesSelfButFirst | Mask::HidesSelfFirstSeesAll => key < query,
        Mask::Chunks(size) => key <= query && key >= query - query % size,
    }
}
