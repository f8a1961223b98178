//! Verdicts: what a comparison found, and whether it passes.

use qwen3_config::Precision;
use serde::{Deserialize, Serialize};

use crate::metrics::{self, Floor, Limit, Metrics};

/// In half precision a norm must give Transformers' own bits, except where the last bit of the f32
/// inside it decides a rounding: at most this share of elements beyond the share at which Transformers
/// itself differs from a float64 norm with the same rounding points.
const UNEQUAL_ALLOWANCE: f64 = 0.01;

/// One tensor against its expectation. Numbers that are not finite are `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The tensor's name in the fixture or reference.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Mean of squared errors.
    pub mse: Option<f64>,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Where the largest absolute error is.
    pub max_abs_index: Vec<usize>,
    /// Norm of the error over norm of the expectation.
    pub relative: Option<f64>,
    /// Cosine of the angle between both.
    pub cosine: Option<f64>,
    /// Mean squared error over mean square of the expectation.
    pub nmse: Option<f64>,
    /// Largest error in units in the last place of the dtype under test.
    pub max_ulp: Option<f64>,
    /// `max_abs` of Transformers' own run in this dtype against float64.
    #[serde(deserialize_with = "null_is_infinite")]
    pub noise_floor: f64,
    /// The largest `max_abs` that passes.
    #[serde(deserialize_with = "null_is_infinite")]
    pub limit: f64,
    /// Root mean square error.
    pub rms: Option<f64>,
    /// Root mean square error of Transformers' own run.
    #[serde(deserialize_with = "null_is_infinite")]
    pub noise_floor_rms: f64,
    /// The largest `rms` that passes.
    #[serde(deserialize_with = "null_is_infinite")]
    pub limit_rms: f64,
    /// Value expected at `max_abs_index`.
    pub expected: Option<f64>,
    /// Value computed at `max_abs_index`.
    pub observed: Option<f64>,
    /// Does it pass?
    pub pass: bool,
    /// Anything else worth saying: ties among generated ids, elements unequal in their bits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// JSON has no infinity: it is written as null.
fn null_is_infinite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// What is said of values that are NaN or infinite.
pub const NOT_FINITE: &str = "not finite";

/// Two tensors of one name and shape.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The shape of both.
    pub shape: &'a [usize],
    /// What was computed.
    pub observed: &'a [f32],
    /// What should have been.
    pub expected: &'a [f32],
}

impl Compared<'_> {
    /// The metrics over the flat indices that count, and the limit that follows from `floor`.
    fn measure(&self, floor: Floor, dtype: Precision, counted: impl Fn(usize) -> bool) -> (Metrics, Limit) {
        let kept = self.expected.iter().enumerate().filter(|(index, _)| counted(*index));
        let kept: Vec<f64> = kept.map(|(_, value)| f64::from(*value)).collect();
        let limit = metrics::limit(floor, &kept, dtype);
        let metrics = metrics::compare(self.observed, self.expected, self.shape, dtype, counted);
        (metrics, limit)
    }

    /// Judges by the noise floor of the tensor in `dtype`, over the flat indices that count.
    ///
    /// # Panics
    /// When the numbers of values do not match the shape.
    pub fn judge(&self, floor: Floor, dtype: Precision, counted: impl Fn(usize) -> bool) -> Verdict {
        let (metrics, limit) = self.measure(floor, dtype, counted);
        let pass = metrics.ratio(&limit) <= 1.0;
        self.verdict(metrics, floor, limit, pass)
    }

    /// Judges a tensor that has no noise: every limit is zero.
    ///
    /// # Panics
    /// As [`judge`](Self::judge).
    pub fn judge_exact(&self) -> Verdict {
        let (floor, dtype) = (Floor::default(), Precision::F32);
        let metrics = metrics::compare(self.observed, self.expected, self.shape, dtype, |_| true);
        let pass = metrics.max_abs == 0.0;
        self.verdict(metrics, floor, Limit::default(), pass)
    }

    pub(crate) fn verdict(&self, metrics: Metrics, floor: Floor, limit: Limit, pass: bool) -> Verdict {
        let finite = |value: f64| value.is_finite().then_some(value);
        let axes = metrics.max_abs_index.iter().zip(self.shape);
        let worst = axes.fold(0, |flat, (index, size)| flat * size + index);
        let at = |values: &[f32]| finite(f64::from(*values.get(worst)?));
        let not_finite = self.observed.iter().any(|value| !value.is_finite());
        Verdict {
            name: self.name.into(),
            shape: self.shape.into(),
            mse: finite(metrics.mse),
            max_abs: finite(metrics.max_abs),
            relative: finite(metrics.relative),
            cosine: finite(metrics.cosine),
            nmse: finite(metrics.nmse),
            max_ulp: finite(metrics.max_ulp),
            rms: finite(metrics.rms),
            noise_floor: floor.max_abs,
            limit: limit.max_abs,
            noise_floor_rms: floor.rms,
            limit_rms: limit.rms,
            expected: at(self.expected),
            observed: at(self.observed),
            max_abs_index: metrics.max_abs_index,
            pass,
            note: not_finite.then(|| NOT_FINITE.into()),
        }
    }
}

impl Verdict {
    /// Also asks for Transformers' own bits in a half precision, which is what tells apart the order of
    /// rounding; `unequal` is the share of elements at which it differs from a float64 norm with the same
    /// rounding points.
    ///
    /// # Panics
    /// As [`metrics::same_dtype`].
    pub fn judge_bits(&mut self, observed: &[u16], expected: &[u16], unequal: f64, dtype: Precision) {
        let bits = metrics::same_dtype(observed, expected, dtype);
        let limit = unequal + UNEQUAL_ALLOWANCE;
        self.pass &= bits.unequal <= limit && bits.max_ulp_distance <= 1;
        if bits.unequal > 0.0 {
            self.note = Some(format!(
                "{:.2} % of the elements differ from Transformers' {dtype} bits (limit {:.2} %), by at most \
                 {} ulp (limit 1)",
                100.0 * bits.unequal,
                100.0 * limit,
                bits.max_ulp_distance
            ));
        }
    }
}
