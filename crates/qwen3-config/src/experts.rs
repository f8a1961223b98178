//! Which layers have experts in place of one feed-forward block, and how tokens are sent to them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::ConfigError;
use crate::error::contradiction;

/// The experts of a sparse layer, and how each token chooses among them.
///
/// Follows Transformers `Qwen3MoeConfig`; the fields are its own, but for their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// How many there are: `num_experts`, or `num_local_experts`.
    pub count: usize,
    /// How many a token is sent to: `num_experts_per_tok`, at most `count`.
    pub per_token: usize,
    /// Features inside each: `moe_intermediate_size`.
    pub intermediate_size: usize,
    /// Whether the weights of a token's experts are divided by their sum: `norm_topk_prob`.
    pub normalised: bool,
}

/// The layers of a model that have experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseLayers {
    /// What each of them has.
    pub experts: Experts,
    /// Every so many layers there is one, counted from one: `decoder_sparse_step`.
    pub step: usize,
    /// Those that are dense all the same: `mlp_only_layers`.
    pub dense: BTreeSet<usize>,
}

impl SparseLayers {
    /// Has layer `index` experts? Follows Transformers `Qwen3MoeDecoderLayer`.
    pub fn contains(&self, index: usize) -> bool {
        (index + 1).is_multiple_of(self.step) && !self.dense.contains(&index)
    }

    /// These layers, once their numbers are held against each other.
    pub(crate) fn checked(self) -> Result<Self, ConfigError> {
        let Experts { count, per_token, .. } = self.experts;
        if per_token > count {
            let detail = format!("{per_token} experts for a token, of {count}");
            return Err(contradiction("num_experts_per_tok", "num_experts", detail));
        }
        Ok(self)
    }

    /// The fields of a `config.json` that say so.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let Experts { count, per_token, intermediate_size, normalised } = self.experts;
        let fields = json!({
            "decoder_sparse_step": self.step,
            "mlp_only_layers": self.dense,
            "moe_intermediate_size": intermediate_size,
            "norm_topk_prob": normalised,
            "num_experts": count,
            "num_experts_per_tok": per_token,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => unreachable!("just made"),
        }
    }
}
