//! Kernels on flex against the same products composed of Burn's operations.
#![cfg(feature = "flex")]

use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_kernels::Kernel;

/// Numbers that follow no pattern, in `dtype`.
fn numbers(shape: [usize; 2], seed: f32, dtype: DType) -> Tensor<2> {
    let values = (0..shape[0] * shape[1]).map(|index| ((index as f32 + seed) * 12.9898).sin());
    let data = TensorData::new(values.collect::<Vec<_>>(), shape).convert_dtype(dtype);
    Tensor::from_data(data, (&Device::flex(), dtype))
}

/// In f32, of the values that the tensors have.
fn composed(x: &Tensor<2>, weight: &Tensor<2>) -> Vec<f32> {
    let wide = |tensor: &Tensor<2>| tensor.clone().cast(DType::F32);
    wide(x).matmul(wide(weight).transpose()).into_data().iter().collect()
}

fn assert_close(found: &Tensor<2>, expected: &[f32], dtype: DType) {
    let step = match dtype {
        DType::BF16 => 0.004,
        DType::F16 => 0.0005,
        _ => 1e-6,
    };
    assert_eq!(found.dtype(), dtype);
    let found: Vec<f32> = found.clone().into_data().iter().collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= step * (expected.abs() + 4.0), "{found}, not {expected}");
    }
}

#[test]
fn products_are_those_of_burns_operations() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (tokens, depth, outs) in [(1, 64, [64, 32, 32]), (5, 33, [7, 1, 19]), (70, 129, [40, 3, 8])] {
            let x = numbers([tokens, depth], 0.1, dtype);
            let weights = outs.map(|out| numbers([out, depth], out as f32, dtype));
            let expected = weights.each_ref().map(|weight| composed(&x, weight));
            let products = Kernel::Fast.products(&x, &weights).expect("flex has kernels");
            for (found, expected) in products.iter().zip(&expected) {
                assert_close(found, expected, dtype);
            }
            let joined = Kernel::Fast.joined(&x, &weights).expect("flex has kernels");
            let mut first = 0;
            for (out, expected) in outs.into_iter().zip(&expected) {
                assert_close(&joined.clone().narrow(1, first, out), expected, dtype);
                first += out;
            }
            assert_eq!(joined.dims(), [tokens, first]);
        }
    }
}

/// A view is multiplied as what it shows.
#[test]
fn views_are_read_by_their_strides() {
    let (dtype, whole) = (DType::F32, numbers([12, 20], 0.3, DType::F32));
    let x = whole.clone().narrow(0, 4, 3).narrow(1, 5, 9); // [3, 9]
    let weight = whole.transpose().narrow(0, 2, 6).narrow(1, 1, 9); // [6, 9]
    let [found] = &Kernel::Fast.products(&x, std::slice::from_ref(&weight)).expect("flex has kernels")[..]
    else {
        panic!("one weight has one product")
    };
    assert_close(found, &composed(&x, &weight), dtype);
}

#[test]
fn others_have_no_kernel() {
    let (x, weight) = (numbers([2, 4], 0.1, DType::F32), numbers([3, 4], 0.2, DType::F32));
    assert!(Kernel::Reference.products(&x, std::slice::from_ref(&weight)).is_none());
    assert!(Kernel::Reference.joined(&x, std::slice::from_ref(&weight)).is_none());
    let wide = numbers([2, 4], 0.1, DType::F64);
    assert!(Kernel::Fast.products(&wide, &[numbers([3, 4], 0.2, DType::F64)]).is_none());
}
