use std::f64::consts::TAU;

use crate::Rope;

impl Rope {
    /// The angle per token of each pair of features, in radians: `head_dim / 2` numbers in float64.
    ///
    /// Follows Transformers `modeling_rope_utils.py`: `_compute_linear_scaling_rope_parameters` for
    /// [`Rope::Linear`], `_compute_yarn_parameters` for [`Rope::Yarn`].
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f64> {
        let pairs = head_dim / 2;
        let theta = self.theta();
        let plain = (0..pairs).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
        let Self::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } = *self else {
            let factor = if let Self::Linear { factor, .. } = *self { factor } else { 1.0 };
            return plain.map(|frequency| frequency / factor).collect();
        };
        // The pair that turns so often within the original context.
        let pair = |turns: f64| head_dim as f64 * (original as f64 / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        let width = if low == high { 1e-3 } else { high - low };
        let blended = plain.enumerate().map(|(i, frequency)| {
            let stretched = ((i as f64 - low) / width).clamp(0.0, 1.0);
            frequency * (1.0 - stretched) + frequency / factor * stretched
        });
        blended.collect()
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match *self {
            Self::Default { .. } | Self::Linear { .. } => 1.0,
            Self::Yarn { attention_factor, .. } => attention_factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_frequencies(rope: Rope, expected: [f64; 8]) {
        let found = rope.inverse_frequencies(16);
        assert_eq!(found.len(), 8);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 2e-7, "{found} and {expected}");
        }
    }

    /// What Transformers 5.23.0 gives, in float32.
    #[test]
    fn yarn_is_that_of_transformers() {
        let rope = Rope::Yarn {
            theta: 1e6,
            factor: 4.0,
            original: 32_768,
            attention_factor: 0.1 * 4_f64.ln() + 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
        };
        assert_frequencies(
            rope,
            [
                1.0,
                0.17782793939113617,
                0.03162277862429619,
                0.004217559937387705,
                0.0005000000237487257,
                4.4456985051510856e-05,
                7.905693564680405e-06,
                1.405853367941745e-06,
            ],
        );
        assert!((rope.attention_factor() - 1.138629436111989).abs() < 1e-12);
        let rope = Rope::Yarn {
            theta: 1e4,
            factor: 4.0,
            original: 64,
            attention_factor: 1.25,
            beta_fast: 4.0,
            beta_slow: 0.5,
            truncate: false,
        };
        assert_frequencies(
            rope,
            [
                1.0,
                0.29152563214302063,
                0.05066439509391785,
                0.007905694656074047,
                0.0024999999441206455,
                0.0007905694656074047,
                0.0002500000118743628,
                7.905694656074047e-05,
            ],
        );
    }

    #[test]
    fn the_default_has_one_base() {
        let rope = Rope::Default { theta: 1e4 };
        assert_eq!(rope.inverse_frequencies(4), [1.0, 1e4_f64.powf(-0.5)]);
        assert_eq!(rope.attention_factor(), 1.0);
        let linear = Rope::Linear { theta: 1e4, factor: 4.0 };
        assert_eq!(linear.inverse_frequencies(4), [0.25, 1e4_f64.powf(-0.5) / 4.0]);
        assert_eq!(linear.attention_factor(), 1.0);
    }
}
