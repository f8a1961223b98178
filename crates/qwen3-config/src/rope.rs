use serde_json::{Value, json};

/// How positions become angles.
///
/// Follows Transformers `modeling_rope_utils.py`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rope {
    /// `theta^(-2 i / head_dim)` radians per token for pair `i`.
    Default {
        /// Base of the frequencies.
        theta: f64,
    },
    /// Every frequency divided by a factor.
    Linear {
        /// Base of the frequencies.
        theta: f64,
        /// What the frequencies are divided by.
        factor: f64,
    },
    /// The slow frequencies divided by a factor, the fast ones as they are (YaRN, arXiv 2309.00071).
    Yarn {
        /// Base of the frequencies.
        theta: f64,
        /// What the slow frequencies are divided by.
        factor: f64,
        /// Tokens that the model was made for at first.
        original: usize,
        /// Factor of cosines and sines; `0.1 ln(factor) + 1` where the config names none.
        attention_factor: f64,
        /// Turns within `original` tokens from which on a frequency is a fast one.
        beta_fast: f64,
        /// Turns within `original` tokens up to which a frequency is a slow one.
        beta_slow: f64,
        /// Whether the bounds between slow and fast pairs are rounded outwards to whole pairs.
        truncate: bool,
    },
}

impl Rope {
    /// Base of the frequencies.
    pub fn theta(&self) -> f64 {
        match *self {
            Self::Default { theta } | Self::Linear { theta, .. } | Self::Yarn { theta, .. } => theta,
        }
    }

    /// The same with another base.
    pub fn with_theta(mut self, base: f64) -> Self {
        match &mut self {
            Self::Default { theta } | Self::Linear { theta, .. } | Self::Yarn { theta, .. } => *theta = base,
        }
        self
    }

    /// How many tokens the frequencies are made for, where they are stretched and it is said from how many.
    pub(crate) fn tokens(&self) -> Option<usize> {
        match *self {
            Self::Yarn { factor, original, .. } => Some((original as f64 * factor) as usize),
            Self::Default { .. } | Self::Linear { .. } => None,
        }
    }

    /// `rope_scaling` of a `config.json`.
    pub(crate) fn scaling(&self) -> Value {
        match *self {
            Self::Default { .. } => Value::Null,
            Self::Linear { theta: _, factor } => json!({"factor": factor, "rope_type": "linear"}),
            Self::Yarn { theta: _, factor, original, attention_factor, beta_fast, beta_slow, truncate } => {
                json!({
                    "attention_factor": attention_factor,
                    "beta_fast": beta_fast,
                    "beta_slow": beta_slow,
                    "factor": factor,
                    "original_max_position_embeddings": original,
                    "rope_type": "yarn",
                    "truncate": truncate,
                })
            }
        }
    }
}
