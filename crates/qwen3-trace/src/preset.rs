use serde::{Deserialize, Serialize};

use crate::metrics::Metrics;

/// Fixed thresholds instead of calibrated limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Cosine at least 0.99, mean squared error at most 1e-4, relative error at most 0.01.
    #[serde(alias = "seed-003")]
    LayerVerification,
    /// Mean squared error below 1e-5.
    #[serde(alias = "seed-004")]
    Bf16Reference,
}

impl Preset {
    /// All.
    pub const ALL: [Self; 2] = [Self::LayerVerification, Self::Bf16Reference];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerVerification => "layer-verification",
            Self::Bf16Reference => "bf16-reference",
        }
    }

    /// The name on the command line before it had this one.
    pub fn old_name(self) -> &'static str {
        match self {
            Self::LayerVerification => "seed-003",
            Self::Bf16Reference => "seed-004",
        }
    }

    /// Error over threshold, the worst of the preset's metrics; at most 1 passes.
    pub fn ratio(self, metrics: &Metrics) -> f64 {
        let ratio = match self {
            Self::LayerVerification => {
                let cosine = (1.0 - metrics.cosine) / 0.01;
                (metrics.mse / 1e-4).max(metrics.relative / 0.01).max(cosine)
            }
            Self::Bf16Reference => metrics.mse / 1e-5,
        };
        if ratio.is_nan() { f64::INFINITY } else { ratio }
    }
}
