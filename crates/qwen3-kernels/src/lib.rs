//! CPU kernels for Qwen3 as operations of Burn, through its backend extension.
//!
//! Each operation is a method of [`Kernel`]. It takes Burn's tensors and gives `None` where there is no kernel for
//! them: on another backend, under autodiff, in another dtype, or in a build without the backend's feature. The caller
//! then composes the operation of Burn's own, which is the reference. Kernels accumulate in f32 whatever the dtype.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(feature = "flex")]
mod flex;

use burn::tensor::Tensor;

/// How operations that have a kernel are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Composed of Burn's own operations, on every backend.
    Reference,
    /// By a kernel where there is one.
    #[default]
    Fast,
}

impl Kernel {
    /// `x` `[tokens, in]` times the rows of each of `weights` `[out, in]`: `[tokens, out]` each, in the dtype that all
    /// of them have. Weights are read where they lie. `None` where there is no kernel.
    ///
    /// # Panics
    /// When a weight has another number of columns than `x`, or another dtype.
    pub fn products(self, x: &Tensor<2>, weights: &[Tensor<2>]) -> Option<Vec<Tensor<2>>> {
        #[cfg(feature = "flex")]
        if self.applies(x) {
            return Some(flex::products(x, weights));
        }
        let _ = (x, weights);
        None
    }

    /// The [`products`](Self::products) side by side: `[tokens, sum of out]`.
    ///
    /// # Panics
    /// As `products`.
    pub fn joined(self, x: &Tensor<2>, weights: &[Tensor<2>]) -> Option<Tensor<2>> {
        #[cfg(feature = "flex")]
        if self.applies(x) {
            return Some(flex::joined(x, weights));
        }
        let _ = (x, weights);
        None
    }

    #[cfg(feature = "flex")]
    fn applies(self, x: &Tensor<2>) -> bool {
        self == Self::Fast && flex::computes(&x.clone().into_dispatch())
    }
}
