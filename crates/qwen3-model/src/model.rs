use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::{
    DecoderLayer, KvCache, Qwen3Config, RmsNorm, RotaryEmbedding, Step, Tap, Taps, VocabMatrix,
    WeightSource,
};

/// Qwen3 with its language-model head.
///
/// Follows Transformers `Qwen3ForCausalLM`; the field paths are the checkpoint's keys. Weights are
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
        let vocab = [config.vocab_size, config.hidden_size];
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let embed_tokens = VocabMatrix::build(source, "model.embed_tokens.weight", vocab)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::build(source, config, index))
            .collect::<Result<_, _>>()?;
        let norm = RmsNorm::build(source, "model.norm", hidden, eps)?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(VocabMatrix::build(source, "lm_head.weight", vocab)?),
        };
        Ok(Self {
            model: Qwen3Model {
                embed_tokens,
                layers,
                norm,
            },
            lm_head,
            config: config.clone(),
        })
    }

    /// Logits `[batch, seq, vocab_size]` of every position of unpadded `ids` `[batch, seq]`, without
    /// a cache. For training and for whole-sequence scoring; [`Session`](crate::Session) decodes.
    ///
    /// Every id must be below `vocab_size`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = ids.dims();
        let positions = vec![(0..seq).collect::<Vec<_>>(); batch];
        let visible = vec![vec![true; seq]; batch];
        let step = Step::uncached(&self.rope(), &positions, &visible, &self.device());
        let hidden = self.hidden(ids, &step, None, &mut Taps::none());
        self.logits(hidden, &mut Taps::none())
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
        taps.enter(None);

        let device = self.model.norm.weight.device();
        let hidden = match device == here {
            true => hidden,
            false => hidden.to_device(&device),
        };
        let hidden = self.model.norm.forward(hidden);
        taps.rank3(Tap::FinalNorm, &hidden);
        hidden
    }

    /// Scores over the vocabulary, `[batch, seq, vocab_size]`, of `hidden` `[batch, seq, hidden_size]`.
    pub fn logits(&self, hidden: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        let [batch, seq, features] = hidden.dims();
        let head = self.lm_head.as_ref().unwrap_or(&self.model.embed_tokens);
        let hidden = hidden
            .reshape([batch * seq, features]) // [batch * seq, hidden_size]
            .to_device(&head.weight[0].device());
        let logits = head.logits(hidden); // [batch * seq, vocab_size]
        let vocab = logits.dims()[1];
        let logits = logits.reshape([batch, seq, vocab]); // [batch, seq, vocab_size]
        taps.rank3(Tap::Logits, &logits);
        logits
    }

    /// The rotary embedding of this model.
    pub fn rope(&self) -> RotaryEmbedding {
        RotaryEmbedding::new(self.config.head_dim, self.config.rope_theta)
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
