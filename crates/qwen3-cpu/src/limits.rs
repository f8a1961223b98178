//! What the machine could do at most, measured: a kernel's speed is a share of it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::element::{Element, Kind};
use crate::isa::{self, Kernel, Lanes};
use crate::{HugeBuffer, InstructionSet, Pages, Threads};

/// Bytes that a thread reads at a time.
const CHUNK: usize = 256 << 10;

/// Bytes per second that `threads` threads read together: the best of the passes over a buffer of `bytes` bytes in
/// `pages` that begin within `seconds`, and of at least two. `bytes` should be several times the last cache.
pub fn read_bandwidth(bytes: usize, threads: usize, pages: Pages, seconds: f64) -> f64 {
    let threads = Threads::new(threads);
    let set = InstructionSet::best();
    let mut buffer = HugeBuffer::<f32>::with((bytes / 4).max(1), pages);
    // Memory that nobody wrote is one page of zeros.
    threads.for_each(buffer.chunks_mut(CHUNK / 4).collect(), |chunk| chunk.fill(1.0));
    let pass = || {
        let start = Instant::now();
        threads.run(buffer.len().div_ceil(CHUNK / 4), |chunk| {
            let from = chunk * (CHUNK / 4);
            let numbers = &buffer[from..buffer.len().min(from + CHUNK / 4)];
            black_box(isa::run(set, Sum { numbers }));
        });
        start.elapsed()
    };
    size_of_val(&*buffer) as f64 / best(seconds, pass).as_secs_f64()
}

/// Floating-point operations per second (a multiplication and an addition are two) that `threads` threads do together
/// in registers alone, with weights and activations of `E`: the best of the rounds that begin within `seconds`, and
/// of at least two.
pub fn peak_flops<E: Element>(threads: usize, seconds: f64) -> f64 {
    peak_flops_of::<E>(InstructionSet::best(), threads, seconds)
}

/// [`peak_flops`] of an instruction set.
///
/// # Panics
/// When this machine does not have `set`.
pub fn peak_flops_of<E: Element>(set: InstructionSet, threads: usize, seconds: f64) -> f64 {
    const STEPS: usize = 20_000;
    let threads = Threads::new(threads);
    let rounds = 8 * threads.count();
    let flops = isa::run(set, Peak::<E>::new(1)) * STEPS as f64 * rounds as f64;
    let round = || {
        let start = Instant::now();
        threads.run(rounds, |_| {
            black_box(isa::run(set, Peak::<E>::new(STEPS)));
        });
        start.elapsed()
    };
    flops / best(seconds, round).as_secs_f64()
}

fn best(seconds: f64, pass: impl Fn() -> Duration) -> Duration {
    let start = Instant::now();
    let mut best = pass().min(pass());
    while start.elapsed().as_secs_f64() < seconds {
        best = best.min(pass());
    }
    best
}

struct Sum<'a> {
    numbers: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) -> f32 {
        let mut sums = [lanes.splat(0.0); 8];
        let mut at = 0;
        while at + 8 * S::LANES <= self.numbers.len() {
            for index in 0..8 {
                sums[index] = lanes.add(sums[index], lanes.load(self.numbers, at + index * S::LANES));
            }
            at += 8 * S::LANES;
        }
        sums.into_iter().map(|sum| lanes.sum(sum)).sum()
    }
}

/// `steps` rounds of independent products in registers; gives the operations of a round.
struct Peak<E> {
    steps: usize,
    element: std::marker::PhantomData<E>,
}

impl<E> Peak<E> {
    fn new(steps: usize) -> Self {
        Self { steps, element: std::marker::PhantomData }
    }
}

impl<E: Element> Kernel for Peak<E> {
    type Output = f64;

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) -> f64 {
        if lanes.has_pairs() && E::KIND == Kind::Bf16 {
            return lanes.peak_of_pairs(self.steps);
        }
        const SUMS: usize = 12;
        let (a, b) = (lanes.splat(black_box(0.999)), lanes.splat(black_box(0.5)));
        let mut sums = [lanes.splat(1.0); SUMS];
        for _ in 0..self.steps {
            for index in 0..SUMS {
                sums[index] = lanes.mul_add(sums[index], a, b);
            }
        }
        black_box(sums.into_iter().map(|sum| lanes.sum(sum)).sum::<f32>());
        (2 * SUMS * S::LANES) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_of_a_machine() {
        for pages in [Pages::Ordinary, Pages::Huge] {
            let bytes = read_bandwidth(64 << 20, 2, pages, 0.0);
            assert!(bytes > 1e8 && bytes < 1e13, "{bytes}");
        }
        for set in InstructionSet::available() {
            let flops = peak_flops_of::<f32>(set, 1, 0.0);
            assert!(flops > 1e7 && flops < 1e13, "{set}: {flops}");
        }
    }
}
