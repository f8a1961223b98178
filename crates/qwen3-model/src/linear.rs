use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::WeightSource;

/// A linear map with the weight kept `[out, in]`, as the checkpoint stores it.
///
/// Follows `torch.nn.Linear`. Computes `(W @ x^T)^T`: the large operand is contiguous and on the
/// left, which every backend multiplies without copying it.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Takes `{prefix}.weight` of shape `[out, in]`, and `{prefix}.bias` of shape `[out]` when
    /// `bias` is set.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        [out, input]: [usize; 2],
        bias: bool,
    ) -> Result<Self, S::Error> {
        let weight = source.tensor(&format!("{prefix}.weight"), [out, input])?;
        let bias = match bias {
            true => Some(source.tensor(&format!("{prefix}.bias"), [out])?),
            false => None,
        };
        Ok(Self {
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
        })
    }

    /// Maps `x` `[tokens, in]` to `[tokens, out]`, in the dtype of the weight.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = self.weight.val().matmul(x.transpose()).transpose(); // [tokens, out]
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// [`forward`](Self::forward) over `[batch, seq, in]`, giving `[batch, seq, out]`.
    pub fn forward3(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, input] = x.dims();
        let y = self.forward(x.reshape([batch * seq, input])); // [batch * seq, out]
        let out = y.dims()[1];
        y.reshape([batch, seq, out]) // [batch, seq, out]
    }
}
