//! Queries and keys by heads: turned by RoPE, and laid out as attention takes them.

use qwen3_config::{Qwen3Config, Rows};

use crate::habits::Habit;
use crate::variant::{Rotation, Variant};

/// `[batch, seq, heads, head_dim]` to `[batch, heads, seq, head_dim]`.
pub(crate) fn heads_first(config: &Qwen3Config, rows: &Rows, x: &[f64]) -> Vec<f64> {
    let [batch, seq] = rows.dims();
    exchanged(x, batch, [seq, x.len() / (batch * seq * config.head_dim)], config.head_dim)
}

/// The other way.
pub(crate) fn tokens_first(config: &Qwen3Config, rows: &Rows, x: &[f64]) -> Vec<f64> {
    let [batch, seq] = rows.dims();
    exchanged(x, batch, [x.len() / (batch * seq * config.head_dim), seq], config.head_dim)
}

/// `[batch, a, b, width]` to `[batch, b, a, width]`.
fn exchanged(x: &[f64], batch: usize, [a, b]: [usize; 2], width: usize) -> Vec<f64> {
    let mut turned = Vec::with_capacity(x.len());
    for row in 0..batch {
        for second in 0..b {
            for first in 0..a {
                let start = ((row * a + first) * b + second) * width;
                turned.extend_from_slice(&x[start..start + width]);
            }
        }
    }
    turned
}

/// Rotates each head of `x` `[batch * seq, heads * head_dim]` by its token's position plus `offset`.
pub(crate) fn rotate(
    config: &Qwen3Config,
    variant: &Variant,
    rows: &Rows,
    x: &[f64],
    offset: i64,
) -> Vec<f64> {
    if variant.rotation == Rotation::Missing {
        return x.to_vec();
    }
    let head_dim = config.head_dim;
    let turned_features = match variant.habit {
        Some(Habit::PartialRotary(features)) => features,
        _ => head_dim,
    };
    let half = turned_features / 2;
    let sign = if variant.habit == Some(Habit::SineNegated) { -1.0 } else { 1.0 };
    let arithmetic = variant.arithmetic;
    let frequencies = variant.rope.inverse_frequencies(turned_features);
    let factor = variant.rope.attention_factor();
    let positions = rows.positions.iter().flatten();
    let row = x.len() / positions.clone().count();
    let mut turned = x.to_vec();
    let seq = rows.dims()[1];
    for (index, (token, position)) in turned.chunks_mut(row).zip(positions).enumerate() {
        let position = match variant.cached {
            Some(cached) => cached.position(index % seq, *position),
            None => *position as i64,
        };
        let position = (position + offset) as f64;
        let angles = frequencies.iter().map(|f| (position * f).sin_cos());
        let table =
            |angle: f64| arithmetic.in_format(|held| held.rope, &[arithmetic.held(factor * angle)][..], 1)[0];
        let angles: Vec<_> = angles.map(|(sin, cos)| (sign * table(sin), table(cos))).collect();
        for head in token.chunks_mut(head_dim) {
            for (i, (sin, cos)) in angles.iter().enumerate() {
                let (a, b) = match variant.rotation {
                    Rotation::Interleaved => (2 * i, 2 * i + 1),
                    _ => (i, i + half),
                };
                let (low, high) = (head[a], head[b]);
                head[a] = arithmetic.held(low * cos) - arithmetic.held(high * sin);
                head[b] = arithmetic.held(high * cos) + arithmetic.held(low * sin);
            }
        }
    }
    arithmetic.round(arithmetic.in_format(|held| held.rotated, turned, head_dim).into_owned())
}
