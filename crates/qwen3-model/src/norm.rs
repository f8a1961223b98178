use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use qwen3_config::FINAL_NORM;

use crate::{Kernel, Qwen3Config, WeightSource};

/// Root-mean-square normalisation over the last dimension.
///
/// Follows Transformers `Qwen3RMSNorm`: the input is cast up to f32, normalised, cast back, and only
/// then multiplied by the weight. In half precision that order of rounding matters.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[features]`
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square before the root; no unit.
    pub eps: f64,
    /// How it is computed.
    #[module(skip)]
    pub kernel: Kernel,
}

impl RmsNorm {
    /// Takes `{prefix}.weight` of shape `[features]`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        features: usize,
        eps: f64,
    ) -> Result<Self, S::Error> {
        let weight = source.tensor(&format!("{prefix}.weight"), [features])?;
        Ok(Self { weight: Param::from_tensor(weight), eps, kernel: source.kernel() })
    }

    /// The norm behind the last layer of a model of `config`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn last<S: WeightSource>(source: &mut S, config: &Qwen3Config) -> Result<Self, S::Error> {
        let prefix = FINAL_NORM.trim_end_matches(".weight");
        Self::build(source, prefix, config.hidden_size, config.rms_norm_eps)
    }

    /// Normalises `x` `[.., features]` over its last dimension; shape and dtype stay as they are.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let normed = self.kernel.rms_norm(&x, &weight, self.eps);
        normed.unwrap_or_else(|| self.composed(x, weight))
    }

    /// `residual + x`, both `[.., features]`, and the sum normalised.
    pub fn forward_sum<const D: usize>(&self, residual: Tensor<D>, x: Tensor<D>) -> [Tensor<D>; 2] {
        let weight = self.weight.val();
        self.kernel.add_rms_norm(&residual, &x, &weight, self.eps).unwrap_or_else(|| {
            let sum = residual + x;
            [sum.clone(), self.composed(sum, weight)]
        })
    }

    fn composed<const D: usize>(&self, x: Tensor<D>, weight: Tensor<1>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = to_dtype(x, DType::F32);
        let mean_square = x.clone().square().mean_dim(D - 1);
        let normalised = x * (mean_square + self.eps).sqrt().recip();
        to_dtype(normalised, dtype) * weight.unsqueeze()
    }
}

/// Casts only when there is something to cast.
pub(crate) fn to_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
