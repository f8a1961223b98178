//! The kernels on Burn's flex backend.

use std::sync::{Arc, OnceLock};

use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind, Flex};
use burn::tensor::{DType, Element, Tensor, TensorData};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use half::{bf16, f16};
use qwen3_cpu::{InstructionSet, Kernels, Matrix, Threads};

/// Is this a tensor of flex itself, in a dtype that kernels compute in?
pub fn computes(tensor: &DispatchTensor) -> bool {
    match &tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => {
            matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16)
        }
        #[allow(unreachable_patterns, reason = "which variants exist depends on the features")]
        _ => false,
    }
}

/// Calls a function of the element that a tensor has.
macro_rules! of_dtype {
    ($tensor:expr, $function:ident, $($argument:expr),*) => {
        match $tensor.dtype() {
            DType::F32 => $function::<f32>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            dtype => panic!("there is no kernel for {dtype:?}"),
        }
    };
}

/// `x` `[tokens, in]` times the rows of each of `weights` `[out, in]`.
pub fn products(x: &Tensor<2>, weights: &[Tensor<2>]) -> Vec<Tensor<2>> {
    let (x, weights) = (dense(x), weights.iter().map(dense).collect::<Vec<_>>());
    let products = of_dtype!(x, products_of, &x, &weights);
    products.into_iter().map(Tensor::from_primitive::<Flex>).collect()
}

/// The products side by side.
pub fn joined(x: &Tensor<2>, weights: &[Tensor<2>]) -> Tensor<2> {
    let (x, weights) = (dense(x), weights.iter().map(dense).collect::<Vec<_>>());
    Tensor::from_primitive::<Flex>(of_dtype!(x, joined_of, &x, &weights))
}

/// A tensor's primitive, contiguous. Nothing is copied of what is contiguous, as weights are, though it be part of
/// something larger.
fn dense(tensor: &Tensor<2>) -> FlexTensor {
    let tensor =
        tensor.clone().try_into_primitive::<Flex>().expect("all tensors of an operation are on flex");
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// What kernels compute with and tensors are made of.
trait Number: qwen3_cpu::Element + Element + Pod {}

impl<E: qwen3_cpu::Element + Element + Pod> Number for E {}

fn products_of<E: Number>(x: &FlexTensor, weights: &[FlexTensor]) -> Vec<FlexTensor> {
    let (tokens, matrices) = (x.layout().shape()[0], matrices::<E>(weights));
    let zeros = |matrix: &Matrix<E>| vec![E::zeroed(); tokens * matrix.shape()[0]];
    let mut products: Vec<Vec<E>> = matrices.iter().map(zeros).collect();
    let mut outputs: Vec<&mut [E]> = products.iter_mut().map(Vec::as_mut_slice).collect();
    kernels().matmul(&matrices, values(x), tokens, &mut outputs);
    let shaped = matrices.iter().zip(products);
    shaped.map(|(matrix, y)| tensor(y, [tokens, matrix.shape()[0]])).collect()
}

fn joined_of<E: Number>(x: &FlexTensor, weights: &[FlexTensor]) -> FlexTensor {
    let (tokens, matrices) = (x.layout().shape()[0], matrices::<E>(weights));
    let out = matrices.iter().map(|matrix| matrix.shape()[0]).sum();
    let mut y = vec![E::zeroed(); tokens * out];
    kernels().matmul_joined(&matrices, values(x), tokens, &mut y);
    tensor(y, [tokens, out])
}

fn tensor<E: Number>(values: Vec<E>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn matrices<E: Number>(weights: &[FlexTensor]) -> Vec<Matrix<'_, E>> {
    weights.iter().map(matrix).collect()
}

fn matrix<E: Number>(weight: &FlexTensor) -> Matrix<'_, E> {
    let shape = weight.layout().shape();
    Matrix::new(values(weight), [shape[0], shape[1]])
}

/// The elements of a contiguous tensor.
fn values<E: Number>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("it is contiguous")
}

/// Those of this process, on as many threads as Rayon has.
fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| {
        Kernels::new(InstructionSet::best(), Arc::new(Threads::new(rayon::current_num_threads())))
    })
}
