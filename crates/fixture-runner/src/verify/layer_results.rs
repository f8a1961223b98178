//! The layers of a run, as seed 003's report has them.

use qwen3_model::Qwen3Config;
use serde::Serialize;

use super::job::Mode;
use super::judge::TensorReport;
use super::report::Run;
use crate::manifest::TestDType;
use crate::tensors::{output_key, tap_key};

/// A layer as seed 003's report has it.
#[derive(Clone, Debug, Serialize)]
pub struct LayerResult {
    /// The layer; -1 for the embedding, the number of layers for what comes behind them.
    pub layer_index: i64,
    /// `embedding`, `layer_3`, `layer_3_attention`, `layer_3_mlp`, `final_norm` or `logits`.
    pub layer_name: String,
    /// The backend, or `observed`.
    pub backend: String,
    /// The dtype.
    pub dtype: TestDType,
    /// How the layer got its input.
    pub mode: Mode,
    /// `[batch, seq]` of ids or `[batch, seq, hidden_size]`.
    pub input_shape: Vec<usize>,
    /// The tensor's shape.
    pub output_shape: Vec<usize>,
    /// Mean squared error.
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
pub fn layers_of(run: &Run, config: &Qwen3Config) -> Vec<LayerResult> {
    let mut results = Vec::new();
    let mut add = |tensor: &TensorReport, index: i64, name: String| {
        let shape = &tensor.result.shape;
        let mut input_shape = shape[..2.min(shape.len())].to_vec();
        if index >= 0 {
            input_shape.push(config.hidden_size);
        }
        results.push(LayerResult {
            layer_index: index,
            layer_name: name,
            backend: run.backend.clone(),
            dtype: run.dtype,
            mode: tensor.mode,
            input_shape,
            output_shape: shape.clone(),
            mse: tensor.result.mse,
            cosine_similarity: tensor.result.cosine,
            relative_error: tensor.result.relative,
            pass_threshold: tensor.result.pass,
        });
    };
    let find = |name: &str, modes: [Mode; 2]| {
        let of = |mode| {
            let mut tensors = run.tensors.iter();
            tensors.find(move |t| t.mode == mode && t.result.name == name)
        };
        of(modes[0]).or_else(|| of(modes[1]))
    };
    let whole = [Mode::Accumulated, Mode::Isolated];
    let alone = [Mode::Isolated, Mode::Accumulated];
    if let Some(tensor) = find("embedding_output", whole) {
        add(tensor, -1, "embedding".into());
    }
    for layer in 0..config.num_hidden_layers {
        for (key, suffix, modes) in [
            (tap_key(layer, "self_attn.o_proj"), "_attention", alone),
            (tap_key(layer, "mlp"), "_mlp", alone),
            (output_key(layer + 1, config.num_hidden_layers), "", whole),
        ] {
            if let Some(tensor) = find(&key, modes) {
                add(tensor, layer as i64, format!("layer_{layer}{suffix}"));
            }
        }
    }
    let behind = config.num_hidden_layers as i64;
    for (key, name) in [("final_norm_output", "final_norm"), ("logits", "logits")] {
        if let Some(tensor) = find(key, whole) {
            add(tensor, behind, name.into());
        }
    }
    results
}
