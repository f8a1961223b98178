//! Numbers that follow no pattern, and the kernels of every instruction set of this machine.
#![allow(dead_code)]

use std::sync::Arc;

use qwen3_cpu::{Element, InstructionSet, Kernels, Threads};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Those of every available set, on two threads.
pub fn all_kernels() -> impl Iterator<Item = Kernels> {
    let threads = Arc::new(Threads::new(2));
    InstructionSet::available().into_iter().map(move |set| Kernels::new(set, Arc::clone(&threads)))
}

/// `count` numbers between -1 and 1, rounded to `E`.
pub fn numbers<E: Element>(count: usize, seed: u64) -> Vec<E> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| E::narrow(random.random_range(-1.0..1.0))).collect()
}

/// The distance from a number near one to the next, halved: what rounding to `E` may take.
pub fn epsilon<E: Element>() -> f64 {
    match size_of::<E>() {
        4 => f64::from(f32::EPSILON) / 2.0,
        _ if E::narrow(1.0 + 0.001).widen() == 1.0 => 2f64.powi(-8),
        _ => 2f64.powi(-11),
    }
}

/// Widened twice.
pub fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| f64::from(value.widen())).collect()
}
