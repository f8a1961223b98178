//! How far a tensor may be from the reference.

use std::collections::BTreeMap;

use qwen3_config::Precision;
use serde::{Deserialize, Serialize};

use crate::error::ensure;
use crate::metrics::{self, Floor, Limit, Metrics};
use crate::names::{is_inner, layer_of};
use crate::{Trace, TraceError};

/// Noise floors where the reference has none, in epsilons of the dtype: for a tensor behind `n` layers,
/// `factor * sqrt(n)` of the tensor's largest value and of its rms.
///
/// Upper bounds of what Transformers' own runs show in the committed fixtures (3 layers) and in a model
/// of the 0.6B shape (28 layers): outputs 5.2 in f32 and 1.5 in half precision, tensors inside a layer
/// 8.0 and 2.6. An f32 run has more operations between roundings to its own format than a half one,
/// whose norms and softmax are computed in f32.
const OUTPUT: [f64; 2] = [5.2, 1.5];
const INSIDE: [f64; 2] = [8.0, 2.6];

/// Limits for one dtype.
#[derive(Clone)]
pub struct Limits {
    dtype: Precision,
    layers: usize,
    floors: BTreeMap<String, Floor>,
    /// Through how many layers values have come since they were last known exactly, when not through all.
    passed: Option<usize>,
}

impl Limits {
    /// Those of the reference's own `noise_floor.<dtype>.<tensor>` (largest error, rms error), and for
    /// tensors without one, those that follow from the dtype.
    ///
    /// # Errors
    /// When a floor is not two finite numbers of at least 0.
    pub fn new(reference: &Trace, dtype: Precision, layers: usize) -> Result<Self, TraceError> {
        let prefix = format!("noise_floor.{dtype}.");
        let mut floors = BTreeMap::new();
        for name in reference.names() {
            let Some(tensor) = name.strip_prefix(&prefix) else {
                continue;
            };
            let array = reference.array(&name)?.expect("it is in the list");
            let values = array.floats(&name)?;
            let good = values.len() == 2 && values.iter().all(|v| v.is_finite() && *v >= 0.0);
            ensure(good, reference.path(), || format!("`{name}` is not a largest and an rms error"))?;
            let [max_abs, rms] = [values[0], values[1]].map(f64::from);
            floors.insert(tensor.to_string(), Floor { max_abs, rms });
        }
        Ok(Self { dtype, layers, floors, passed: None })
    }

    /// The same for values that have come through `layers` layers since they were known exactly, 1 when each
    /// layer is given its input: no other error is inherited, and a stored floor, which is that of a whole
    /// run, may be too wide.
    pub fn behind(&self, layers: usize) -> Self {
        Self { passed: Some(layers), ..self.clone() }
    }

    /// The same for results in another dtype.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_dtype(&self, reference: &Trace, dtype: Precision) -> Result<Self, TraceError> {
        Ok(Self { passed: self.passed, ..Self::new(reference, dtype, self.layers)? })
    }

    /// Where the limits come from.
    pub fn source(&self) -> String {
        let dtype = self.dtype;
        if self.floors.is_empty() {
            return format!("the stated dtype {dtype}: the reference has no float64 noise floors in it");
        }
        format!("float64 noise floors in {dtype}, stored with the reference")
    }

    /// The dtype they are for.
    pub fn dtype(&self) -> Precision {
        self.dtype
    }

    /// The noise floor of tensor `key`, whose expected values are `expected`.
    pub fn floor(&self, key: &str, expected: &[f64]) -> Floor {
        let known = self.floors.get(key).copied();
        if let Some(floor) = known.filter(|_| self.passed.is_none()) {
            return floor;
        }
        let depth = match (layer_of(key), key, self.passed) {
            (None, "embedding_output", _) => 0,
            (_, _, Some(layers)) => layers,
            (Some(layer), _, None) => layer + 1,
            (None, _, None) => self.layers,
        };
        let kind = if is_inner(key) { INSIDE } else { OUTPUT };
        let factor = kind[usize::from(self.dtype != Precision::F32)];
        let share = factor * (depth as f64).sqrt() * self.dtype.epsilon();
        let largest = expected.iter().fold(0.0_f64, |m, e| m.max(e.abs()));
        let (max_abs, rms) = (share * largest, share * rms(expected));
        match known {
            Some(known) => Floor { max_abs: known.max_abs.min(max_abs), rms: known.rms.min(rms) },
            None => Floor { max_abs, rms },
        }
    }

    /// The limit of tensor `key`, whose expected values are `expected`, padding left out.
    pub fn of(&self, key: &str, expected: &[f64]) -> Limit {
        let values: Vec<f32> = expected.iter().map(|value| *value as f32).collect();
        metrics::limit(self.floor(key, expected), &values, self.dtype, |_| true)
    }
}

fn rms(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

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
