use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::{
    Attention, DecoderLayer, End, Kernel, KvCache, Qwen3Config, RmsNorm, RotaryEmbedding, Rows, Step,
    StepPlan, Tap, Taps, VocabMatrix, WeightSource,
};

/// Qwen3 with its language-model head.
///
/// Follows Transformers `Qwen3ForCausalLM` and `Qwen3MoeForCausalLM`; the field paths are the checkpoint's keys. Weights are
/// immutable and shared by clones; everything that changes while decoding is in
/// [`Session`](crate::Session).
#[derive(Module, Debug)]
pub struct Qwen3 {
    /// Embedding, layers and last norm.
    pub model: Qwen3Model,
    /// `[vocab_size, hidden_size]`; `None` when the embedding serves as the head.
    pub lm_head: Option<VocabMatrix>,
    /// What the weights were built from.
    #[module(skip)]
    pub config: Qwen3Config,
}

/// The decoder without its head; Transformers `Qwen3Model`.
#[derive(Module, Debug)]
pub struct Qwen3Model {
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: VocabMatrix,
    /// The decoder layers, first to last. They may lie on different devices.
    pub layers: Vec<DecoderLayer>,
    /// Applied once, after the last layer.
    pub norm: RmsNorm,
}

impl Qwen3 {
    /// Takes every weight of `config` from `source`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(source: &mut S, config: &Qwen3Config) -> Result<Self, S::Error> {
        let embed_tokens = VocabMatrix::embedding(source, config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::build(source, config, index))
            .collect::<Result<_, _>>()?;
        let norm = RmsNorm::last(source, config)?;
        let lm_head = VocabMatrix::head(source, config)?;
        Ok(Self { model: Qwen3Model { embed_tokens, layers, norm }, lm_head, config: config.clone() })
    }

    /// The same model, computing with `kernel`. Weights are shared, not copied.
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        let Qwen3Model { embed_tokens, layers, norm } = &mut self.model;
        embed_tokens.kernel = kernel;
        norm.kernel = kernel;
        if let Some(head) = &mut self.lm_head {
            head.kernel = kernel;
        }
        for layer in layers {
            let DecoderLayer { input_layernorm, self_attn, post_attention_layernorm, mlp } = layer;
            let Attention { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm, .. } = self_attn;
            mlp.set_kernel(kernel);
            for linear in [q_proj, k_proj, v_proj, o_proj] {
                linear.kernel = kernel;
            }
            for norm in [input_layernorm, post_attention_layernorm, q_norm, k_norm] {
                norm.kernel = kernel;
            }
        }
        self
    }

    /// Logits `[batch, seq, vocab_size]` of every position of unpadded `ids` `[batch, seq]`, without
    /// a cache. For training and for whole-sequence scoring; [`Session`](crate::Session) decodes.
    ///
    /// Every id must be below `vocab_size`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let hidden = self.encode(ids);
        self.logits(hidden, &mut Taps::none())
    }

    /// The output of the last norm, `[batch, seq, hidden_size]`, of every position of unpadded `ids`
    /// `[batch, seq]`, without a cache: the model as an encoder.
    ///
    /// Every id must be below `vocab_size`.
    pub fn encode(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = ids.dims();
        let rows = Rows::unpadded(batch, seq);
        let step = StepPlan::new(&self.config).uncached(&rows, &self.device());
        self.hidden(ids, &step, None, &mut Taps::none())
    }

    /// The output of the last norm, `[batch, seq, hidden_size]`, for `ids` `[batch, seq]`.
    pub fn hidden(
        &self,
        ids: Tensor<2, Int>,
        step: &Step,
        cache: Option<&mut KvCache>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let mut hidden = self.model.embed_tokens.embed(ids);
        taps.enter(None);
        taps.rank3(Tap::Embedding, &hidden);

        let mut here = self.device();
        let mut step = step.clone();
        let mut caches = cache.map(|cache| cache.layers.iter_mut());
        for (index, layer) in self.model.layers.iter().enumerate() {
            let device = layer.device();
            if device != here {
                hidden = hidden.to_device(&device);
                step = step.to_device(&device);
                here = device;
            }
            let cache = caches.as_mut().and_then(Iterator::next);
            taps.enter(Some(index));
            hidden = layer.forward(hidden, &step, cache, taps);
        }
        self.end().normed(hidden, taps)
    }

    /// Scores over the vocabulary, `[batch, seq, vocab_size]`, of `hidden` `[batch, seq, hidden_size]`.
    pub fn logits(&self, hidden: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        self.end().logits(hidden, taps)
    }

    /// The last norm and the head.
    pub fn end(&self) -> End<'_> {
        End { norm: &self.model.norm, head: self.lm_head.as_ref().unwrap_or(&self.model.embed_tokens) }
    }

    /// The rotary embedding of this model.
    pub fn rope(&self) -> RotaryEmbedding {
        RotaryEmbedding::new(self.config.head_dim, &self.config.rope)
    }

    /// The device that the embedding is on, where tokens are sent.
    pub fn device(&self) -> Device {
        self.model.embed_tokens.weight[0].device()
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.model.norm.weight.val().dtype()
    }
}
