use burn::tensor::Tensor;
use qwen3_config::{Site, Tap};

/// An observed tensor; its rank is that of the [`Tap`].
#[derive(Clone, Debug)]
pub enum Observed {
    /// `[batch, seq, features]`
    Rank3(Tensor<3>),
    /// `[batch, seq, heads, head_dim]` or `[batch, heads, seq, head_dim]`
    Rank4(Tensor<4>),
}

/// Receives intermediate tensors while a model runs. Every closure of its form is one.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{DType, Device};
/// use qwen3_model::{
///     Logits, Observed, Qwen3, Qwen3Config, RandomWeights, Session, SessionOptions, Site, Taps,
/// };
/// let weights = &mut RandomWeights::new(1, &Device::flex(), DType::F32);
/// let model = Qwen3::build(weights, &Qwen3Config::tiny()).unwrap();
/// let options = SessionOptions { capacity: 32, ..Default::default() };
/// let mut session = Session::new(&model, options).unwrap();
/// let mut seen = Vec::new();
/// let mut look = |site: Site, _value: Observed| seen.push(site.to_string());
/// session.prefill_with(&[[1, 2, 3]], Logits::Last, &mut Taps::new(&mut look)).unwrap();
/// session.step_with(&[4], &mut Taps::new(&mut look)).unwrap();
/// assert_eq!(seen[..2], ["embedding_output", "layer_00.input_layernorm"]);
/// # }
/// ```
pub trait Observer {
    /// Called at every site in the order of computation. The tensor is a handle: nothing has been
    /// copied off the device. With a chunked prefill each site comes once per chunk.
    fn observe(&mut self, site: Site, value: Observed);
}

impl<F: FnMut(Site, Observed)> Observer for F {
    fn observe(&mut self, site: Site, value: Observed) {
        self(site, value)
    }
}

/// The way from the layers to an [`Observer`], if there is one. Without one, a tap is a branch.
pub struct Taps<'a> {
    observer: Option<&'a mut dyn Observer>,
    layer: Option<usize>,
}

impl<'a> Taps<'a> {
    /// Nobody looks.
    pub fn none() -> Self {
        Self { observer: None, layer: None }
    }

    /// `observer` sees every site.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self { observer: Some(observer), layer: None }
    }

    /// Sets the layer that the following taps belong to.
    pub(crate) fn enter(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Does anybody look?
    pub(crate) fn observed(&self) -> bool {
        self.observer.is_some()
    }

    pub(crate) fn rank3(&mut self, tap: Tap, value: &Tensor<3>) {
        if let Some(observer) = &mut self.observer {
            let layer = self.layer;
            observer.observe(Site { layer, tap }, Observed::Rank3(value.clone()));
        }
    }

    pub(crate) fn rank4(&mut self, tap: Tap, value: &Tensor<4>) {
        if let Some(observer) = &mut self.observer {
            let layer = self.layer;
            observer.observe(Site { layer, tap }, Observed::Rank4(value.clone()));
        }
    }
}
