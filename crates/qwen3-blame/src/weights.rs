//! Weights on the host, for the [`probe`](super::probe): one layer at a time, in f32 as stored or cast up.

use qwen3_import::{Checkpoint, ImportError};
use qwen3_model::Qwen3Config;

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

impl Projection {
    fn read(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        [out, input]: [usize; 2],
        bias: bool,
    ) -> Result<Self, ImportError> {
        let weight = checkpoint.values(&format!("{prefix}.weight"), &[out, input])?;
        let bias = match bias {
            true => Some(checkpoint.values(&format!("{prefix}.bias"), &[out])?),
            false => None,
        };
        Ok(Self {
            weight,
            out,
            input,
            bias,
        })
    }
}

/// The weights of one decoder layer; the fields are the checkpoint's keys.
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
}

impl LayerWeights {
    /// Reads layer `index`.
    ///
    /// # Errors
    /// When a key is missing, misshapen or not finite.
    pub fn read(checkpoint: &mut Checkpoint, index: usize) -> Result<Self, ImportError> {
        let config = checkpoint.config().clone();
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let bias = config.attention_bias;
        let layer = format!("model.layers.{index}");
        let norm = |checkpoint: &mut Checkpoint, name: &str, size| {
            checkpoint.values(&format!("{layer}.{name}.weight"), &[size])
        };
        let linear = |checkpoint: &mut Checkpoint, name: &str, shape, bias| {
            Projection::read(checkpoint, &format!("{layer}.{name}"), shape, bias)
        };
        Ok(Self {
            input_layernorm: norm(checkpoint, "input_layernorm", hidden)?,
            post_attention_layernorm: norm(checkpoint, "post_attention_layernorm", hidden)?,
            q_norm: norm(checkpoint, "self_attn.q_norm", config.head_dim)?,
            k_norm: norm(checkpoint, "self_attn.k_norm", config.head_dim)?,
            q_proj: linear(checkpoint, "self_attn.q_proj", [queries, hidden], bias)?,
            k_proj: linear(checkpoint, "self_attn.k_proj", [keys, hidden], bias)?,
            v_proj: linear(checkpoint, "self_attn.v_proj", [keys, hidden], bias)?,
            o_proj: linear(checkpoint, "self_attn.o_proj", [hidden, queries], bias)?,
            gate_proj: linear(checkpoint, "mlp.gate_proj", [inner, hidden], false)?,
            up_proj: linear(checkpoint, "mlp.up_proj", [inner, hidden], false)?,
            down_proj: linear(checkpoint, "mlp.down_proj", [hidden, inner], false)?,
        })
    }
}

/// Rows `ids` of the embedding, `[ids.len() * hidden_size]`.
///
/// # Errors
/// When the key is missing, misshapen or not finite.
pub fn embedding_rows(checkpoint: &mut Checkpoint, ids: &[u32]) -> Result<Vec<f64>, ImportError> {
    let Qwen3Config {
        vocab_size,
        hidden_size,
        ..
    } = *checkpoint.config();
    let mut rows = Vec::with_capacity(ids.len() * hidden_size);
    for id in ids {
        let id = *id as usize;
        let row = checkpoint.value_rows(EMBEDDING, [vocab_size, hidden_size], id..id + 1)?;
        rows.extend(row.into_iter().map(f64::from));
    }
    Ok(rows)
}

/// The key of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The key of an untied head.
pub const HEAD: &str = "lm_head.weight";

/// The product of every row of `x` `[tokens, hidden_size]` with the matrix `key`
/// `[vocab_size, hidden_size]`, a block of rows in memory at a time: `[tokens, vocab_size]`.
///
/// # Errors
/// When the key is missing, misshapen or not finite.
pub fn vocabulary_product(
    checkpoint: &mut Checkpoint,
    key: &str,
    x: &[f64],
) -> Result<Vec<f64>, ImportError> {
    const BLOCK: usize = 16_384;
    let Qwen3Config {
        vocab_size,
        hidden_size,
        ..
    } = *checkpoint.config();
    let tokens = x.len() / hidden_size;
    let mut logits = vec![0.0; tokens * vocab_size];
    for start in (0..vocab_size).step_by(BLOCK) {
        let end = vocab_size.min(start + BLOCK);
        let block = Projection {
            weight: checkpoint.value_rows(key, [vocab_size, hidden_size], start..end)?,
            out: end - start,
            input: hidden_size,
            bias: None,
        };
        let part = block.apply(x, super::variant::Layout::OutIn);
        for token in 0..tokens {
            logits[token * vocab_size + start..token * vocab_size + end]
                .copy_from_slice(&part[token * block.out..(token + 1) * block.out]);
        }
    }
    Ok(logits)
}
