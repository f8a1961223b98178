//! Kernels on flex against Burn's operations and float64.
#![cfg(feature = "flex")]

use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_kernels::{Kernel, Projections, Visibility};

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

fn of_dtypes(test: impl Fn(DType)) {
    [DType::F32, DType::BF16, DType::F16].into_iter().for_each(test);
}

/// In f64, of the values that the tensor has.
fn wide<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.clone().into_data().iter().collect()
}

/// Rows of `x` normalised, rounded where Transformers rounds, of rows as long as `weight`.
fn normed(x: &[f64], weight: &[f64], dtype: DType) -> Vec<f32> {
    let round = |value: f64| -> f64 {
        TensorData::new(vec![value as f32], [1]).convert_dtype(dtype).iter().next().expect("one value")
    };
    let row = |x: &[f64]| -> Vec<f32> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + EPS).sqrt();
        x.iter().zip(weight).map(|(x, weight)| (round(x * factor) * weight) as f32).collect()
    };
    x.chunks_exact(weight.len()).flat_map(row).collect()
}

const EPS: f64 = 0.01;

#[test]
fn norms_are_those_of_transformers() {
    of_dtypes(|dtype| {
        for shape in [[1, 64], [3, 7], [40, 33]] {
            let (x, residual) = (numbers(shape, 0.1, dtype), numbers(shape, 0.7, dtype));
            let weight = numbers([1, shape[1]], 0.4, dtype).reshape([shape[1]]);
            let found = Kernel::Fast.rms_norm(&x, &weight, EPS).expect("flex has kernels");
            assert_close(&found, &normed(&wide(&x), &wide(&weight), dtype), dtype);
            let found = Kernel::Fast.add_rms_norm(&residual, &x, &weight, EPS);
            let [sum, found] = found.expect("flex has kernels");
            assert_eq!(sum.to_data(), (residual + x).to_data());
            assert_close(&found, &normed(&wide(&sum), &wide(&weight), dtype), dtype);
        }
    });
}

#[test]
fn gates_are_those_of_transformers() {
    of_dtypes(|dtype| {
        let (gate, up) = (numbers([5, 37], 0.1, dtype) * 9.0, numbers([5, 37], 0.7, dtype));
        let found = Kernel::Fast.swiglu(&gate, &up).expect("flex has kernels");
        let silu = |x: &f64| x / (1.0 + (-x).exp());
        let expected: Vec<f32> =
            wide(&gate).iter().zip(wide(&up)).map(|(gate, up)| (silu(gate) * up) as f32).collect();
        assert_close(&found, &expected, dtype);
    });
}

const BATCH: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 6;
const CAPACITY: usize = 30;

fn heads(rows: usize, heads: usize, seed: f32, dtype: DType) -> Tensor<2> {
    numbers([rows, heads * HEAD_DIM], seed, dtype)
}

/// A cache `[batch, kv_heads, capacity, head_dim]`.
fn cache(seed: f32, dtype: DType) -> Tensor<4> {
    heads(BATCH * CAPACITY, KV_HEADS, seed, dtype).reshape([BATCH, KV_HEADS, CAPACITY, HEAD_DIM])
}

#[test]
fn attention_sees_what_is_visible() {
    const SEQ: usize = 3;
    // Padding before the tokens, and between them.
    let visible = [vec![true; CAPACITY], (0..CAPACITY).map(|slot| slot > 1 && slot % 5 != 0).collect()];
    of_dtypes(|dtype| {
        for (start, window, visible) in
            [(0, None, &[][..]), (20, Some(7), &[]), (20, None, &visible), (6, Some(4), &visible)]
        {
            let q = heads(BATCH * SEQ, HEADS, 0.1, dtype).reshape([BATCH, SEQ, HEADS, HEAD_DIM]);
            let (k, v) = (cache(0.2, dtype), cache(0.3, dtype));
            let visibility = Visibility { start, visible, window, scale: 0.5 };
            let found = Kernel::Fast.attend(&q, &k, &v, &visibility);
            let (wide_q, wide_k, wide_v) = (wide(&q), wide(&k), wide(&v));
            let slot = |b: usize, head: usize, slot: usize| {
                let first = ((b * KV_HEADS + head) * CAPACITY + slot) * HEAD_DIM;
                first..first + HEAD_DIM
            };
            let mut expected = Vec::new();
            for row in 0..BATCH * SEQ * HEADS {
                let (b, query, head) =
                    (row / (SEQ * HEADS), row / HEADS % SEQ, row % HEADS / (HEADS / KV_HEADS));
                let own = start + query;
                let sees = |key: &usize| {
                    window.is_none_or(|window| own - key < window)
                        && visible.get(b).is_none_or(|visible| visible[*key])
                };
                let keys: Vec<usize> = (0..=own).filter(sees).collect();
                let q = &wide_q[row * HEAD_DIM..][..HEAD_DIM];
                let score = |key: &usize| {
                    let k = &wide_k[slot(b, head, *key)];
                    (0.5 * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>()).exp()
                };
                let weights: Vec<f64> = keys.iter().map(score).collect();
                let total: f64 = weights.iter().sum();
                let sum = |feature: usize| -> f64 {
                    let terms = keys.iter().zip(&weights);
                    terms.map(|(key, weight)| weight * wide_v[slot(b, head, *key)][feature]).sum()
                };
                let values = (0..HEAD_DIM).map(sum);
                expected.extend(values.map(|sum| if keys.is_empty() { 0.0 } else { (sum / total) as f32 }));
            }
            let found = found.reshape([BATCH * SEQ, HEADS * HEAD_DIM]);
            assert_close(&found, &expected, dtype);
        }
    });
}

/// A cache that is a part of something larger, and one whose features do not lie side by side.
#[test]
fn caches_are_read_by_their_strides() {
    let q = heads(BATCH, HEADS, 0.1, DType::F32).reshape([BATCH, 1, HEADS, HEAD_DIM]);
    let (k, v) = (cache(0.2, DType::F32), cache(0.3, DType::F32));
    let visibility = Visibility { start: 9, visible: &[], window: None, scale: 0.5 };
    let expected = Kernel::Fast.attend(&q, &k, &v, &visibility).to_data();
    let turned = |x: &Tensor<4>| x.clone().swap_dims(1, 3).mul_scalar(1.0).swap_dims(1, 3);
    let part = |x: &Tensor<4>| x.clone().narrow(2, 0, 10);
    assert_eq!(Kernel::Fast.attend(&q, &part(&k), &part(&v), &visibility).to_data(), expected);
    assert_eq!(Kernel::Fast.attend(&q, &turned(&k), &turned(&v), &visibility).to_data(), expected);
}

#[test]
fn heads_are_normed_turned_and_written_in_place() {
    const SEQ: usize = 3;
    let (rows, start) = (BATCH * SEQ, 4);
    of_dtypes(|dtype| {
        let [q, k, v] = [(HEADS, 0.1), (KV_HEADS, 0.2), (KV_HEADS, 0.3)]
            .map(|(count, seed)| heads(rows, count, seed, dtype));
        let norm = |seed| heads(1, 1, seed, dtype).reshape([HEAD_DIM]);
        let (q_norm, k_norm) = (norm(0.4), norm(0.5));
        let angles = numbers([rows, HEAD_DIM / 2], 0.6, DType::F32) * 9.0;
        let table = |x: Tensor<2>| x.reshape([BATCH, 1, SEQ, HEAD_DIM / 2]);
        let (cos, sin) = (table(angles.clone().cos()), table(angles.sin()));
        let step = Projections {
            q: &q,
            k: &k,
            v: &v,
            q_norm: &q_norm,
            k_norm: &k_norm,
            eps: EPS,
            cos: &cos,
            sin: &sin,
            start,
        };
        let turned = |x: &Tensor<2>, norm: &Tensor<1>| -> Vec<f32> {
            let (norm, count) = (wide(norm), x.dims()[1] / HEAD_DIM);
            let (cos, sin) = (wide(&cos), wide(&sin));
            let round = |x: Vec<f32>| TensorData::new(x, [rows * count * HEAD_DIM]).convert_dtype(dtype);
            let x: Vec<f64> = round(normed(&wide(x), &norm, dtype)).iter().collect();
            let half = HEAD_DIM / 2;
            (0..x.len())
                .map(|index| {
                    let (head, feature) = (index / HEAD_DIM, index % HEAD_DIM);
                    let angle = head / count * half + feature % half;
                    let other = x[head * HEAD_DIM + (feature + half) % HEAD_DIM];
                    let other = if feature < half { -other } else { other };
                    (x[index] * cos[angle] + other * sin[angle]) as f32
                })
                .collect()
        };
        let old = [cache(0.8, dtype), cache(0.9, dtype)];
        let new = [0..BATCH, 0..KV_HEADS, start..start + SEQ, 0..HEAD_DIM];
        let lines = |x: Tensor<4>| x.swap_dims(1, 2).reshape([rows, KV_HEADS * HEAD_DIM]);
        // In place, and where somebody else holds the cache.
        for held in [false, true] {
            let cache = [cache(0.8, dtype), cache(0.9, dtype)];
            let kept = held.then(|| cache.clone());
            let (found, [keys, values]) = Kernel::Fast.write_heads(&step, cache);
            assert_eq!(found.dims(), [BATCH, SEQ, HEADS, HEAD_DIM]);
            let found = found.reshape([rows, HEADS * HEAD_DIM]);
            assert_close(&found, &turned(&q, &q_norm), dtype);
            assert_close(&lines(keys.clone().slice(new.clone())), &turned(&k, &k_norm), dtype);
            assert_eq!(lines(values.clone().slice(new.clone())).to_data(), v.to_data());
            for (now, old) in [&keys, &values].into_iter().zip(&old) {
                for others in [0..start, start + SEQ..CAPACITY] {
                    let part = [0..BATCH, 0..KV_HEADS, others, 0..HEAD_DIM];
                    assert_eq!(now.clone().slice(part.clone()).to_data(), old.clone().slice(part).to_data());
                }
            }
            for (kept, old) in kept.iter().flatten().zip(&old) {
                assert_eq!(kept.to_data(), old.to_data(), "what others hold is not written to");
            }
        }
    });
}
