//! Weights on the host, for the [`probe`](crate::probe): one layer at a time, in f32 as stored or cast up.

use crate::arithmetic::Arithmetic;
use crate::variant::Layout;
use qwen3_checkpoint::{Checkpoint, CheckpointError};
use qwen3_config::{EMBEDDING, HEAD, Qwen3Config, Reach, layer_key};

/// A linear map's weights, row-major.
#[derive(Clone, Debug)]
pub struct Projection {
    /// `[out, in]`
    pub weight: Vec<f32>,
    /// Rows.
    pub out: usize,
    /// Columns.
    pub input: usize,
    /// `[out]`
    pub bias: Option<Vec<f32>>,
}

/// The weights of one decoder layer, by the checkpoint's keys, and what the config says of it alone.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named as the checkpoint's keys are")]
pub struct LayerWeights {
    pub input_layernorm: Vec<f32>,
    pub post_attention_layernorm: Vec<f32>,
    pub q_norm: Vec<f32>,
    pub k_norm: Vec<f32>,
    pub q_proj: Projection,
    pub k_proj: Projection,
    pub v_proj: Projection,
    pub o_proj: Projection,
    pub gate_proj: Projection,
    pub up_proj: Projection,
    pub down_proj: Projection,
    /// How far back its attention looks.
    pub reach: Reach,
}

impl LayerWeights {
    /// Reads layer `index`.
    ///
    /// # Errors
    /// When a key is missing, misshapen or not finite.
    pub fn read(checkpoint: &Checkpoint, index: usize) -> Result<Self, CheckpointError> {
        let weights = checkpoint.config().layer_weights(index);
        let read = |name: &str| {
            let key = layer_key(index, name);
            let weight = weights.iter().find(|weight| weight.key == key);
            weight.map(|weight| checkpoint.values(&key, &weight.shape)).transpose()
        };
        let norm = |name: &str| {
            let weight = read(&format!("{name}.weight"))?;
            Ok::<_, CheckpointError>(weight.expect("every layer has its norms"))
        };
        let linear = |name: &str| {
            let weight = norm(name)?;
            let key = layer_key(index, &format!("{name}.weight"));
            let shape = weights.iter().find(|weight| weight.key == key).map(|weight| &weight.shape);
            let [out, input] = shape.expect("just read")[..] else {
                unreachable!("a projection is a matrix");
            };
            let bias = read(&format!("{name}.bias"))?;
            Ok::<_, CheckpointError>(Projection { weight, out, input, bias })
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            q_norm: norm("self_attn.q_norm")?,
            k_norm: norm("self_attn.k_norm")?,
            q_proj: linear("self_attn.q_proj")?,
            k_proj: linear("self_attn.k_proj")?,
            v_proj: linear("self_attn.v_proj")?,
            o_proj: linear("self_attn.o_proj")?,
            gate_proj: linear("mlp.gate_proj")?,
            up_proj: linear("mlp.up_proj")?,
            down_proj: linear("mlp.down_proj")?,
            reach: checkpoint.config().layer(index).reach,
        })
    }
}

/// Rows `ids` of the embedding, `[ids.len() * hidden_size]`.
///
/// # Errors
/// When the key is missing, misshapen or not finite.
pub fn embedding_rows(checkpoint: &Checkpoint, ids: &[u32]) -> Result<Vec<f64>, CheckpointError> {
    let Qwen3Config { vocab_size, hidden_size, .. } = *checkpoint.config();
    let mut rows = Vec::with_capacity(ids.len() * hidden_size);
    for id in ids {
        let id = *id as usize;
        let row = checkpoint.rows::<f32>(EMBEDDING, [vocab_size, hidden_size], id..id + 1)?;
        rows.extend(row.into_iter().map(f64::from));
    }
    Ok(rows)
}

/// The logits `[tokens, vocab_size]` of normed tokens `x` `[tokens, hidden_size]`, with the head that the config says.
///
/// # Errors
/// As [`vocabulary_product`].
pub fn head_product(
    checkpoint: &Checkpoint,
    x: &[f64],
    arithmetic: Arithmetic,
) -> Result<Vec<f64>, CheckpointError> {
    let key = if checkpoint.config().tie_word_embeddings { EMBEDDING } else { HEAD };
    vocabulary_product(checkpoint, key, x, arithmetic)
}

/// The product of every row of `x` `[tokens, hidden_size]` with the matrix `key`
/// `[vocab_size, hidden_size]`, a block of rows in memory at a time: `[tokens, vocab_size]`.
///
/// # Errors
/// When the key is missing, misshapen or not finite.
pub fn vocabulary_product(
    checkpoint: &Checkpoint,
    key: &str,
    x: &[f64],
    arithmetic: Arithmetic,
) -> Result<Vec<f64>, CheckpointError> {
    const BLOCK: usize = 16_384;
    let Qwen3Config { vocab_size, hidden_size, .. } = *checkpoint.config();
    let tokens = x.len() / hidden_size;
    let mut logits = vec![0.0; tokens * vocab_size];
    for start in (0..vocab_size).step_by(BLOCK) {
        let end = vocab_size.min(start + BLOCK);
        let block = Projection {
            weight: checkpoint.rows(key, [vocab_size, hidden_size], start..end)?,
            out: end - start,
            input: hidden_size,
            bias: None,
        };
        let part = block.apply(x, Layout::OutIn, arithmetic);
        for token in 0..tokens {
            logits[token * vocab_size + start..token * vocab_size + end]
                .copy_from_slice(&part[token * block.out..(token + 1) * block.out]);
        }
    }
    Ok(logits)
}
