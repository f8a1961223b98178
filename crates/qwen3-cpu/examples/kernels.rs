//! The speed of each kernel beside what the machine could do, measured in the same run, on the shapes of Qwen3-0.6B.
//! Weights are those of as many layers as the model has, one after the other, so that none is in a cache.
//!
//! `cargo run --release -p qwen3-cpu --example kernels [-- f32|bf16|f16 [threads]]`

use std::sync::Arc;
use std::time::Instant;

use half::{bf16, f16};
use qwen3_cpu::{Element, HugeBuffer, InstructionSet, Kernels, Matrix, Pages, Threads, limits};

const LAYERS: usize = 28;
const HIDDEN: usize = 1024;
const INTERMEDIATE: usize = 3072;
const VOCAB: usize = 151_936;
/// What shares an `x`: `[out ..]`, `in`.
const PRODUCTS: [(&str, &[usize], usize); 4] = [
    ("q, k, v", &[2048, 1024, 1024], HIDDEN),
    ("o", &[HIDDEN], 2048),
    ("gate, up", &[INTERMEDIATE, INTERMEDIATE], HIDDEN),
    ("down", &[HIDDEN], INTERMEDIATE),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dtype = arguments.next().unwrap_or_else(|| "all".into());
    let threads = arguments.next().map_or_else(Threads::all, |count| Threads::new(count.parse().unwrap()));
    let kernels = Kernels::new(InstructionSet::best(), Arc::new(threads));
    println!("{} on {} threads", kernels.instruction_set(), kernels.threads().count());
    forks(&kernels);
    for (name, run) in
        [("f32", measure::<f32> as fn(&Kernels)), ("bf16", measure::<bf16>), ("f16", measure::<f16>)]
    {
        if dtype == name || dtype == "all" {
            println!("\n{name}");
            run(&kernels);
        }
    }
}

/// Seconds of the best of `rounds` calls.
fn best(rounds: usize, mut call: impl FnMut()) -> f64 {
    let seconds = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| seconds(&mut call)).fold(f64::INFINITY, f64::min)
}

fn forks(kernels: &Kernels) {
    let seconds = best(20, || {
        for _ in 0..1000 {
            kernels.threads().run(2 * kernels.threads().count(), |job| {
                std::hint::black_box(job);
            });
        }
    });
    println!("fork and join: {:.2} us", seconds * 1e3);
}

fn measure<E: Element>(kernels: &Kernels) {
    let count = kernels.threads().count();
    let flops = limits::peak_flops::<E>(count, 0.3);
    println!("peak {:.0} GFLOP/s", flops / 1e9);
    for pages in [Pages::Ordinary, Pages::Huge] {
        let bandwidth = limits::read_bandwidth(1 << 30, count, pages, 1.0);
        println!("{pages:?} pages: read {:.1} GB/s", bandwidth / 1e9);
        let layer: usize = PRODUCTS.iter().map(|(_, out, depth)| out.iter().sum::<usize>() * depth).sum();
        let mut weights = HugeBuffer::<E>::with(LAYERS * layer, pages);
        fill(&mut weights);
        let mut head = HugeBuffer::<E>::with(VOCAB * HIDDEN, pages);
        fill(&mut head);
        for tokens in [1, 2, 4, 8, 16, 32, 128, 512] {
            step(kernels, &weights, &head, tokens, bandwidth, flops);
        }
    }
}

fn fill<E: Element>(weights: &mut [E]) {
    for (index, weight) in weights.iter_mut().enumerate() {
        *weight = E::narrow(((index * 37) % 101) as f32 / 1000.0 - 0.05);
    }
}

/// The products of a step of `tokens` tokens: all layers and, for one token each, the vocabulary.
fn step<E: Element>(kernels: &Kernels, weights: &[E], head: &[E], tokens: usize, bandwidth: f64, flops: f64) {
    let mut x = vec![E::default(); tokens * INTERMEDIATE];
    fill(&mut x);
    let mut y = vec![E::default(); tokens * VOCAB.max(2 * INTERMEDIATE)];
    let mut layers = || {
        let mut rest = weights;
        for _ in 0..LAYERS {
            for (_, outs, depth) in PRODUCTS {
                let matrices: Vec<_> = outs
                    .iter()
                    .map(|out| {
                        let (weight, others) = rest.split_at(out * depth);
                        rest = others;
                        Matrix::new(weight, [*out, depth])
                    })
                    .collect();
                let all: usize = outs.iter().sum();
                kernels.matmul_joined(&matrices, &x[..tokens * depth], tokens, &mut y[..tokens * all]);
            }
        }
    };
    let seconds = best(if tokens > 100 { 2 } else { 5 }, &mut layers);
    report("layers", seconds, weights, tokens, bandwidth, flops);
    if tokens <= 4 {
        let matrix = [Matrix::new(head, [VOCAB, HIDDEN])];
        let seconds = best(5, || {
            kernels.matmul_joined(&matrix, &x[..tokens * HIDDEN], tokens, &mut y[..tokens * VOCAB]);
        });
        report("vocabulary", seconds, head, tokens, bandwidth, flops);
    }
}

fn report<E>(what: &str, seconds: f64, weights: &[E], tokens: usize, bandwidth: f64, flops: f64) {
    let bytes = size_of_val(weights) as f64 / seconds;
    let done = 2.0 * weights.len() as f64 * tokens as f64 / seconds;
    println!(
        "{what:12} {tokens:4} tokens: {:7.2} ms, {:5.1} GB/s ({:3.0} %), {:6.1} GFLOP/s ({:3.0} %)",
        seconds * 1e3,
        bytes / 1e9,
        100.0 * bytes / bandwidth,
        done / 1e9,
        100.0 * done / flops,
    );
}
