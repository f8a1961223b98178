//! The speed of each kernel beside what the machine could do, measured in the same run, on the shapes of Qwen3-0.6B.
//! Weights are those of as many layers as the model has, one after the other, so that none is in a cache.
//!
//! `cargo run --release -p qwen3-cpu --example kernels [-- f32|bf16|f16 [threads]]`

use std::sync::Arc;
use std::time::Instant;

use half::{bf16, f16};
use qwen3_cpu::{
    Attention, Element, Heads, HugeBuffer, InstructionSet, Kernels, Matrix, Pages, RopeRounding, Rows,
    Threads, View, limits,
};

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

/// Seconds of a call.
fn timed(call: impl FnOnce()) -> f64 {
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64()
}

/// Seconds of the best of `rounds` calls.
fn best(rounds: usize, mut call: impl FnMut()) -> f64 {
    (0..rounds).map(|_| timed(&mut call)).fold(f64::INFINITY, f64::min)
}

/// What a fork costs beyond its jobs: as many jobs as threads, each of 20 us, so that every thread gets one.
fn forks(kernels: &Kernels) {
    let job = |_| {
        let start = Instant::now();
        while start.elapsed().as_micros() < 20 {
            std::hint::spin_loop();
        }
    };
    let forked = best(2000, || kernels.threads().run(kernels.threads().count(), job));
    let alone = best(200, || job(0));
    println!("fork and join: {:.2} us", (forked - alone) * 1e6);
}

fn measure<E: Element>(kernels: &Kernels) {
    let count = kernels.threads().count();
    let flops = limits::peak_flops::<E>(count, 0.3);
    println!("peak {:.0} GFLOP/s", flops / 1e9);
    between::<E>(kernels, 1);
    between::<E>(kernels, 512);
    for pages in [Pages::Ordinary, Pages::Huge] {
        let bandwidth = limits::read_bandwidth(256 << 20, count, pages, 1.0);
        println!("{pages:?} pages: read {:.1} GB/s", bandwidth / 1e9);
        let layer: usize = PRODUCTS.iter().map(|(_, out, depth)| out.iter().sum::<usize>() * depth).sum();
        let mut weights = HugeBuffer::<E>::with(LAYERS * layer, pages);
        fill(&mut weights);
        let mut head = HugeBuffer::<E>::with(VOCAB * HIDDEN, pages);
        fill(&mut head);
        for tokens in [1, 2, 4, 8, 16, 32, 128, 512] {
            step(kernels, &weights, &head, tokens, bandwidth, flops);
        }
        for (queries, keys) in [(1, 512), (1, 8192), (512, 512), (512, 4096)] {
            attention::<E>(kernels, queries, keys, bandwidth, flops);
        }
    }
}

fn fill<E: Element>(weights: &mut [E]) {
    for (index, weight) in weights.iter_mut().enumerate() {
        *weight = E::narrow(((index * 37) % 101) as f32 / 1000.0 - 0.05);
    }
}

/// The products of a step of `tokens` tokens: those of a layer, the best of all layers', and for few tokens the
/// vocabulary's, the best of its blocks'. A best time of a short call is what a busy machine can still show.
fn step<E: Element>(kernels: &Kernels, weights: &[E], head: &[E], tokens: usize, bandwidth: f64, flops: f64) {
    let mut x = vec![E::default(); tokens * INTERMEDIATE];
    fill(&mut x);
    let mut y = vec![E::default(); tokens * (2 * INTERMEDIATE).max(VOCAB / 16)];
    let mut best = [f64::INFINITY; 4];
    let start = Instant::now();
    let mut elements = [0; 4];
    for layer in weights.chunks_exact(weights.len() / LAYERS).cycle() {
        let mut rest = layer;
        for (index, (_, outs, depth)) in PRODUCTS.into_iter().enumerate() {
            let mut matrices = Vec::new();
            for out in outs {
                let (weight, others) = rest.split_at(out * depth);
                matrices.push(Matrix::new(weight, [*out, depth]));
                rest = others;
            }
            let all: usize = outs.iter().sum();
            elements[index] = all * depth;
            let (x, y) = (&x[..tokens * depth], &mut y[..tokens * all]);
            best[index] = best[index].min(timed(|| kernels.matmul_joined(&matrices, x, tokens, y)));
        }
        if start.elapsed().as_secs_f64() > 1.0 {
            break;
        }
    }
    for (index, (name, ..)) in PRODUCTS.iter().enumerate() {
        report::<E>(name, best[index], elements[index], tokens, bandwidth, flops);
    }
    report::<E>("a layer", best.iter().sum(), elements.iter().sum(), tokens, bandwidth, flops);
    if tokens <= 4 {
        let rows = VOCAB / 16;
        let blocks = head.chunks_exact(rows * HIDDEN).cycle().take(64);
        let (x, y) = (&x[..tokens * HIDDEN], &mut y[..tokens * rows]);
        let seconds = blocks.map(|block| {
            let matrix = [Matrix::new(block, [rows, HIDDEN])];
            timed(|| kernels.matmul_joined(&matrix, x, tokens, y))
        });
        let seconds = seconds.fold(f64::INFINITY, f64::min);
        report::<E>("vocabulary/16", seconds, rows * HIDDEN, tokens, bandwidth, flops);
    }
}

/// Attention of a layer over `keys` slots: the bytes are those of the cache, read once.
fn attention<E: Element>(kernels: &Kernels, queries: usize, keys: usize, bandwidth: f64, flops: f64) {
    let (heads, kv_heads, head_dim) = (16, 8, 128);
    let mut cache = HugeBuffer::<E>::new(8 * 2 * kv_heads * keys * head_dim);
    fill(&mut cache);
    let mut q = vec![E::default(); queries * heads * head_dim];
    fill(&mut q);
    let mut out = q.clone();
    let attention = Attention {
        batch: 1,
        heads,
        kv_heads,
        head_dim,
        queries,
        start: keys - queries,
        visible: &[],
        window: None,
        scale: 0.088,
    };
    let q = View::of_tokens(&q, [queries, heads, head_dim]);
    let rounds = if queries == 1 { 100 } else { 8 };
    let layers = cache.chunks_exact(2 * kv_heads * keys * head_dim).cycle().take(rounds);
    let seconds = layers.map(|layer| {
        let (k, v) = layer.split_at(layer.len() / 2);
        let view = |data| View::of_heads(data, [kv_heads, keys, head_dim]);
        timed(|| kernels.attend(&attention, q, view(k), view(v), &mut out))
    });
    let seconds = seconds.fold(f64::INFINITY, f64::min);
    // Half of the square is seen.
    let pairs = queries * (keys - queries / 2);
    let done = 4.0 * (pairs * heads * head_dim) as f64 / seconds;
    let bytes = (2 * kv_heads * keys * head_dim * size_of::<E>()) as f64 / seconds;
    println!(
        "attention {queries:4} queries, {keys:5} keys: {:8.3} ms, {:5.1} GB/s ({:3.0} %), {:6.1} GFLOP/s ({:3.0} %)",
        seconds * 1e3,
        bytes / 1e9,
        100.0 * bytes / bandwidth,
        done / 1e9,
        100.0 * done / flops,
    );
}

/// What is done between the products, for one token and for many.
fn between<E: Element>(kernels: &Kernels, tokens: usize) {
    let mut x = vec![E::default(); tokens * 2 * INTERMEDIATE];
    fill(&mut x);
    let mut out = vec![E::default(); tokens * INTERMEDIATE];
    let weight = vec![E::narrow(0.5); HIDDEN];
    let swiglu = best(20, || kernels.swiglu(&x, INTERMEDIATE, &mut out));
    let rows = &x[..tokens * HIDDEN];
    let norm = best(20, || kernels.rms_norm(rows, &weight, 1e-6, &mut out[..tokens * HIDDEN]));
    let angles = vec![0.5; tokens * 64];
    let part = |first: usize| Rows { data: &x[first..], stride: 4096 };
    let heads = Heads {
        batch: 1,
        tokens,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        q: part(0),
        k: part(2048),
        v: part(3072),
        q_norm: &weight[..128],
        k_norm: &weight[..128],
        eps: 1e-6,
        cos: &angles,
        sin: &angles,
        rounding: RopeRounding::Each,
        start: 0,
        capacity: tokens,
    };
    let mut caches = vec![E::default(); 2 * 8 * tokens * 128];
    let (keys, values) = caches.split_at_mut(8 * tokens * 128);
    let rope = best(20, || kernels.write_heads(&heads, &mut out[..tokens * 2048], keys, values));
    println!(
        "{tokens:4} tokens: norm {:.1} us, swiglu {:.1} us, q/k norm, RoPE and cache {:.1} us",
        norm * 1e6,
        swiglu * 1e6,
        rope * 1e6,
    );
}

fn report<E>(what: &str, seconds: f64, elements: usize, tokens: usize, bandwidth: f64, flops: f64) {
    let bytes = (elements * size_of::<E>()) as f64 / seconds;
    let done = 2.0 * (elements * tokens) as f64 / seconds;
    println!(
        "{what:13} {tokens:4} tokens: {:8.3} ms, {:5.1} GB/s ({:3.0} %), {:6.1} GFLOP/s ({:3.0} %)",
        seconds * 1e3,
        bytes / 1e9,
        100.0 * bytes / bandwidth,
        done / 1e9,
        100.0 * done / flops,
    );
}
