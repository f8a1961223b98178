use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::WeightSource;

/// A linear map with the weight kept `[out, in]`, as the checkpoint stores it.
///
/// Follows `torch.nn.Linear`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// How the product is computed; follows from the device.
    pub input_first: bool,
}

/// Whether products on `device` are computed as `x @ W^T`, and not as `(W @ x^T)^T`.
///
/// On the CPU the large operand is best on the left, contiguous: ndarray copies a transposed weight on
/// every call. A device that compiles its kernels (and so has memory pools of its own) does not copy,
/// and with `W` on the left would compile another kernel for each remainder of the number of tokens,
/// by which it vectorises the output; with `x` on the left that is the weight's fixed size.
pub(crate) fn input_first(device: &Device) -> bool {
    device.memory_pool_usage().is_some()
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
        Ok(Self::new(weight, bias))
    }

    /// A map with `weight` `[out, in]` and, where there is one, `bias` `[out]`.
    pub fn new(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        Self {
            input_first: input_first(&weight.device()),
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
        }
    }

    /// Maps `x` `[tokens, in]` to `[tokens, out]`, in the dtype of the weight.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let y = match self.input_first {
            true => x.matmul(weight.transpose()), // [tokens, out]
            false => weight.matmul(x.transpose()).transpose(), // [tokens, out]
        };
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
