//! Norms, gates and rotations of every instruction set against their definitions, one operation at a time.

mod common;

use common::{all_kernels, epsilon, numbers, wide};
use half::{bf16, f16};
use qwen3_cpu::{Element, Heads, RopeRounding, Rows};

const EPS: f32 = 1e-6;

/// Asserts that what was found is what was expected but for f32's error inside and, where that crosses the middle
/// between two numbers, one step of rounding at each of `roundings` points.
fn near<E: Element>(what: &str, found: &[E], expected: &[E], roundings: f64) {
    assert_eq!(found.len(), expected.len());
    let mut unlike = 0;
    for (index, (found, expected)) in wide(found).into_iter().zip(wide(expected)).enumerate() {
        let limit = 2.0 * roundings * epsilon::<E>() * expected.abs() + 1e-6;
        assert!((found - expected).abs() <= limit, "{what}: {index}: {found} for {expected}");
        unlike += usize::from(found != expected);
    }
    if size_of::<E>() == 2 {
        assert!(unlike * 50 <= found.len() + 150, "{what}: {unlike} of {} are unlike", found.len());
    }
}

fn norm<E: Element>(x: &[E], weight: &[E]) -> Vec<E> {
    let square = x.iter().map(|x| f64::from(x.widen()).powi(2)).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (square + f64::from(EPS)).sqrt();
    let normalised = x.iter().map(|x| E::narrow((f64::from(x.widen()) * factor) as f32));
    normalised.zip(weight).map(|(x, weight)| E::narrow(x.widen() * weight.widen())).collect()
}

fn norms<E: Element>() {
    for (rows, features) in [(1, 1024), (3, 5), (70, 1000), (1, 1), (2, 33)] {
        let x = numbers::<E>(rows * features, 1);
        let residual = numbers::<E>(rows * features, 2);
        let weight = numbers::<E>(features, 3);
        let sum: Vec<E> = x.iter().zip(&residual).map(|(x, r)| E::narrow(x.widen() + r.widen())).collect();
        let normed = |x: &[E]| x.chunks(features).flat_map(|x| norm(x, &weight)).collect::<Vec<_>>();
        for kernels in all_kernels() {
            let what = format!("{}, {rows} x {features}", kernels.instruction_set());
            let mut out = x.clone();
            kernels.rms_norm(&x, &weight, EPS, &mut out);
            near(&what, &out, &normed(&x), 2.0);
            let mut stream = residual.clone();
            kernels.add_rms_norm(&mut stream, &x, &weight, EPS, &mut out);
            assert!(wide(&stream) == wide(&sum), "{what}");
            near(&what, &out, &normed(&sum), 2.0);
        }
    }
}

#[test]
fn norms_round_as_transformers_does() {
    norms::<f32>();
    norms::<bf16>();
    norms::<f16>();
}

fn gates<E: Element>() {
    for (rows, features) in [(1, 3072), (5, 7), (40, 1001)] {
        let gate_up: Vec<E> =
            numbers::<E>(2 * rows * features, 1).into_iter().map(|x| E::narrow(x.widen() * 8.0)).collect();
        let split: Vec<_> = gate_up.chunks(2 * features).map(|row| row.split_at(features)).collect();
        let gate: Vec<E> = split.iter().flat_map(|(gate, _)| gate.to_vec()).collect();
        let up: Vec<E> = split.iter().flat_map(|(_, up)| up.to_vec()).collect();
        let gated = |(gate, up): (&E, &E)| {
            let gate = f64::from(gate.widen());
            let gate = E::narrow((gate / (1.0 + (-gate).exp())) as f32);
            E::narrow(gate.widen() * up.widen())
        };
        let expected: Vec<E> = gate.iter().zip(&up).map(gated).collect();
        for kernels in all_kernels() {
            let what = format!("{}, {rows} x {features}", kernels.instruction_set());
            let mut out = vec![E::default(); rows * features];
            kernels.swiglu(&gate_up, features, &mut out);
            near(&what, &out, &expected, 2.0);
            out.fill(E::default());
            kernels.swiglu_apart(&gate, &up, &mut out);
            near(&what, &out, &expected, 2.0);
        }
    }
}

#[test]
fn gates_round_as_transformers_does() {
    gates::<f32>();
    gates::<bf16>();
    gates::<f16>();
}

/// `apply_rotary_pos_emb` of one head, every step rounded to `P`.
fn rotated<E: Element, P: Element>(x: &[E], cos: &[f32], sin: &[f32]) -> Vec<E> {
    let half = cos.len();
    let product = |x: f32, angle: f32| P::narrow(x * P::narrow(angle).widen()).widen();
    let turned = |i: usize| if i < half { -x[i + half].widen() } else { x[i - half].widen() };
    let sum = |i: usize| product(x[i].widen(), cos[i % half]) + product(turned(i), sin[i % half]);
    (0..x.len()).map(|i| E::narrow(sum(i))).collect()
}

fn heads<E: Element>(rounding: RopeRounding, [batch, tokens, heads, kv_heads, head_dim]: [usize; 5]) {
    let (rows, start, capacity) = (batch * tokens, 2, tokens + 5);
    let stride = (heads + 2 * kv_heads) * head_dim + 3;
    let qkv = numbers::<E>(rows * stride, 1);
    let (q_norm, k_norm) = (numbers::<E>(head_dim, 2), numbers::<E>(head_dim, 3));
    let angles: Vec<f32> = numbers(rows * head_dim / 2, 4);
    let table = |f: fn(f32) -> f32| angles.iter().map(|angle| f(angle * 9.0)).collect::<Vec<f32>>();
    let (cos, sin) = (table(f32::cos), table(f32::sin));
    let part = |first: usize| Rows { data: &qkv[first * head_dim..], stride };
    let step = Heads {
        batch,
        tokens,
        heads,
        kv_heads,
        head_dim,
        q: part(0),
        k: part(heads),
        v: part(heads + kv_heads),
        q_norm: &q_norm,
        k_norm: &k_norm,
        eps: EPS,
        cos: &cos,
        sin: &sin,
        rounding,
        start,
        capacity,
    };
    let old = numbers::<E>(batch * kv_heads * capacity * head_dim, 5);
    let turn = |row: usize, head: usize, norm_: &[E]| {
        let x = norm(&qkv[row * stride + head * head_dim..][..head_dim], norm_);
        let angle = row * head_dim / 2..(row + 1) * head_dim / 2;
        match rounding {
            RopeRounding::Each => rotated::<E, E>(&x, &cos[angle.clone()], &sin[angle]),
            RopeRounding::Once => rotated::<E, f32>(&x, &cos[angle.clone()], &sin[angle]),
        }
    };
    for kernels in all_kernels() {
        let what =
            format!("{}, {batch} x {tokens} x {heads} x {head_dim}, {rounding:?}", kernels.instruction_set());
        let mut q_out = vec![E::default(); rows * heads * head_dim];
        let (mut keys, mut values) = (old.clone(), old.clone());
        kernels.write_heads(&step, &mut q_out, &mut keys, &mut values);
        let all = (0..rows).flat_map(|row| (0..heads).map(move |head| (row, head)));
        let expected: Vec<E> = all.flat_map(|(row, head)| turn(row, head, &q_norm)).collect();
        near(&what, &q_out, &expected, 4.0);
        let (mut expected_keys, mut expected_values) = (old.clone(), old.clone());
        for (row, head) in (0..rows).flat_map(|row| (0..kv_heads).map(move |head| (row, head))) {
            let slot = (row / tokens * kv_heads + head) * capacity + start + row % tokens;
            let slot = slot * head_dim..(slot + 1) * head_dim;
            expected_keys[slot.clone()].copy_from_slice(&turn(row, heads + head, &k_norm));
            let v = row * stride + (heads + kv_heads + head) * head_dim;
            expected_values[slot].copy_from_slice(&qkv[v..v + head_dim]);
        }
        near(&what, &keys, &expected_keys, 4.0);
        assert!(wide(&values) == wide(&expected_values), "{what}");
    }
}

#[test]
fn heads_are_normalised_rotated_and_written() {
    for rounding in [RopeRounding::Each, RopeRounding::Once] {
        for shape in [[1, 1, 16, 8, 128], [2, 3, 4, 2, 6], [1, 60, 6, 3, 32], [2, 1, 2, 1, 10]] {
            heads::<f32>(rounding, shape);
            heads::<bf16>(rounding, shape);
            heads::<f16>(rounding, shape);
        }
    }
}
