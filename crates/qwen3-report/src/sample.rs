//! A made-up report with every part in it, for the renderers' tests.

mod bench;
mod observed;

use qwen3_blame::{Cause, Diagnosis, Divergence};
use qwen3_config::Qwen3Config;
use qwen3_trace::consensus::{Consensus, Pair};
use qwen3_trace::names::layer_of;
use qwen3_trace::{
    Backend, LayerVerdict, Mode, Neighbours, Precision, Switches, TokenVerdict, Verdict, Verdicts,
};

pub use self::bench::bench;
pub use self::observed::observed;
use crate::doctor::{Ailment, DoctorReport, Finding, Health, Rounding, TensorHealth, Through};
use crate::{CaseResult, Kind, Label, Memory, RunResult, Status, VerifyReport};

/// What each layer records, in the order of computation.
const NAMES: [&str; 13] = [
    ".input_layernorm",
    ".self_attn.q_proj",
    ".self_attn.k_proj",
    ".self_attn.v_proj",
    ".self_attn.q_norm",
    ".self_attn.k_norm",
    ".self_attn.q_rope",
    ".self_attn.k_rope",
    ".self_attn.context",
    ".self_attn.o_proj",
    ".post_attention_layernorm",
    ".mlp",
    "_output",
];
/// The layer from which the failing run rotates the wrong pairs.
const BROKEN_FROM: usize = 3;

/// A tensor that passes when its error is at most its limit, with no numbers but their ratio.
pub fn tensor(mode: Mode, name: &str, ratio: Option<f64>) -> LayerVerdict {
    LayerVerdict {
        mode,
        layer: layer_of(name),
        derived: false,
        verdict: Verdict {
            name: name.into(),
            shape: vec![1, 5, 8],
            mse: None,
            max_abs: None,
            max_abs_index: vec![0, 4, 3],
            relative: None,
            cosine: None,
            nmse: None,
            max_ulp: None,
            noise_floor: 0.25,
            limit: 1.0,
            rms: None,
            noise_floor_rms: 0.25,
            limit_rms: 1.0,
            expected: None,
            observed: None,
            pass: ratio.is_some_and(|ratio| ratio <= 1.0),
            note: None,
        },
        ratio,
        calibrated: 0.0,
        by_step: None,
        sensitivity: Some(1e-6),
        neighbours: None,
        kl_divergence: None,
        top1_agreement: None,
        regret_nats: None,
    }
}

/// A token chosen at a step of the first sequence.
pub fn token(step: usize, expected: u32, observed: i64) -> TokenVerdict {
    TokenVerdict {
        row: 0,
        step,
        position: 5 + step,
        expected,
        observed,
        margin: None,
        tie: false,
        kl_divergence: None,
        regret_nats: None,
        steps: 8,
        ratio: (i64::from(expected) == observed).then_some(0.0),
        expected_text: None,
        observed_text: None,
    }
}

/// A run of a backend in f32.
pub fn run(backend: &str, status: Status, tensors: Vec<LayerVerdict>) -> RunResult {
    let tokens = Vec::new();
    RunResult {
        status,
        verdicts: Verdicts { tensors, tokens, steps: Vec::new() },
        ..RunResult::new(Label::new(backend, Precision::F32))
    }
}

/// A report of nothing but its runs.
pub fn report_of(runs: Vec<RunResult>) -> VerifyReport {
    VerifyReport { runs, ..VerifyReport::new(&Qwen3Config::tiny(), Precision::F32) }
}

/// Numbers that look random and are the same on every run.
struct Noise(u64);

impl Noise {
    /// The next number, from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A report of `layers` layers: two runs that pass, one that fails from layer 3, one that is unavailable.
pub fn report(layers: usize) -> VerifyReport {
    let label = |backend| Label::new(backend, Precision::F32);
    let reason = "no CUDA device: cuInit returned 100 (no device)";
    let switches = Switches { fusion: true, autotune: true };
    let pair = |a: &str, b: &str, max_abs, relative| Pair {
        a: a.into(),
        b: b.into(),
        tensor: "logits".into(),
        max_abs: Some(max_abs),
        relative: Some(relative),
    };
    VerifyReport {
        model_path: "models/Qwen3-0.6B".into(),
        reference: Some("reference_data/prompt2/reference.npz".into()),
        test_input: "The capital of France is".into(),
        limits: "4 x the largest error and 3 x the rms error of Transformers' own f32 run against float64, and 2 ULP"
            .into(),
        total_layers_tested: 3 * (layers + 3),
        layers_passed: 2 * (layers + 3) + BROKEN_FROM + 1,
        layers_failed: layers + 2 - BROKEN_FROM,
        diagnosis: diagnosis(layers),
        pairwise: vec![
            pair("flex f32", "tch f32", 3.1e-5, 4.2e-7),
            pair("flex f32", "wgpu f32", 9.7, 0.61),
            pair("tch f32", "wgpu f32", 9.7, 0.61),
        ],
        consensus: Some(Consensus {
            agree: false,
            outlier: Some("wgpu f32".into()),
            explanation: "flex f32 and tch f32 agree with each other to 4.2e-7 and with the reference; \
                          wgpu f32 agrees with neither."
                .into(),
        }),
        memory: Memory {
            peak_rss_mb: Some(903.4),
            embedding_mb: 622.3,
            layer_mb: 60.0,
            head_mb: 622.3,
            model_mb: 2384.1,
        },
        ..report_of(vec![
            noisy_run("flex", None, layers, false, 11),
            noisy_run("tch", None, layers, false, 23),
            noisy_run("wgpu", Some(switches), layers, true, 37),
            RunResult {
                elapsed_ms: 3.0,
                ..RunResult::stopped(label("cuda"), Status::Unavailable, reason.into())
            },
        ])
    }
}

fn diagnosis(layers: usize) -> Diagnosis {
    let cause = |id: &str, explanation: &str, after, layers| Cause {
        id: id.into(),
        explanation: explanation.into(),
        residual_before: Some(0.41),
        residual_after: Some(after),
        fitted: None,
        evidence: None,
        layers,
    };
    let explanation = "layer 3 matches to 3e-7 if RoPE rotates interleaved pairs instead of halves";
    let theta = "theta = 10,000 instead of 1,000,000 explains a part of the rotation";
    Diagnosis {
        first_divergence: Some(Divergence {
            layer: Some(BROKEN_FROM),
            tensor: "layer_03.self_attn.q_rope".into(),
        }),
        operation: Some("self_attn.q_rope".into()),
        causes: vec![
            cause("rope_interleaved", explanation, 3.1e-7, (BROKEN_FROM..layers).collect()),
            cause("rope_theta", theta, 0.27, vec![3, 4]),
            cause("rope_position_offset", "positions that start at 1", 0.39, vec![3]),
        ],
        error_shape: vec![
            "the norm of each head is kept (1.0000): a rotation, not a scale".into(),
            "zero at position 0 and growing with the position".into(),
        ],
        notes: vec![
            "q_norm of the same layer is within its limit, so what enters the operation is right".into(),
            "the same kernels pass without fusion: see the issue list of burn-fusion".into(),
        ],
    }
}

fn noisy_run(backend: &str, switches: Option<Switches>, layers: usize, broken: bool, seed: u64) -> RunResult {
    let mut noise = Noise(seed);
    let mut tensors = Vec::new();
    for mode in [Mode::Accumulated, Mode::Isolated] {
        let accumulated = mode == Mode::Accumulated;
        tensors.push(noisy_tensor(mode, "embedding_output", 0.0, &mut noise));
        for layer in 0..layers {
            let depth = layer as f64 / layers as f64;
            for (at, suffix) in NAMES.iter().enumerate() {
                let drift = if accumulated { 0.12 + 0.4 * depth } else { 0.16 };
                let mut ratio = drift * (0.55 + 0.8 * noise.next());
                let wrong_here = matches!(at, 6 | 7 | 8 | 11);
                if broken && layer >= BROKEN_FROM && !accumulated && wrong_here {
                    ratio = 2.4e4 * (0.3 + noise.next()) * if at > 7 { 0.02 } else { 1.0 };
                }
                let behind = layer > BROKEN_FROM || layer == BROKEN_FROM && at > 5;
                if broken && accumulated && behind {
                    ratio = 1.1e3 * 60_f64.powf(depth) * (0.4 + noise.next());
                }
                let name = format!("layer_{layer:02}{suffix}");
                tensors.push(noisy_tensor(mode, &name, ratio, &mut noise));
            }
        }
        let end = if broken && accumulated { 7e4 } else { 0.4 };
        for name in ["final_norm_output", "logits"] {
            let ratio = end * (0.6 + 0.6 * noise.next());
            tensors.push(noisy_tensor(mode, name, ratio, &mut noise));
        }
    }
    for layer in 0..layers {
        let left = (layers - 1 - layer) as f64 / layers as f64;
        let ratio = if broken && layer + 1 < layers {
            6e4 * left.powi(2) * (0.7 + 0.5 * noise.next()) + 20.0
        } else {
            (0.15 + 0.3 * left) * (0.7 + 0.5 * noise.next())
        };
        let mut tensor = noisy_tensor(Mode::Patched, "logits", ratio, &mut noise);
        tensor.layer = Some(layer);
        tensors.push(tensor);
    }
    RunResult {
        switches,
        elapsed_ms: 4200.0 + 9000.0 * noise.next(),
        peak_rss_mb: Some(812.0 + 91.0 * noise.next()),
        verdicts: Verdicts { tensors, tokens: tokens(broken, &mut noise), steps: Vec::new() },
        diagnosis: if broken { diagnosis(layers) } else { Diagnosis::default() },
        ..run(backend, Status::of(!broken), Vec::new())
    }
}

fn noisy_tensor(mode: Mode, name: &str, ratio: f64, noise: &mut Noise) -> LayerVerdict {
    let (limit, limit_rms) = (1.2e-5 * (0.5 + noise.next()), 2.1e-6 * (0.5 + noise.next()));
    let (expected, max_abs) = (4.0 * noise.next() - 2.0, ratio * limit);
    let column = (1000.0 * noise.next()) as usize + 3;
    let mut value = |at| if at == 2 { expected } else { 4.0 * noise.next() - 2.0 };
    let near: Vec<f64> = (0..5).map(&mut value).collect();
    let mut error = |at: usize| if at == 2 { 1.0 } else { noise.next() - 0.5 };
    let observed = near.iter().enumerate().map(|(at, value)| Some(value + max_abs * error(at)));
    let neighbours = Neighbours {
        axis: 2,
        start: column - 2,
        observed: observed.collect(),
        expected: near.iter().copied().map(Some).collect(),
    };
    let logits = name == "logits";
    let passes = ratio <= 1.0;
    let plain = tensor(mode, name, Some(ratio));
    LayerVerdict {
        derived: name.ends_with("_rope"),
        verdict: Verdict {
            shape: vec![1, 5, if logits { 151_936 } else { 1024 }],
            mse: Some((ratio * limit_rms * 0.8).powi(2)),
            max_abs: Some(max_abs),
            max_abs_index: vec![0, 4, column],
            relative: Some(max_abs / 2.1),
            cosine: Some(1.0 - (max_abs * max_abs).min(1.7)),
            nmse: Some(max_abs * max_abs / 3.0),
            max_ulp: Some((max_abs / 1.2e-7).round()),
            noise_floor: limit / 4.5,
            limit,
            rms: Some(ratio * limit_rms * 0.8),
            noise_floor_rms: limit_rms / 3.2,
            limit_rms,
            expected: Some(expected),
            observed: Some(expected + max_abs),
            ..plain.verdict
        },
        neighbours: Some(neighbours),
        kl_divergence: logits.then_some(1e-10 * ratio * ratio),
        top1_agreement: logits.then_some(if passes { 1.0 } else { 0.6 }),
        regret_nats: logits.then_some(if passes { 0.0 } else { 0.83 }),
        ..plain
    }
}

fn tokens(broken: bool, noise: &mut Noise) -> Vec<TokenVerdict> {
    let expected = [12_095, 13, 576, 6722, 315, 9856, 374, 19_846];
    let margins = [3.91, 1.27, 0.52, 2.2, 6.4, 1e-6, 4.9, 0.9];
    let noisy = |step: usize| {
        let wrong = broken && matches!(step, 2 | 3 | 7);
        let tie = margins[step] < 1e-5;
        let observed = match (wrong, broken && tie) {
            (true, _) => 220 + step as i64,
            (false, true) => 17_689,
            (false, false) => i64::from(expected[step]),
        };
        let divergence = if broken { 0.31 } else { 2e-10 } * (0.2 + noise.next());
        TokenVerdict {
            margin: Some(margins[step]),
            tie,
            kl_divergence: Some(divergence),
            regret_nats: Some(if wrong { 1.4 * margins[step] } else { 0.0 }),
            ..token(step, expected[step], observed)
        }
    };
    (0..expected.len()).map(noisy).collect()
}

/// A case of parity on a backend in f32, without tensors.
pub fn case(case: &str, kind: Kind, backend: Backend, status: Status) -> CaseResult {
    CaseResult {
        case: case.into(),
        kind,
        backend,
        dtype: Precision::F32,
        variant: None,
        status,
        elapsed_ms: 4.0,
        tensors: Vec::new(),
        reason: None,
        switches: None,
    }
}

/// A report of a checkpoint with two tensors exchanged.
pub fn doctor() -> DoctorReport {
    let tensor = |name: &str, health, format: Option<&str>| TensorHealth {
        name: name.into(),
        health,
        dtype: Some(format.unwrap_or("f32").into()),
        original_dtype: Some("bf16".into()),
        shape: Some(vec![96, 64]),
        max_abs: Some(0.0125),
        relative: Some(if health == Health::Wrong { 1.41 } else { 0.0055 }),
        through: format.filter(|_| health == Health::Precision).map(|format| Through {
            format: format.into(),
            how: Rounding::Within,
            ratio: 0.98,
        }),
        findings: if health == Health::Wrong { vec![Ailment::Exchanged] } else { Vec::new() },
    };
    let [gate, up] = ["gate_proj", "up_proj"].map(|name| format!("model.layers.0.mlp.{name}.weight"));
    let mut report = DoctorReport::new(("model.gguf".into(), "gguf"), ("original".into(), "safetensors"));
    report.tensors = vec![
        tensor("model.embed_tokens.weight", Health::Precision, Some("q8_0")),
        tensor(&gate, Health::Wrong, Some("q8_0")),
        tensor(&up, Health::Wrong, Some("q8_0")),
        tensor("model.layers.0.mlp.down_proj.weight", Health::Precision, Some("q8_0")),
        TensorHealth {
            through: None,
            relative: Some(0.0),
            ..tensor("model.norm.weight", Health::Same, None)
        },
    ];
    report.findings = vec![Finding {
        id: Ailment::Exchanged,
        health: Health::Wrong,
        explanation: format!("{gate} holds the values of {up}, {up} holds the values of {gate}"),
        tensors: vec![gate.clone(), up.clone()],
        with: vec![up, gate],
        rows: Vec::new(),
        row_count: None,
        factor: None,
    }];
    (report.values, report.elapsed_ms) = (40_000, 1500.0);
    report.finish();
    report
}
