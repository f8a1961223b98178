//! What this machine can do at most.

use half::{bf16, f16};
use qwen3_config::Precision;
use qwen3_cpu::limits::{peak_flops, read_bandwidth};
use qwen3_report::bench::{Limits, Pages};

use crate::machine;

/// What is read: several times any last cache.
const BYTES: usize = 768 << 20;
/// How long each rate is measured, in seconds.
const SECONDS: f64 = 0.6;
/// Of a machine with less memory, this share is read.
const SHARE: f64 = 0.25;

/// Measures reading, in ordinary and huge pages, and computing in `dtypes` with `threads`, for about a second each.
pub fn limits(threads: usize, dtypes: &[Precision]) -> Limits {
    let most = machine::available_memory().map_or(BYTES, |bytes| (bytes * SHARE) as usize);
    let pages = [(Pages::Ordinary, qwen3_cpu::Pages::Ordinary), (Pages::Huge, qwen3_cpu::Pages::Huge)];
    let read = |pages| read_bandwidth(BYTES.min(most), threads, pages, SECONDS) / 1e9;
    let peak = |dtype: &Precision| match dtype {
        Precision::F32 => peak_flops::<f32>(threads, SECONDS),
        Precision::BF16 => peak_flops::<bf16>(threads, SECONDS),
        Precision::F16 => peak_flops::<f16>(threads, SECONDS),
    };
    Limits {
        threads,
        read_gb_per_s: pages.into_iter().map(|(name, pages)| (name, read(pages))).collect(),
        matmul_gflop_per_s: dtypes.iter().map(|dtype| (*dtype, peak(dtype) / 1e9)).collect(),
        devices: Vec::new(),
    }
}

/// The better of two measurements of the same machine.
pub fn better(one: Limits, other: Limits) -> Limits {
    let mut all = one;
    for (pages, rate) in other.read_gb_per_s {
        let best = all.read_gb_per_s.entry(pages).or_default();
        *best = best.max(rate);
    }
    for (dtype, rate) in other.matmul_gflop_per_s {
        let best = all.matmul_gflop_per_s.entry(dtype).or_default();
        *best = best.max(rate);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_measured() {
        let found = limits(1, &[Precision::F32, Precision::BF16]);
        assert_eq!((found.read_gb_per_s.len(), found.matmul_gflop_per_s.len()), (2, 2));
        let rates = found.read_gb_per_s.values().chain(found.matmul_gflop_per_s.values());
        assert!(rates.clone().all(|rate| rate.is_finite() && *rate > 0.05), "{found:?}");
        let doubled = Limits {
            read_gb_per_s: found.read_gb_per_s.iter().map(|(pages, rate)| (*pages, 2.0 * rate)).collect(),
            ..Limits::default()
        };
        let best = better(found.clone(), doubled.clone());
        assert_eq!(best.read_gb_per_s, doubled.read_gb_per_s);
        assert_eq!(best.matmul_gflop_per_s, found.matmul_gflop_per_s);
    }
}
