//! A made-up report of a benchmark: backends, dtypes and peers, one of them wrong and one with hostile names.

use std::collections::BTreeMap;

use qwen3_trace::Precision;

use crate::BenchReport;
use crate::bench::{
    Accuracy, Figures, GreedyIds, Limits, Machine, ModelFacts, Pages, PeerRow, Phase, Row, Sample, Skipped,
    Workload,
};

/// What a peer of another project may be called.
pub const HOSTILE: &str = "candle</script><script>alert(1)</script>\u{1b}[2J\u{202e}\"'>";

const WEIGHTS: f64 = 596e6;

/// `load`, a first token, three prompts, two contexts and two batches.
fn workloads() -> Vec<Workload> {
    let workload = |phase, tokens, context, batch| Workload { phase, tokens, context, batch };
    let mut all = vec![Workload::LOAD, workload(Phase::FirstToken, 128, 0, 1)];
    all.extend([32, 128, 512].map(|tokens| workload(Phase::Prefill, tokens, 0, 1)));
    all.extend(
        [(128, 1), (512, 1), (128, 4)].map(|(context, batch)| workload(Phase::Decode, 32, context, batch)),
    );
    all
}

/// Seconds that a machine of 20 GB/s and `gflop` GFLOP/s needs at least for the workload.
fn least_seconds(workload: Workload, dtype: Precision, gflop: f64) -> f64 {
    let Workload { phase, tokens, context, batch } = workload;
    let bytes = WEIGHTS * dtype.bytes() as f64 + 1e5 * (context * batch) as f64;
    match phase {
        Phase::Load => 0.5,
        Phase::Prefill | Phase::FirstToken => 2.0 * WEIGHTS * tokens as f64 / (gflop * 1e9),
        Phase::Decode => bytes * tokens as f64 / 20e9,
    }
}

/// Three samples that take `times` as long as the least; the last of them was disturbed if there is one.
fn figures(dtype: Precision, workload: Workload, times: f64, disturbed: bool) -> Figures {
    let least = least_seconds(workload, dtype, 400.0);
    let sample = |(at, noise): (usize, f64)| Sample {
        seconds: least * times * noise,
        disturbed: disturbed && at == 2,
    };
    let samples: Vec<Sample> = [1.0, 0.99, 1.02].into_iter().enumerate().map(sample).collect();
    let limit = (workload.tokens * workload.batch) as f64 / least;
    let limited = matches!(workload.phase, Phase::Prefill | Phase::Decode).then_some(limit);
    let bytes = WEIGHTS * dtype.bytes() as f64 / workload.batch as f64 + 1e5 * workload.context as f64;
    Figures {
        huge_pages_mb: Some(1024.0),
        peak_rss_mb: Some(1300.0 + WEIGHTS * dtype.bytes() as f64 / f64::from(1 << 20)),
        bytes_per_token: (workload.phase == Phase::Decode).then_some(bytes),
        ..Figures::new(dtype, workload, &samples, vec![2.5]).limited(limited)
    }
}

/// Two backends that are right, and one that is faster and wrong.
fn rows() -> Vec<Row> {
    let right = Accuracy { cases: 40, failed: 0, worst_over_limit: Some(0.4), greedy_ids: GreedyIds::Equal };
    let wrong = Accuracy { failed: 3, worst_over_limit: None, greedy_ids: GreedyIds::Differ, ..right };
    let mut rows = Vec::new();
    for (backend, dtype, times, accuracy) in [
        ("flex", Precision::F32, 1.6, right),
        ("flex", Precision::BF16, 2.0, right),
        ("wgpu", Precision::F32, 1.1, wrong),
    ] {
        for workload in workloads() {
            let disturbed = backend == "flex" && dtype == Precision::F32 && workload.context == 512;
            let figures = figures(dtype, workload, times, disturbed);
            rows.push(Row {
                backend: backend.into(),
                variant: None,
                figures: Figures { accuracy: Some(accuracy), ..figures },
            });
        }
    }
    rows
}

/// The rows of two other engines, of which one has a hostile version.
fn peers() -> Vec<PeerRow> {
    let mut peers = Vec::new();
    for (peer, version, times) in [("transformers", "5.17.0", 2.4), ("llama.cpp", HOSTILE, 1.2)] {
        for workload in workloads().into_iter().filter(|workload| workload.phase != Phase::Load) {
            let figures = figures(Precision::F32, workload, times, false);
            peers.push(PeerRow { peer: peer.into(), version: version.into(), figures });
        }
    }
    peers
}

/// The whole report.
pub fn bench() -> BenchReport {
    let skipped =
        |who: &str, workload, reason: &str| Skipped { who: who.into(), workload, reason: reason.into() };
    let long = Workload { phase: Phase::Prefill, tokens: 512, context: 0, batch: 4 };
    let mut report = BenchReport {
        model: ModelFacts { name: "synthetic 0.6b".into(), parameters: WEIGHTS as usize },
        machine: Machine {
            cpu: "A processor".into(),
            cores: 8,
            instruction_sets: vec!["avx2".into(), "avx512f".into()],
            memory_gb: 31.3,
            system: "Linux 6.1".into(),
            huge_pages: Some("madvise".into()),
            devices: Vec::new(),
        },
        limits: Limits {
            threads: 8,
            read_gb_per_s: BTreeMap::from([(Pages::Ordinary, 17.5), (Pages::Huge, 20.0)]),
            matmul_gflop_per_s: BTreeMap::from([(Precision::F32, 400.0), (Precision::BF16, 400.0)]),
            devices: Vec::new(),
        },
        rows: rows(),
        peers: peers(),
        skipped: vec![
            skipped("cuda f32", None, "no device"),
            skipped("flex bf16", Some(long), "it would take longer than the time that was given"),
            skipped(HOSTILE, None, HOSTILE),
        ],
        ..BenchReport::default()
    };
    report.compare();
    report
}
