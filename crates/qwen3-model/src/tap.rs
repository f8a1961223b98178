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

/// Receives intermediate tensors while a model runs.
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
