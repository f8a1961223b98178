//! CPU kernels for Qwen3 as operations of Burn.
//!
//! Each operation is a method of [`Kernel`]. It takes Burn's tensors and gives `None` where there is no kernel for
//! them: on another backend, under autodiff, in another dtype, or in a build without the backend's feature. The caller
//! then composes the operation of Burn's own, which is the reference. Kernels accumulate in f32 whatever the dtype.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod attention;
#[cfg(feature = "flex")]
mod flex;
mod layout;

use burn::tensor::Tensor;
use qwen3_config::Kernels;

pub use attention::{Projections, Visibility};
pub use layout::copies_transposed;

/// How operations that have a kernel are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Composed of Burn's own operations, on every backend.
    Reference,
    /// By a kernel where there is one.
    #[default]
    Fast,
}

impl From<Kernels> for Kernel {
    fn from(kernels: Kernels) -> Self {
        match kernels {
            Kernels::On => Self::Fast,
            Kernels::Off => Self::Reference,
        }
    }
}

/// What a function of `flex` gives where there is a kernel for operations on the tensor named first.
macro_rules! on_flex {
    ($kernel:expr, $x:expr, $function:ident($($argument:expr),*)) => {{
        #[cfg(feature = "flex")]
        {
            $kernel.computes($x).then(|| flex::$function($($argument),*))
        }
        #[cfg(not(feature = "flex"))]
        {
            let _ = ($kernel, $x, $($argument),*);
            None
        }
    }};
}

impl Kernel {
    /// `x` `[tokens, in]` times the rows of each of `weights` `[out, in]`: `[tokens, out]` each, in the dtype that all
    /// of them have. Weights are read where they lie. `None` where there is no kernel.
    ///
    /// # Panics
    /// When a weight has another number of columns than `x`, or another dtype.
    pub fn products(self, x: &Tensor<2>, weights: &[Tensor<2>]) -> Option<Vec<Tensor<2>>> {
        on_flex!(self, x, products(x, weights))
    }

    /// The [`products`](Self::products) side by side: `[tokens, sum of out]`.
    ///
    /// # Panics
    /// As `products`.
    pub fn joined(self, x: &Tensor<2>, weights: &[Tensor<2>]) -> Option<Tensor<2>> {
        on_flex!(self, x, joined(x, weights))
    }

    /// `x` `[.., features]` normalised over its last dimension in f32, cast back, and multiplied by `weight`
    /// `[features]`; `eps` is added to the mean square. `None` where there is no kernel.
    ///
    /// # Panics
    /// When `weight` has another length or dtype.
    pub fn rms_norm<const D: usize>(self, x: &Tensor<D>, weight: &Tensor<1>, eps: f64) -> Option<Tensor<D>> {
        on_flex!(self, x, rms_norm(x, weight, eps))
    }

    /// `residual + x`, both `[.., features]`, and its [`rms_norm`](Self::rms_norm).
    ///
    /// # Panics
    /// As `rms_norm`, and when the shapes differ.
    pub fn add_rms_norm<const D: usize>(
        self,
        residual: &Tensor<D>,
        x: &Tensor<D>,
        weight: &Tensor<1>,
        eps: f64,
    ) -> Option<[Tensor<D>; 2]> {
        on_flex!(self, x, add_rms_norm(residual, x, weight, eps))
    }

    /// `silu(gate) * up` of tensors of one shape. `None` where there is no kernel.
    ///
    /// # Panics
    /// When shapes or dtypes differ.
    pub fn swiglu(self, gate: &Tensor<2>, up: &Tensor<2>) -> Option<Tensor<2>> {
        on_flex!(self, gate, swiglu(gate, up))
    }

    /// Is there a kernel for operations on `x`?
    pub fn computes<const D: usize>(self, x: &Tensor<D>) -> bool {
        #[cfg(feature = "flex")]
        return self == Self::Fast && flex::computes(x);
        #[cfg(not(feature = "flex"))]
        {
            let _ = x;
            false
        }
    }

    /// Attention of `q` `[batch, seq, heads, head_dim]` over the first slots of `k` and `v`
    /// `[batch, kv_heads, slots, head_dim]`, which are read where they lie: `[batch, seq, heads * head_dim]`. Scores,
    /// softmax and weights stay in f32; what sees nothing gets zeros.
    ///
    /// # Panics
    /// Where no kernel [`computes`](Self::computes), and when shapes or dtypes do not fit one another and `visibility`.
    pub fn attend(self, q: &Tensor<4>, k: &Tensor<4>, v: &Tensor<4>, visibility: &Visibility) -> Tensor<3> {
        on_flex!(self, q, attend(q, k, v, visibility)).expect(NO_KERNEL)
    }

    /// Normalises and rotates projected queries, `[batch, seq, heads, head_dim]`, and keys, and writes keys and
    /// values to a cache `[batch, kv_heads, capacity, head_dim]`, whose tensors come back, too. They are written in
    /// place when nobody else holds them.
    ///
    /// # Panics
    /// As [`attend`](Self::attend).
    pub fn write_heads(self, heads: &Projections, cache: [Tensor<4>; 2]) -> (Tensor<4>, [Tensor<4>; 2]) {
        on_flex!(self, heads.q, write_heads(heads, cache)).expect(NO_KERNEL)
    }
}

const NO_KERNEL: &str = "a kernel is asked for where there is one";
