//! The kernels on Burn's flex backend.

use std::sync::{Arc, OnceLock};

use burn::backend::{BackendTensor, DispatchTensorKind, Flex};
use burn::tensor::{DType, Element, Tensor, TensorData};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use half::{bf16, f16};
use qwen3_cpu::{Attention, InstructionSet, Kernels, Matrix, RopeRounding, Rows, Threads, View};

use crate::{Projections, Visibility};

/// Is this a tensor of flex itself, in a dtype that kernels compute in?
pub fn computes<const D: usize>(x: &Tensor<D>) -> bool {
    // Nothing is copied: a tensor is a handle.
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) => {
            matches!(x.dtype(), DType::F32 | DType::BF16 | DType::F16)
        }
        #[allow(unreachable_patterns, reason = "which variants exist depends on the features")]
        _ => false,
    }
}

/// Calls a function of the element that a tensor has.
macro_rules! of_dtype {
    ($tensor:expr, $function:ident($($argument:expr),*)) => {
        match $tensor.dtype() {
            DType::F32 => $function::<f32>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            dtype => panic!("there is no kernel for {dtype:?}"),
        }
    };
}

pub fn products(x: &Tensor<2>, weights: &[Tensor<2>]) -> Vec<Tensor<2>> {
    let (x, weights) = (dense(x), weights.iter().map(dense).collect::<Vec<_>>());
    of_dtype!(x, products_of(&x, &weights))
}

fn products_of<E: Number>(x: &FlexTensor, weights: &[FlexTensor]) -> Vec<Tensor<2>> {
    let (tokens, matrices) = (x.layout().shape()[0], matrices::<E>(weights));
    let zeros = |matrix: &Matrix<E>| zeros(tokens * matrix.shape()[0]);
    let mut products: Vec<Vec<E>> = matrices.iter().map(zeros).collect();
    let mut outputs: Vec<&mut [E]> = products.iter_mut().map(Vec::as_mut_slice).collect();
    kernels().matmul(&matrices, values(x), tokens, &mut outputs);
    let shaped = matrices.iter().zip(products);
    shaped.map(|(matrix, y)| tensor(y, [tokens, matrix.shape()[0]])).collect()
}

pub fn joined(x: &Tensor<2>, weights: &[Tensor<2>]) -> Tensor<2> {
    let (x, weights) = (dense(x), weights.iter().map(dense).collect::<Vec<_>>());
    of_dtype!(x, joined_of(&x, &weights))
}

fn joined_of<E: Number>(x: &FlexTensor, weights: &[FlexTensor]) -> Tensor<2> {
    let (tokens, matrices) = (x.layout().shape()[0], matrices::<E>(weights));
    let out = matrices.iter().map(|matrix| matrix.shape()[0]).sum();
    let mut y = zeros::<E>(tokens * out);
    kernels().matmul_joined(&matrices, values(x), tokens, &mut y);
    tensor(y, [tokens, out])
}

pub fn rms_norm<const D: usize>(x: &Tensor<D>, weight: &Tensor<1>, eps: f64) -> Tensor<D> {
    let (shape, x, weight) = (x.dims(), dense(x), dense(weight));
    of_dtype!(x, rms_norm_of(&x, &weight, eps)).reshape(shape)
}

fn rms_norm_of<E: Number>(x: &FlexTensor, weight: &FlexTensor, eps: f64) -> Tensor<1> {
    let mut out = zeros::<E>(values::<E>(x).len());
    kernels().rms_norm(values(x), values(weight), eps as f32, &mut out);
    flat(out)
}

pub fn add_rms_norm<const D: usize>(
    residual: &Tensor<D>,
    x: &Tensor<D>,
    weight: &Tensor<1>,
    eps: f64,
) -> [Tensor<D>; 2] {
    assert_eq!(residual.dims(), x.dims(), "a residual of another shape");
    let (shape, residual, x, weight) = (x.dims(), dense(residual), dense(x), dense(weight));
    of_dtype!(x, add_rms_norm_of(&residual, &x, &weight, eps)).map(|flat| flat.reshape(shape))
}

fn add_rms_norm_of<E: Number>(
    residual: &FlexTensor,
    x: &FlexTensor,
    weight: &FlexTensor,
    eps: f64,
) -> [Tensor<1>; 2] {
    let mut sum = values::<E>(residual).to_vec();
    let mut out = zeros::<E>(sum.len());
    kernels().add_rms_norm(&mut sum, values(x), values(weight), eps as f32, &mut out);
    [sum, out].map(flat)
}

pub fn swiglu(gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "a gate of another shape");
    let (shape, gate, up) = (gate.dims(), dense(gate), dense(up));
    of_dtype!(gate, swiglu_of(&gate, &up)).reshape(shape)
}

fn swiglu_of<E: Number>(gate: &FlexTensor, up: &FlexTensor) -> Tensor<1> {
    let mut out = zeros::<E>(values::<E>(gate).len());
    kernels().swiglu_apart(values(gate), values(up), &mut out);
    flat(out)
}

pub fn attend(q: &Tensor<4>, k: &Tensor<4>, v: &Tensor<4>, visibility: &Visibility) -> Tensor<3> {
    let [batch, queries, heads, head_dim] = q.dims();
    let [kv_batch, kv_heads, _, kv_dim] = k.dims();
    assert_eq!([kv_batch, kv_dim], [batch, head_dim], "keys of other sequences, or of another size");
    assert_eq!(k.dims(), v.dims(), "values of another shape");
    let attention = Attention {
        batch,
        heads,
        kv_heads,
        head_dim,
        queries,
        start: visibility.start,
        visible: visibility.visible,
        window: visibility.window,
        scale: visibility.scale as f32,
    };
    let (q, k, v) = (dense(q), rows(k), rows(v));
    of_dtype!(q, attend_of(&attention, &q, &k, &v))
}

fn attend_of<E: Number>(a: &Attention, q: &FlexTensor, k: &FlexTensor, v: &FlexTensor) -> Tensor<3> {
    let mut out = zeros::<E>(a.batch * a.queries * a.heads * a.head_dim);
    let q = View::of_tokens(values(q), [a.queries, a.heads, a.head_dim]);
    kernels().attend(a, q, view(k), view(v), &mut out);
    tensor(out, [a.batch, a.queries, a.heads * a.head_dim])
}

pub fn write_heads(heads: &Projections, cache: [Tensor<4>; 2]) -> (Tensor<4>, [Tensor<4>; 2]) {
    let cache = cache.map(|tensor| {
        let tensor = flex(tensor);
        // The whole buffer is written to, from its first element on.
        let whole = tensor.is_contiguous() && tensor.bytes().len() == size_of_elements(&tensor);
        if whole { tensor } else { tensor.to_contiguous() }
    });
    let [keys, values] = cache;
    let (q, keys, values) = of_dtype!(keys, write_heads_of(heads, keys, values));
    (q, [keys, values].map(Tensor::from_primitive::<Flex>))
}

fn write_heads_of<E: Number>(
    heads: &Projections,
    mut keys: FlexTensor,
    mut values_: FlexTensor,
) -> (Tensor<4>, FlexTensor, FlexTensor) {
    let shape = keys.layout().shape().clone();
    let (batch, kv_heads, capacity, head_dim) = (shape[0], shape[1], shape[2], shape[3]);
    let [rows, width] = heads.q.dims();
    let [q, k, v] = [heads.q, heads.k, heads.v].map(dense);
    let [q_norm, k_norm] = [heads.q_norm, heads.k_norm].map(dense);
    let [cos, sin] = [heads.cos, heads.sin].map(dense);
    let (tokens, count) = (rows / batch, width / head_dim);
    let row = |x: &FlexTensor| x.layout().shape()[1];
    let step = qwen3_cpu::Heads {
        batch,
        tokens,
        heads: count,
        kv_heads,
        head_dim,
        q: Rows { data: values(&q), stride: row(&q) },
        k: Rows { data: values(&k), stride: row(&k) },
        v: Rows { data: values(&v), stride: row(&v) },
        q_norm: values(&q_norm),
        k_norm: values(&k_norm),
        eps: heads.eps as f32,
        cos: values(&cos),
        sin: values(&sin),
        rounding: RopeRounding::Once,
        start: heads.start,
        capacity,
    };
    let mut q_out = zeros::<E>(rows * width);
    kernels().write_heads(&step, &mut q_out, keys.storage_mut(), values_.storage_mut());
    (tensor(q_out, [batch, tokens, count, head_dim]), keys, values_)
}

/// What kernels compute with and tensors are made of.
trait Number: qwen3_cpu::Element + Element + Pod {}

impl<E: qwen3_cpu::Element + Element + Pod> Number for E {}

fn flex<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("all tensors of an operation are on flex")
}

/// A tensor's primitive, contiguous. Nothing is copied of what is contiguous, as weights are, though it be part of
/// something larger.
fn dense<const D: usize>(tensor: &Tensor<D>) -> FlexTensor {
    let tensor = flex(tensor.clone());
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// A tensor's primitive with contiguous rows of its last dimension, each where it lies.
fn rows(tensor: &Tensor<4>) -> FlexTensor {
    let tensor = flex(tensor.clone());
    let in_place = tensor.layout().inner_stride() == 1 && tensor.layout().has_positive_strides();
    if in_place { tensor } else { tensor.to_contiguous() }
}

fn view<E: Number>(tensor: &FlexTensor) -> View<'_, E> {
    let (layout, storage) = (tensor.layout(), tensor.storage::<E>());
    let stride = |dimension: usize| layout.strides()[dimension].unsigned_abs();
    View { data: &storage[layout.start_offset()..], strides: [stride(0), stride(1), stride(2)] }
}

fn size_of_elements(tensor: &FlexTensor) -> usize {
    tensor.layout().num_elements() * tensor.dtype().size()
}

fn zeros<E: Number>(length: usize) -> Vec<E> {
    vec![E::zeroed(); length]
}

fn tensor<E: Number, const D: usize>(values: Vec<E>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
}

fn flat<E: Number>(values: Vec<E>) -> Tensor<1> {
    let length = values.len();
    tensor(values, [length])
}

fn matrices<E: Number>(weights: &[FlexTensor]) -> Vec<Matrix<'_, E>> {
    weights.iter().map(matrix).collect()
}

fn matrix<E: Number>(weight: &FlexTensor) -> Matrix<'_, E> {
    let shape = weight.layout().shape();
    Matrix::new(values(weight), [shape[0], shape[1]])
}

/// The elements of a contiguous tensor.
///
/// # Panics
/// When it has another dtype.
fn values<E: Number>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().unwrap_or_else(|| panic!("{:?} where {:?} is", tensor.dtype(), E::dtype()))
}

/// Those of this process, on as many threads as Rayon has.
fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| {
        Kernels::new(InstructionSet::best(), Arc::new(Threads::new(rayon::current_num_threads())))
    })
}
