//! What a LoRA adapter adds to a projection, and the mistakes that are made in it.

use qwen3_checkpoint::{Adapter, AdapterConfig, Factors, Target};
use qwen3_config::Qwen3Config;

use crate::ops::{dot, each_chunk};
use crate::variant::Layout;

/// What an adapter adds to a product `W x`: `scale * B (A x)`, with PEFT's `lora_A` and `lora_B`.
#[derive(Clone, Debug)]
pub struct LowRank {
    factors: Factors,
    alpha: f64,
    use_rslora: bool,
}

/// How an adapter is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterUse {
    /// As PEFT does.
    Right,
    /// Not at all.
    Missing,
    /// Scaled by another number.
    Scaled(OtherScale),
    /// `(B A)` transposed, where it is square: A and B have taken each other's place.
    Transposed,
    /// Factors read in another layout.
    Read {
        /// That of `lora_A`, `[r, in]`.
        a: Layout,
        /// That of `lora_B`, `[out, r]`.
        b: Layout,
    },
}

/// A scale that is not the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherScale {
    /// 1.
    One,
    /// `alpha`.
    Alpha,
    /// `alpha / sqrt(r)` in the place of `alpha / r`, or the reverse.
    OtherRoot,
}

impl LowRank {
    /// What `adapter` adds to `target` of layer `layer`, if anything.
    pub fn of(adapter: &Adapter, layer: usize, target: Target) -> Option<Self> {
        let AdapterConfig { alpha, use_rslora, .. } = *adapter.config();
        let factors = adapter.factors(layer, target)?.clone();
        Some(Self { factors, alpha, use_rslora })
    }

    /// What is added to the product with each row of `x` `[tokens, in]`, in float64: `[tokens, out]`.
    pub fn change(&self, x: &[f64], used: AdapterUse) -> Vec<f64> {
        let Factors { a, b, rank } = &self.factors;
        let ([out, input], rank) = (self.factors.shape(), *rank);
        let (right, scale) = (Layout::OutIn, self.scale(used));
        let (a, b) = match used {
            AdapterUse::Read { a: of_a, b: of_b } => {
                (matrix(a, [rank, input], of_a), matrix(b, [out, rank], of_b))
            }
            AdapterUse::Transposed if out == input => {
                (transposed(b, [out, rank]), transposed(a, [rank, input]))
            }
            _ => (matrix(a, [rank, input], right), matrix(b, [out, rank], right)),
        };
        let inner = products(x, &a, input);
        let mut change = products(&inner, &b, rank);
        change.iter_mut().for_each(|value| *value *= scale);
        change
    }

    fn scale(&self, used: AdapterUse) -> f64 {
        let rank = self.factors.rank as f64;
        let divided = |by_root: bool| self.alpha / if by_root { rank.sqrt() } else { rank };
        match used {
            AdapterUse::Missing => 0.0,
            AdapterUse::Scaled(OtherScale::One) => 1.0,
            AdapterUse::Scaled(OtherScale::Alpha) => self.alpha,
            AdapterUse::Scaled(OtherScale::OtherRoot) => divided(!self.use_rslora),
            _ => divided(self.use_rslora),
        }
    }
}

/// Is any of what `adapter` adds to a model of `config` square?
pub fn any_square(adapter: &Adapter, config: &Qwen3Config) -> bool {
    let shapes = adapter.all().filter_map(|(layer, target, _)| target.shape(config, layer));
    shapes.into_iter().any(|[out, input]| out == input)
}

/// `[rows, columns]` values as they are taken when they are read in `layout`.
fn matrix(values: &[f32], [rows, columns]: [usize; 2], layout: Layout) -> Vec<f64> {
    let at = |row: usize, column: usize| match layout {
        Layout::OutIn => values[row * columns + column],
        Layout::InOut => values[column * rows + row],
        Layout::TransposedAsOutIn => {
            let flat = row * columns + column;
            values[flat % rows * columns + flat / rows]
        }
    };
    (0..rows * columns).map(|flat| f64::from(at(flat / columns, flat % columns))).collect()
}

/// `[rows, columns]` values the other way round, `[columns, rows]`.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|flat| f64::from(values[flat % rows * columns + flat / rows])).collect()
}

/// Every row of `x` `[tokens, input]` times every row of `weight` `[out, input]`: `[tokens, out]`.
fn products(x: &[f64], weight: &[f64], input: usize) -> Vec<f64> {
    let (tokens, out) = (x.len() / input, weight.len() / input);
    let mut products = vec![0.0; tokens * out];
    each_chunk(&mut products, out, tokens * weight.len(), |(token, row)| {
        let x = &x[token * input..(token + 1) * input];
        for (value, weight) in row.iter_mut().zip(weight.chunks(input)) {
            *value = dot(x, weight);
        }
    });
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `in` 3, `out` 2 or 3, rank 2.
    fn low_rank(b: &[f32]) -> LowRank {
        let factors = Factors { a: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], b: b.into(), rank: 2 };
        LowRank { factors, alpha: 6.0, use_rslora: false }
    }

    #[test]
    fn the_change_is_scale_times_b_times_a() {
        let wide = low_rank(&[1.0, 0.0, 0.0, 1.0]);
        let x = [1.0, 0.0, -1.0];
        // A x = [-2, -2]
        assert_eq!(wide.change(&x, AdapterUse::Right), [-6.0, -6.0]);
        assert_eq!(wide.change(&x, AdapterUse::Missing), [0.0, 0.0]);
        assert_eq!(wide.change(&x, AdapterUse::Scaled(OtherScale::One)), [-2.0, -2.0]);
        assert_eq!(wide.change(&x, AdapterUse::Scaled(OtherScale::Alpha)), [-12.0, -12.0]);
        let root = wide.change(&x, AdapterUse::Scaled(OtherScale::OtherRoot))[0];
        assert!((root + 12.0 / 2.0_f64.sqrt()).abs() < 1e-12, "{root}");
        // It has no transposed form.
        assert_eq!(wide.change(&x, AdapterUse::Transposed), [-6.0, -6.0]);
    }

    #[test]
    fn layouts_are_those_of_the_bytes() {
        let square = low_rank(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let x = [1.0, 0.0, 0.0];
        // (B A)^T's first column is B A's first row: [1, 2, 3].
        assert_eq!(square.change(&x, AdapterUse::Transposed), [3.0, 6.0, 9.0]);
        // The bytes of A as [in, r] are [[1, 2], [3, 4], [5, 6]]: A x is its first row.
        let read = AdapterUse::Read { a: Layout::InOut, b: Layout::OutIn };
        assert_eq!(square.change(&x, read), [3.0, 6.0, 9.0]);
        // A transposed is [[1, 4], [2, 5], [3, 6]], read as [[1, 4, 2], [5, 3, 6]]: A x is [1, 5].
        let read = AdapterUse::Read { a: Layout::TransposedAsOutIn, b: Layout::OutIn };
        assert_eq!(square.change(&x, read), [3.0, 15.0, 18.0]);
    }
}
