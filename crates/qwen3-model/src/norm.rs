use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use qwen3_config::FINAL_NORM;

use crate::{Qwen3Config, WeightSource};

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
        Ok(Self { weight: Param::from_tensor(weight), eps })
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
        let dtype = x.dtype();
        let x = to_dtype(x, DType::F32);
        let mean_square = x.clone().square().mean_dim(D - 1);
        let normalised = x * (mean_square + self.eps).sqrt().recip();
        to_dtype(normalised, dtype) * self.weight.val().unsqueeze()
    }
}

/// Casts only when there is something to cast.
pub(crate) fn to_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
