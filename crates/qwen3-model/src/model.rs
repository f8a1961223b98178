use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use qwen3_config::ModelPart;

use crate::{
    Attention, DecoderLayer, DeviceMap, End, Extent, Kernel, KvCache, PlacedSource, Qwen3Config, RmsNorm,
    RotaryEmbedding, Rows, Step, StepPlan, Tap, Taps, VocabMatrix, WeightSource,
};

/// Qwen3 with its language-model head, or without, as models that embed texts may be.
///
/// Follows Transformers `Qwen3ForCausalLM` and `Qwen3MoeForCausalLM`; the field paths are the checkpoint's keys. Weights
/// are immutable and shared by clones; everything that changes while decoding is in
/// [`Session`](crate::Session).
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{DType, Device, Int, Tensor};
/// use qwen3_model::{Qwen3, Qwen3Config, RandomWeights};
/// let (device, config) = (Device::flex(), Qwen3Config::tiny());
/// let model = Qwen3::build(&mut RandomWeights::new(1, &device, DType::F32), &config).unwrap();
/// let ids = Tensor::<2, Int>::from_ints([[1, 2, 3]], &device);
/// assert_eq!(model.forward(ids.clone()).dims(), [1, 3, config.vocab_size]); // logits
/// assert_eq!(model.encode(ids).dims(), [1, 3, config.hidden_size]); // hidden states
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Qwen3 {
    /// Embedding, layers and last norm.
    pub model: Qwen3Model,
    /// `[vocab_size, hidden_size]`; `None` when the embedding serves as the head, and when there is no
    /// [`head`](Self::head). Of a tied model on several devices it is a copy of the embedding, where the head is
    /// computed ([`build_on`](Self::build_on)).
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
        Self::assemble(source, config, Extent::Whole, |_, _| {})
    }

    /// [`build`](Self::build), of so much of the model, with each part on the device that `map` has for it.
    ///
    /// Tokens go to the embedding's device, activations move where one device's layers end and another's begin, and
    /// logits come from the last device. Each layer's cache lies where the layer does, and cosines, sines and masks come
    /// from the host to each device. Kernels are used on those that have any ([`Kernel`]). A tied head that is not on
    /// the embedding's device is a copy of the embedding, which training would not keep equal.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// use burn::tensor::{DType, Device};
    /// use qwen3_model::{DeviceMap, Extent, Qwen3, Qwen3Config, RandomWeights};
    /// let (config, first, second) = (Qwen3Config::tiny(), Device::flex(), Device::flex());
    /// let map = DeviceMap::of_ranges([(0..=0, first.clone()), (1..=2, second)], config.num_hidden_layers).unwrap();
    /// let mut weights = RandomWeights::new(1, &first, DType::F32);
    /// let model = Qwen3::build_on(&mut weights, &config, Extent::Whole, &map).unwrap();
    /// assert_eq!(model.device(), first);
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the source.
    ///
    /// # Panics
    /// When `map` is of a model with fewer layers.
    pub fn build_on<S: PlacedSource>(
        source: &mut S,
        config: &Qwen3Config,
        extent: Extent,
        map: &DeviceMap,
    ) -> Result<Self, S::Error> {
        let mut model =
            Self::assemble(source, config, extent, |source, part| source.place(map.device(part)))?;
        let end = map.device(ModelPart::End);
        let shared = config.tie_word_embeddings;
        if shared && *end != model.device() {
            model.lm_head = Some(model.model.embed_tokens.copied_to(end));
        }
        Ok(model)
    }

    /// Takes the weights from `source`, which is told of each part before its weights are asked for, of the end last.
    fn assemble<S: WeightSource>(
        source: &mut S,
        config: &Qwen3Config,
        extent: Extent,
        place: impl Fn(&mut S, ModelPart),
    ) -> Result<Self, S::Error> {
        place(source, ModelPart::Embedding);
        let embed_tokens = VocabMatrix::embedding(source, config)?;
        let layer = |index| {
            place(source, ModelPart::Layer(index));
            DecoderLayer::build(source, config, index)
        };
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        place(source, ModelPart::End);
        let norm = RmsNorm::last(source, config)?;
        let lm_head = match extent {
            Extent::Whole => VocabMatrix::head(source, config)?,
            Extent::Encoder => None,
        };
        let model = Qwen3Model { embed_tokens, layers, norm };
        Ok(Self { model, lm_head, config: config.clone() })
    }

    /// What gives logits: the embedding, when it is tied, or a matrix of its own; `None` of a model without a head.
    pub fn head(&self) -> Option<&VocabMatrix> {
        let tied = self.config.tie_word_embeddings.then_some(&self.model.embed_tokens);
        self.lm_head.as_ref().or(tied)
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
    ///
    /// # Panics
    /// When the model has no [`head`](Self::head).
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
        let mut step = Cow::Borrowed(step);
        let mut caches = cache.map(|cache| cache.layers.iter_mut());
        for (index, layer) in self.model.layers.iter().enumerate() {
            let device = layer.device();
            if device != here {
                hidden = hidden.to_device(&device);
                step = Cow::Owned(step.to_device(&device));
                here = device;
            }
            let cache = caches.as_mut().and_then(Iterator::next);
            taps.enter(Some(index));
            hidden = layer.forward(hidden, &step, cache, taps);
        }
        self.end().normed(hidden, taps)
    }

    /// Scores over the vocabulary, `[batch, seq, vocab_size]`, of `hidden` `[batch, seq, hidden_size]`.
    ///
    /// # Panics
    /// When the model has no [`head`](Self::head).
    pub fn logits(&self, hidden: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        self.end().logits(hidden, taps)
    }

    /// The last norm and the head.
    pub fn end(&self) -> End<'_> {
        End { norm: &self.model.norm, head: self.head() }
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
