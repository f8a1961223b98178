//! The norms over `hidden_size`, and which of all norms add one to their weights.

use qwen3_config::Tap;

use crate::ops::rms_norm;
use crate::probe::LayerTaps;
use crate::variant::{Variant, WeightOffset};
use crate::weights::LayerWeights;
use crate::wiring::NormPlace;

/// One of a layer's two norms over `hidden_size`.
pub struct LayerNorm<'a> {
    tap: Tap,
    place: NormPlace,
    weight: &'a [f32],
    variant: &'a Variant,
}

impl<'a> LayerNorm<'a> {
    /// `input_layernorm`.
    pub fn of_attention(weights: &'a LayerWeights, variant: &'a Variant) -> Self {
        let place = variant.wiring.attention_norm;
        Self { tap: Tap::InputLayernorm, place, weight: &weights.input_layernorm, variant }
    }

    /// `post_attention_layernorm`.
    pub fn of_mlp(weights: &'a LayerWeights, variant: &'a Variant) -> Self {
        let weight = if variant.post_norm_is_input_norm {
            &weights.input_layernorm
        } else {
            &weights.post_attention_layernorm
        };
        Self { tap: Tap::PostAttentionLayernorm, place: variant.wiring.mlp_norm, weight, variant }
    }

    /// What becomes of `x` `[batch * seq, hidden_size]` at a place: its norm is kept as a tap where that stands there.
    /// One that is missing stands before its block and changes nothing.
    pub fn at(&self, place: NormPlace, x: Vec<f64>, taps: &mut LayerTaps) -> Vec<f64> {
        let missing = self.place == NormPlace::Missing && place == NormPlace::Before;
        if self.place != place && !missing {
            return x;
        }
        let x = if missing { x } else { hidden_norm(&x, self.weight, self.variant) };
        taps.keep(self.tap, &x);
        x
    }
}

/// The norm of `variant` over `hidden_size`.
fn hidden_norm(x: &[f64], weight: &[f32], variant: &Variant) -> Vec<f64> {
    let x = variant.before_norm(x, weight.len(), false);
    rms_norm(&x, weight, variant.eps, norm_offset(variant, false), variant.arithmetic)
}

/// What is added to the weights of the norms of heads, or of those over `hidden_size`.
pub fn norm_offset(variant: &Variant, head: bool) -> f64 {
    let on = match variant.weight_offset {
        WeightOffset::None => false,
        WeightOffset::All => true,
        WeightOffset::Hidden => !head,
        WeightOffset::Heads => head,
    };
    f64::from(u8::from(on))
}

/// The final norm of `variant`, as often as it is applied, to `x` `[batch * seq, hidden_size]`.
pub fn final_norm(x: &[f64], weight: &[f32], variant: &Variant) -> Vec<f64> {
    (0..variant.final_norms).fold(x.to_vec(), |x, _| hidden_norm(&x, weight, variant))
}
