use burn::module::{LoraAdapter, Module, Param};
use burn::tensor::Tensor;
use qwen3_kernels::copies_transposed;

use crate::norm::to_dtype;
use crate::{Kernel, WeightSource};

/// A linear map with the weight kept `[out, in]`, as the checkpoint stores it.
///
/// Follows `torch.nn.Linear`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// How products are computed.
    #[module(skip)]
    pub kernel: Kernel,
}

/// `x` `[tokens, in]` times the rows of each of `weights` `[out, in]`, side by side: `[tokens, sum of out]`.
pub(crate) fn joined(x: Tensor<2>, weights: Vec<Tensor<2>>, kernel: Kernel) -> Tensor<2> {
    kernel.joined(&x, &weights).unwrap_or_else(|| composed(x, weights))
}

/// Each of `linears` of `x` `[tokens, in]`: `[tokens, out]`, in their order.
///
/// What an adapter on a weight adds is computed beside the product ([`adapted`]), so that kernels compute with adapters,
/// too.
pub(crate) fn project<const N: usize>(linears: [&Linear; N], x: &Tensor<2>) -> [Tensor<2>; N] {
    let weights = linears.map(Linear::stored);
    let products = linears[0].kernel.products(x, &weights);
    let mut products = products.map(Vec::into_iter);
    let mut weights = weights.into_iter();
    linears.map(|linear| {
        let weight = weights.next().expect("a weight of each");
        let product = products.as_mut().map(|products| products.next().expect("a product of each"));
        let y = product.unwrap_or_else(|| composed(x.clone(), vec![weight])); // [tokens, out]
        let y = match &linear.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        match linear.weight.adapter() {
            Some(adapter) => adapted(y, x, adapter, linear.kernel),
            None => y,
        }
    })
}

/// The product `y` `[tokens, out]` of `x` `[tokens, in]` with what `adapter` adds to it: `scale * B (A x)`, of the same
/// shape and dtype.
///
/// Follows PEFT `lora.Linear.forward`: in the dtype of the factors, which is f32 also where the weight is narrower,
/// then in that of the weight. Burn's `LoraAdapter` is on the weight, its `a` `[out, r]` being PEFT's `lora_B` and its
/// `b` `[r, in]` PEFT's `lora_A`, because weights are `[out, in]` here. What Burn makes of it by itself, `Param::val`,
/// is the whole weight `base + scale * (a @ b)`, anew at every call: every decoded token would write all weights. The sum
/// is the same.
fn adapted(y: Tensor<2>, x: &Tensor<2>, adapter: &LoraAdapter, kernel: Kernel) -> Tensor<2> {
    let (b, a) = (adapter.a.val(), adapter.b.val());
    let (inside, outside) = (a.dtype(), y.dtype());
    let inner = joined(to_dtype(x.clone(), inside), vec![a], kernel); // [tokens, r]
    let change = joined(inner, vec![b], kernel) * adapter.scale; // [tokens, out]
    to_dtype(to_dtype(y, inside) + change, outside)
}

/// [`joined`], composed of Burn's own operations.
fn composed(x: Tensor<2>, weights: Vec<Tensor<2>>) -> Tensor<2> {
    let weights = weights.into_iter();
    if !copies_transposed(&x) {
        let products = weights.map(|weight| x.clone().matmul(weight.transpose()));
        return side_by_side(products.collect(), 1); // [tokens, sum of out]
    }
    let x = x.transpose(); // [in, tokens]
    let products = weights.map(|weight| weight.matmul(x.clone()));
    side_by_side(products.collect(), 0).transpose() // [tokens, sum of out]
}

/// The tensors joined along `axis`; one tensor is left alone.
fn side_by_side(mut tensors: Vec<Tensor<2>>, axis: usize) -> Tensor<2> {
    if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(tensors, axis) }
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
        let bias = bias.then(|| source.tensor(&format!("{prefix}.bias"), [out]));
        Ok(Self { kernel: source.kernel(), ..Self::new(weight, bias.transpose()?) })
    }

    /// A map with `weight` `[out, in]` and, where there is one, `bias` `[out]`.
    pub fn new(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
            kernel: Kernel::default(),
        }
    }

    /// The weight without what an adapter adds to it; with whatever else was made of it.
    fn stored(&self) -> Tensor<2> {
        if self.weight.adapter().is_some() { self.weight.base() } else { self.weight.val() }
    }

    /// Maps `x` `[tokens, in]` to `[tokens, out]`, in the dtype of the weight.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [y] = project([self], &x);
        y
    }

    /// [`forward`](Self::forward) over `[batch, seq, in]`, giving `[batch, seq, out]`.
    pub fn forward3(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, input] = x.dims();
        let y = self.forward(x.reshape([batch * seq, input])); // [batch * seq, out]
        let out = y.dims()[1];
        y.reshape([batch, seq, out]) // [batch, seq, out]
    }
}
