//! The operations that a layer is made of.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::arithmetic::Arithmetic;
use crate::variant::{Activation, Layout};
use crate::weights::Projection;

/// RMSNorm of each `weight.len()` values of `x`; `offset` is added to the weight.
pub fn rms_norm(x: &[f64], weight: &[f32], eps: f64, offset: f64, arithmetic: Arithmetic) -> Vec<f64> {
    let mut normed = x.to_vec();
    for group in normed.chunks_mut(weight.len()) {
        let mean_square = arithmetic.squares(group) / group.len() as f64;
        let factor = arithmetic.inside(1.0 / (mean_square + eps).sqrt());
        group.iter_mut().for_each(|x| *x *= factor);
    }
    let mut normed = arithmetic.round(normed);
    for group in normed.chunks_mut(weight.len()) {
        for (x, weight) in group.iter_mut().zip(weight) {
            *x *= arithmetic.held(f64::from(*weight) + offset);
        }
    }
    arithmetic.round(normed)
}

/// The activation of `x`.
pub fn activate(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluErf => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// The sum, element by element.
pub fn add(a: &[f64], b: &[f64], arithmetic: Arithmetic) -> Vec<f64> {
    let sum: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
    let width = sum.len().max(1);
    arithmetic.round(arithmetic.in_format(|held| held.residual, sum, width).into_owned())
}

/// The product of two rows.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>();
    sums.iter().sum::<f64>() + rest
}

/// Fills `values` a chunk at a time, on all processors where that takes so many `products` that they are faster than
/// waking them is.
pub fn each_chunk(
    values: &mut [f64],
    size: usize,
    products: usize,
    fill: impl Fn((usize, &mut [f64])) + Send + Sync,
) {
    const MANY: usize = 1 << 18;
    if products < MANY {
        values.chunks_mut(size).enumerate().for_each(fill);
    } else {
        values.par_chunks_mut(size).enumerate().for_each(fill);
    }
}

impl Projection {
    /// The product with every row of `x` `[tokens, in]`, bias added: `[tokens, out]`.
    pub fn apply(&self, x: &[f64], layout: Layout, arithmetic: Arithmetic) -> Vec<f64> {
        let (out, input) = (self.out, self.input);
        let tokens = x.len() / input;
        let x = &arithmetic.in_format(|held| held.activations, x, input)[..];
        let narrow = x.iter().filter(|_| arithmetic.is_narrow());
        let x_narrow: Vec<f32> = narrow.map(|x| *x as f32).collect();
        // One row of the weight at a time, for all tokens: [out, tokens].
        let mut product = vec![0.0; out * tokens];
        each_chunk(&mut product, tokens, out * input * tokens, |(o, product)| {
            let bias = self.bias.as_ref().map_or(0.0, |bias| arithmetic.held(f64::from(bias[o])));
            let row = self.row(o, layout);
            if arithmetic.is_narrow() {
                let row = arithmetic.held_narrow(row);
                for (product, x) in product.iter_mut().zip(x_narrow.chunks(input)) {
                    *product = arithmetic.dot_narrow(&row, x) + bias;
                }
            } else {
                let row: Vec<f64> = row.iter().map(|weight| f64::from(*weight)).collect();
                let row = arithmetic.in_format(|held| held.weights, row, input);
                for (product, x) in product.iter_mut().zip(x.chunks(input)) {
                    *product = dot(&row, x) + bias;
                }
            }
        });
        let mut output = Vec::with_capacity(product.len());
        for token in 0..tokens {
            output.extend((0..out).map(|o| product[o * tokens + token]));
        }
        arithmetic.round(output)
    }

    /// The weights of one output.
    fn row(&self, o: usize, layout: Layout) -> Cow<'_, [f32]> {
        let (out, input) = (self.out, self.input);
        match layout {
            Layout::OutIn => self.weight[o * input..(o + 1) * input].into(),
            Layout::InOut => (0..input).map(|i| self.weight[i * out + o]).collect(),
            Layout::TransposedAsOutIn => (o * input..(o + 1) * input)
                .map(|flat| self.weight[flat % out * input + flat / out])
                .collect(),
        }
    }
}
