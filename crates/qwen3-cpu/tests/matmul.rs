//! Products of every instruction set against float64.

mod common;

use common::{all_kernels, epsilon, numbers, wide};
use half::{bf16, f16};
use proptest::prelude::*;
use qwen3_cpu::{Element, Matrix};

/// Checks `[tokens, out]` of `y` against the products in f64: the sums may be off by f32's rounding of every term,
/// and the result by that of `X`.
fn check<W: Element, X: Element>(what: &str, w: &[W], x: &[X], y: &[X], [tokens, depth, out]: [usize; 3]) {
    let (w, x) = (wide(w), wide(x));
    for token in 0..tokens {
        for row in 0..out {
            let terms = (0..depth).map(|k| w[row * depth + k] * x[token * depth + k]);
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            let found = f64::from(y[token * out + row].widen());
            let limit = 4.0 * f64::from(f32::EPSILON) * size + 1.01 * epsilon::<X>() * sum.abs() + 1e-7;
            let off = (found - sum).abs();
            assert!(off <= limit, "{what}: token {token}, row {row}: {found} for {sum}, limit {limit}");
        }
    }
}

fn products<W: Element, X: Element>([tokens, depth]: [usize; 2], outs: &[usize]) {
    let x = numbers::<X>(tokens * depth, 1);
    let weights: Vec<Vec<W>> = outs.iter().map(|out| numbers(out * depth, 2 + *out as u64)).collect();
    let matrices: Vec<_> = weights.iter().zip(outs).map(|(w, out)| Matrix::new(w, [*out, depth])).collect();
    for kernels in all_kernels() {
        let set = kernels.instruction_set();
        let what = format!("{set}, {tokens} x {depth} x {outs:?}");
        let mut outputs: Vec<Vec<X>> =
            outs.iter().map(|out| vec![X::narrow(f32::NAN); out * tokens]).collect();
        let mut slices: Vec<_> = outputs.iter_mut().map(|y| &mut y[..]).collect();
        kernels.matmul(&matrices, &x, tokens, &mut slices);
        for ((w, y), out) in weights.iter().zip(&outputs).zip(outs) {
            check(&what, w, &x, y, [tokens, depth, *out]);
        }
        let all: usize = outs.iter().sum();
        let mut joined = vec![X::narrow(f32::NAN); tokens * all];
        kernels.matmul_joined(&matrices, &x, tokens, &mut joined);
        let mut column = 0;
        for (y, out) in outputs.iter().zip(outs) {
            for (token, row) in y.chunks_exact(*out).enumerate() {
                let from = token * all + column;
                assert!(wide(row) == wide(&joined[from..from + out]), "{what}: joined, token {token}");
            }
            column += out;
        }
    }
}

fn all_dtypes(shape: [usize; 2], outs: &[usize]) {
    products::<f32, f32>(shape, outs);
    products::<bf16, bf16>(shape, outs);
    products::<f16, f16>(shape, outs);
}

#[test]
fn one_token() {
    for (depth, out) in [(1, 1), (8, 4), (33, 7), (128, 12), (1000, 50), (1024, 256)] {
        all_dtypes([1, depth], &[out]);
    }
}

#[test]
fn a_few_tokens() {
    for tokens in 2..=34 {
        all_dtypes([tokens, 67], &[13, 24]);
    }
}

#[test]
fn many_tokens_over_the_edges_of_every_block() {
    for (tokens, depth, out) in [(40, 256, 48), (65, 257, 49), (100, 300, 95), (257, 515, 5), (300, 1, 1)] {
        all_dtypes([tokens, depth], &[out, 3]);
    }
}

#[test]
fn weights_of_another_dtype_than_the_activations() {
    for tokens in [1, 3, 50] {
        products::<bf16, f32>([tokens, 130], &[31, 7]);
        products::<f16, f32>([tokens, 130], &[31, 7]);
        products::<f32, bf16>([tokens, 130], &[31, 7]);
    }
}

#[test]
fn nothing_gives_nothing() {
    for kernels in all_kernels() {
        kernels.matmul::<f32, f32>(&[], &[], 0, &mut []);
        kernels.matmul(&[Matrix::new(&[1.0f32; 6], [3, 2])], &[0.0f32; 0], 0, &mut [&mut []]);
        let mut y = [1.0; 3 * 2];
        kernels.matmul_joined(&[Matrix::new(&[0.0f32; 0], [3, 0])], &[], 2, &mut y);
        assert_eq!(y, [0.0; 6]);
        let mut y = [1.0; 3 * 50];
        kernels.matmul_joined(&[Matrix::new(&[0.0f32; 0], [3, 0])], &[], 50, &mut y);
        assert_eq!(y, [0.0; 150]);
    }
}

#[test]
#[should_panic(expected = "x is [2, 3]")]
fn a_wrong_length_is_told() {
    let kernels = all_kernels().next().unwrap();
    kernels.matmul(&[Matrix::new(&[1.0f32; 3], [1, 3])], &[0.0f32; 5], 2, &mut [&mut [0.0; 2]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape(tokens in 1usize..70, depth in 1usize..600, out in 1usize..110) {
        all_dtypes([tokens, depth], &[out]);
    }
}
