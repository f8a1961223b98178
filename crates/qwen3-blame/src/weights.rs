//! Weights on the host, for the [`probe`](crate::probe): one layer at a time, in f32 as stored or cast up.

use std::collections::BTreeMap;

use crate::arithmetic::Arithmetic;
use crate::habits::{Habit, Part};
use crate::low_rank::LowRank;
use crate::variant::{Layout, Variant};
use qwen3_checkpoint::{Checkpoint, CheckpointError, Target};
use qwen3_config::{EMBEDDING, Experts, FeedForwardKind, HEAD, Qwen3Config, Reach, expert_name, layer_key};

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
    /// What the checkpoint's adapter adds.
    pub adapter: Option<LowRank>,
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
    pub mlp: FeedForwardWeights,
    /// How far back its attention looks.
    pub reach: Reach,
}

/// The weights of a feed-forward block.
#[derive(Clone, Debug)]
pub enum FeedForwardWeights {
    /// One that every token passes through.
    Dense(Box<MlpWeights>),
    /// A router and its experts.
    Sparse(SparseWeights),
}

/// The weights of a gated block, by the checkpoint's keys.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named as the checkpoint's keys are")]
pub struct MlpWeights {
    pub gate_proj: Projection,
    pub up_proj: Projection,
    pub down_proj: Projection,
}

/// The weights of a block of experts.
#[derive(Clone, Debug)]
pub struct SparseWeights {
    /// `mlp.gate`, `[num_experts, hidden_size]`.
    pub router: Projection,
    /// Each expert's.
    pub experts: Vec<MlpWeights>,
    /// What the config says of them.
    pub of: Experts,
}

impl Projection {
    /// The product with every row of `x` `[tokens, in]` as `variant` computes it, with what the adapter adds, which is
    /// rounded with the product alone: `[tokens, out]`.
    pub fn adapted(&self, x: &[f64], layout: Layout, variant: &Variant) -> Vec<f64> {
        let product = self.apply(x, layout, variant.arithmetic);
        let Some(adapter) = &self.adapter else {
            return product;
        };
        let change = adapter.change(x, variant.adapter);
        variant
            .arithmetic
            .round(product.iter().zip(change).map(|(product, change)| product + change).collect())
    }
}

impl Projection {
    /// A product `[tokens, out]` without the bias, where the variant leaves it out of that projection.
    pub(crate) fn without_bias(&self, mut product: Vec<f64>, variant: &Variant, part: Part) -> Vec<f64> {
        if let (Some(Habit::BiasMissing(missing)), Some(bias)) = (variant.habit, &self.bias)
            && missing == part
        {
            for row in product.chunks_mut(self.out) {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x -= f64::from(*bias));
            }
        }
        product
    }
}

impl LayerWeights {
    /// Reads layer `index`.
    ///
    /// # Errors
    /// When a key is missing, misshapen or not finite.
    pub fn read(checkpoint: &Checkpoint, index: usize) -> Result<Self, CheckpointError> {
        let weights: BTreeMap<String, Vec<usize>> =
            checkpoint.config().layer_weights(index).map(|weight| (weight.key, weight.shape)).collect();
        let read = |name: &str| {
            let key = layer_key(index, name);
            weights.get(&key).map(|shape| checkpoint.values(&key, shape)).transpose()
        };
        let norm = |name: &str| {
            let weight = read(&format!("{name}.weight"))?;
            Ok::<_, CheckpointError>(weight.expect("every layer has its norms"))
        };
        let alone = |name: &str| {
            let weight = norm(name)?;
            let [out, input] = weights[&layer_key(index, &format!("{name}.weight"))][..] else {
                unreachable!("a projection is a matrix");
            };
            let bias = read(&format!("{name}.bias"))?;
            Ok::<_, CheckpointError>(Projection { weight, out, input, bias, adapter: None })
        };
        let linear = |target: Target| {
            let adapter = checkpoint.adapter().and_then(|adapter| LowRank::of(adapter, index, target));
            Ok::<_, CheckpointError>(Projection { adapter, ..alone(target.path())? })
        };
        let expert = |expert: usize| {
            let alone = |name: &str| alone(&format!("{}.{name}", expert_name(expert)));
            let [gate_proj, up_proj] = [alone("gate_proj")?, alone("up_proj")?];
            Ok::<_, CheckpointError>(MlpWeights { gate_proj, up_proj, down_proj: alone("down_proj")? })
        };
        let kind = checkpoint.config().layer(index);
        let feed_forward = match kind.feed_forward {
            FeedForwardKind::Dense { .. } => FeedForwardWeights::Dense(Box::new(MlpWeights {
                gate_proj: linear(Target::GateProj)?,
                up_proj: linear(Target::UpProj)?,
                down_proj: linear(Target::DownProj)?,
            })),
            FeedForwardKind::Sparse(of) => FeedForwardWeights::Sparse(SparseWeights {
                router: alone("mlp.gate")?,
                experts: (0..of.count).map(expert).collect::<Result<_, _>>()?,
                of,
            }),
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            q_norm: norm("self_attn.q_norm")?,
            k_norm: norm("self_attn.k_norm")?,
            q_proj: linear(Target::QProj)?,
            k_proj: linear(Target::KProj)?,
            v_proj: linear(Target::VProj)?,
            o_proj: linear(Target::OProj)?,
            mlp: feed_forward,
            reach: kind.reach,
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
            adapter: None,
        };
        let part = block.apply(x, Layout::OutIn, arithmetic);
        for token in 0..tokens {
            logits[token * vocab_size + start..token * vocab_size + end]
                .copy_from_slice(&part[token * block.out..(token + 1) * block.out]);
        }
    }
    Ok(logits)
}
