use burn::module::Module;
use burn::tensor::{Device, Tensor};

use qwen3_config::layer_key;

use crate::{
    Attention, FeedForward, LayerCache, Linear, Qwen3Config, RmsNorm, Step, Tap, Taps, WeightSource,
};

/// One decoder layer: attention and feed-forward, each behind a norm and added to the residual.
///
/// Follows Transformers `Qwen3DecoderLayer` and `Qwen3MoeDecoderLayer`.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Self-attention.
    pub self_attn: Attention,
    /// Before the feed-forward block.
    pub post_attention_layernorm: RmsNorm,
    /// Feed-forward block.
    pub mlp: FeedForward,
}

impl DecoderLayer {
    /// Takes the weights of layer `index` under `model.layers.{index}.`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        config: &Qwen3Config,
        index: usize,
    ) -> Result<Self, S::Error> {
        let kind = config.layer(index);
        let key = |name: &str| layer_key(index, name);
        let norm = |source: &mut S, name: &str| {
            RmsNorm::build(source, &key(name), config.hidden_size, config.rms_norm_eps)
        };
        let layer = Self {
            input_layernorm: norm(source, "input_layernorm")?,
            self_attn: Attention::build(source, &key("self_attn"), config, kind.reach)?,
            post_attention_layernorm: norm(source, "post_attention_layernorm")?,
            mlp: FeedForward::build(source, &key("mlp"), config, kind.feed_forward)?,
        };
        source.adapted(index, layer)
    }

    /// The linear map at `path` below the layer, spelled as in the checkpoint's keys: `self_attn.q_proj`; `None` where
    /// the layer has no such map. Those of experts are none.
    pub fn linear(&self, path: &str) -> Option<&Linear> {
        let attention = &self.self_attn;
        Some(match path {
            "self_attn.q_proj" => &attention.q_proj,
            "self_attn.k_proj" => &attention.k_proj,
            "self_attn.v_proj" => &attention.v_proj,
            "self_attn.o_proj" => &attention.o_proj,
            _ => match &self.mlp {
                FeedForward::Dense(mlp) => match path {
                    "mlp.gate_proj" => &mlp.gate_proj,
                    "mlp.up_proj" => &mlp.up_proj,
                    "mlp.down_proj" => &mlp.down_proj,
                    _ => return None,
                },
                FeedForward::Sparse(_) => return None,
            },
        })
    }

    /// [`linear`](Self::linear), to be changed.
    pub fn linear_mut(&mut self, path: &str) -> Option<&mut Linear> {
        let attention = &mut self.self_attn;
        Some(match path {
            "self_attn.q_proj" => &mut attention.q_proj,
            "self_attn.k_proj" => &mut attention.k_proj,
            "self_attn.v_proj" => &mut attention.v_proj,
            "self_attn.o_proj" => &mut attention.o_proj,
            _ => match &mut self.mlp {
                FeedForward::Dense(mlp) => match path {
                    "mlp.gate_proj" => &mut mlp.gate_proj,
                    "mlp.up_proj" => &mut mlp.up_proj,
                    "mlp.down_proj" => &mut mlp.down_proj,
                    _ => return None,
                },
                FeedForward::Sparse(_) => return None,
            },
        })
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape, in the dtype of the weights.
    pub fn forward(
        &self,
        x: Tensor<3>,
        step: &Step,
        cache: Option<&mut LayerCache>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.forward(x.clone());
        taps.rank3(Tap::InputLayernorm, &normed);
        let attended = self.self_attn.forward(normed, step, cache, taps);

        let [x, normed] = self.post_attention_layernorm.forward_sum(x, attended);
        taps.rank3(Tap::PostAttentionLayernorm, &normed);
        let mlp = self.mlp.forward(normed, taps);
        taps.rank3(Tap::Mlp, &mlp);

        let output = x + mlp;
        taps.rank3(Tap::LayerOutput, &output);
        output
    }

    /// The device that the layer's weights are on.
    pub fn device(&self) -> Device {
        self.input_layernorm.weight.device()
    }
}
