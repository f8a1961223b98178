//! The layers of a run, one line each.

use qwen3_config::{Qwen3Config, Site, Tap};
use qwen3_trace::{LayerVerdict, Mode, Precision};
use serde::{Deserialize, Serialize};

use crate::RunResult;

/// A layer of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerResult {
    /// The layer; -1 for the embedding, the number of layers for what comes behind them.
    pub layer_index: i64,
    /// `embedding`, `layer_3`, `layer_3_attention`, `layer_3_mlp`, `final_norm`, `logits`, `step_logits` or
    /// `generated_ids`.
    pub layer_name: String,
    /// The backend, or `observed`.
    pub backend: String,
    /// The dtype.
    pub dtype: Precision,
    /// How the layer got its input.
    pub mode: Mode,
    /// `[batch, seq]` of ids or `[batch, seq, hidden_size]`.
    pub input_shape: Vec<usize>,
    /// The tensor's shape.
    pub output_shape: Vec<usize>,
    /// Mean squared error; of generated ids that of the ids as numbers.
    pub mse: Option<f64>,
    /// Cosine of the angle between both.
    pub cosine_similarity: Option<f64>,
    /// Norm of the error over norm of the expectation.
    pub relative_error: Option<f64>,
    /// The verdict.
    pub pass_threshold: bool,
}

/// The layers of a run: outputs from the whole run, the attention and feed-forward blocks with the
/// reference's input, and either from the other mode when the run has only that.
pub fn layers_of(run: &RunResult, config: &Qwen3Config) -> Vec<LayerResult> {
    let mut results = Vec::new();
    let mut add = |tensor: &LayerVerdict, index: i64, name: String| {
        let shape = &tensor.verdict.shape;
        let mut input_shape = shape[..2.min(shape.len())].to_vec();
        if index >= 0 && name != "generated_ids" {
            input_shape.push(config.hidden_size);
        }
        results.push(LayerResult {
            layer_index: index,
            layer_name: name,
            backend: run.label.backend.clone(),
            dtype: run.label.dtype,
            mode: tensor.mode,
            input_shape,
            output_shape: shape.clone(),
            mse: tensor.verdict.mse,
            cosine_similarity: tensor.verdict.cosine,
            relative_error: tensor.verdict.relative,
            pass_threshold: tensor.verdict.pass,
        });
    };
    let find = |site: Site, modes: [Mode; 2]| {
        let name = site.to_string();
        let of = |mode| run.verdicts.find(mode, &name);
        of(modes[0]).or_else(|| of(modes[1]))
    };
    let whole = [Mode::Accumulated, Mode::Isolated];
    let alone = [Mode::Isolated, Mode::Accumulated];
    if let Some(tensor) = find(Site::outside(Tap::Embedding), whole) {
        add(tensor, -1, "embedding".into());
    }
    for layer in 0..config.num_hidden_layers {
        for (tap, suffix, modes) in
            [(Tap::OProj, "_attention", alone), (Tap::Mlp, "_mlp", alone), (Tap::LayerOutput, "", whole)]
        {
            if let Some(tensor) = find(Site::inside(layer, tap), modes) {
                add(tensor, layer as i64, format!("layer_{layer}{suffix}"));
            }
        }
    }
    let behind = config.num_hidden_layers as i64;
    for (tap, name) in [(Tap::FinalNorm, "final_norm"), (Tap::Logits, "logits")] {
        if let Some(tensor) = find(Site::outside(tap), whole) {
            add(tensor, behind, name.into());
        }
    }
    for name in ["step_logits", "generated_ids"] {
        if let Some(tensor) = run.verdicts.find(Mode::Accumulated, name) {
            add(tensor, behind, name.into());
        }
    }
    results
}
