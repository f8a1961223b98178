//! How far an observed tensor is from the expected one, and how far it may be.

#[cfg(test)]
mod tests;

use qwen3_config::Precision;
use serde::{Deserialize, Serialize};

use crate::size::Size;

/// The largest error may be this many times Transformers' own largest error.
const MAX_ABS_FACTOR: f64 = 4.0;
/// The rms error may be this many times Transformers' own.
const RMS_FACTOR: f64 = 3.0;
/// On top of it, this many epsilons of the largest expected value.
const ULPS: f64 = 2.0;
/// On top of it, this many epsilons of the rms of the expected values.
const ULPS_RMS: f64 = 0.25;

/// The error of Transformers' own run in a dtype against its float64 run, over the positions that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The largest absolute error.
    pub max_abs: f64,
    /// The root of the mean squared error.
    pub rms: f64,
}

impl Floor {
    /// The same `factor` times as wide.
    pub fn times(self, factor: f64) -> Self {
        Self { max_abs: factor * self.max_abs, rms: factor * self.rms }
    }
}

/// The differences over the elements that count, computed in f64.
///
/// Any value that is not finite makes every error infinite and the cosine NaN; when no element counts,
/// everything is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The mean squared error.
    pub mse: f64,
    /// The largest absolute error.
    pub max_abs: f64,
    /// Where it is first reached, an index per axis; or the first element that is not finite.
    pub max_abs_index: Vec<usize>,
    /// ||a-e|| / ||e||; 0 when both norms are zero, infinite when only the expected one is.
    pub relative: f64,
    /// The cosine of the angle between a and e; 1 when both norms are zero, 0 when one is.
    pub cosine: f64,
    /// The mse over the mean of e^2; zero norms as for `relative`.
    pub nmse: f64,
    /// The largest |a-e| in units of the spacing of the dtype at e.
    pub max_ulp: f64,
    /// The square root of the mse.
    pub rms: f64,
    /// How many elements are not finite, observed or expected.
    pub non_finite: usize,
}

impl Metrics {
    /// Error over limit, the worse of largest and rms; at most 1 passes. Infinite when a value is not finite
    /// or nothing was compared.
    pub fn ratio(&self, limit: &Limit) -> f64 {
        limit.ratio(self.max_abs, self.rms)
    }
}

/// The largest errors that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// The limit of [`Metrics::max_abs`].
    pub max_abs: f64,
    /// The limit of [`Metrics::rms`].
    pub rms: f64,
}

impl Limit {
    /// Error over limit, the worse of both; infinite when an error is no number.
    pub fn ratio(&self, max_abs: f64, rms: f64) -> f64 {
        let over = |error: f64, limit: f64| if error == 0.0 { 0.0 } else { error / limit };
        let ratios = [over(max_abs, self.max_abs), over(rms, self.rms)];
        ratios.into_iter().map(|ratio| if ratio.is_nan() { f64::INFINITY } else { ratio }).fold(0.0, f64::max)
    }
}

/// Compares two tensors of `shape` over the flat indices that count.
///
/// # Panics
/// When the numbers of values do not match the shape.
pub fn compare(
    observed: &[f32],
    expected: &[f32],
    shape: &[usize],
    dtype: Precision,
    counted: impl Fn(usize) -> bool,
) -> Metrics {
    assert!(
        observed.len() == expected.len() && expected.len() == shape.iter().product::<usize>(),
        "{} observed and {} expected values of shape {shape:?}",
        observed.len(),
        expected.len()
    );
    let (mut count, mut non_finite) = (0_usize, 0);
    let (mut errors, mut observed_squares, mut expected_squares, mut products) = (0.0, 0.0, 0.0, 0.0);
    let (mut max_abs, mut max_ulp, mut worst) = (-1.0, 0.0_f64, 0);
    for (index, (&a, &e)) in observed.iter().zip(expected).enumerate() {
        if !counted(index) {
            continue;
        }
        count += 1;
        if !(a.is_finite() && e.is_finite()) {
            if non_finite == 0 {
                (max_abs, worst) = (f64::INFINITY, index);
            }
            non_finite += 1;
            continue;
        }
        let (a, e) = (f64::from(a), f64::from(e));
        let error = (a - e).abs();
        if error > max_abs {
            (max_abs, worst) = (error, index);
        }
        max_ulp = max_ulp.max(error / dtype.ulp(e));
        errors += error * error;
        observed_squares += a * a;
        expected_squares += e * e;
        products += a * e;
    }
    if count == 0 || non_finite > 0 {
        let error = if count == 0 { f64::NAN } else { f64::INFINITY };
        return Metrics {
            mse: error,
            max_abs: error,
            max_abs_index: if count == 0 { Vec::new() } else { unflatten(worst, shape) },
            relative: error,
            cosine: f64::NAN,
            nmse: error,
            max_ulp: error,
            rms: error,
            non_finite,
        };
    }
    let mse = errors / count as f64;
    let ratio = match (errors == 0.0, expected_squares == 0.0) {
        (true, true) => 0.0,
        (false, true) => f64::INFINITY,
        _ => errors / expected_squares,
    };
    Metrics {
        mse,
        max_abs,
        max_abs_index: unflatten(worst, shape),
        relative: ratio.sqrt(),
        cosine: match (observed_squares == 0.0, expected_squares == 0.0) {
            (true, true) => 1.0,
            (false, false) => {
                (products / (observed_squares.sqrt() * expected_squares.sqrt())).clamp(-1.0, 1.0)
            }
            _ => 0.0,
        },
        nmse: ratio,
        max_ulp,
        rms: mse.sqrt(),
        non_finite,
    }
}

/// The limit for `expected` values: a multiple of what honest runs are off by, and a little for the format itself.
pub fn limit(floor: Floor, expected: &[f64], dtype: Precision) -> Limit {
    limit_of(floor, Size::of(expected), dtype)
}

/// The same for values of this size.
pub(crate) fn limit_of(floor: Floor, Size { largest, rms }: Size, dtype: Precision) -> Limit {
    Limit {
        max_abs: MAX_ABS_FACTOR * floor.max_abs + ULPS * dtype.epsilon() * largest,
        rms: RMS_FACTOR * floor.rms + ULPS_RMS * dtype.epsilon() * rms,
    }
}

/// How far two tensors of the same 16-bit format are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SameDTypeMetrics {
    /// The share of elements that differ; +0 and -0 are equal.
    pub unequal: f64,
    /// The largest number of representable steps between two elements; `u32::MAX` when one is not finite.
    pub max_ulp_distance: u32,
}

/// Compares bit patterns of f16 or bf16.
///
/// # Panics
/// When the numbers of elements differ or are zero, or for f32.
pub fn same_dtype(observed: &[u16], expected: &[u16], dtype: Precision) -> SameDTypeMetrics {
    assert!(
        observed.len() == expected.len() && !expected.is_empty(),
        "{} observed and {} expected elements",
        observed.len(),
        expected.len()
    );
    let infinity = match dtype {
        Precision::F16 => half::f16::INFINITY.to_bits(),
        Precision::BF16 => half::bf16::INFINITY.to_bits(),
        Precision::F32 => panic!("bit patterns of 16 bits in {dtype}"),
    };
    // A magnitude's bit pattern counts the steps from zero.
    let steps = |bits: u16| {
        let magnitude = i32::from(bits & 0x7fff);
        let signed = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
        (magnitude < i32::from(infinity)).then_some(signed)
    };
    let distance = |(&a, &e): (&u16, &u16)| match (steps(a), steps(e)) {
        (Some(a), Some(e)) => a.abs_diff(e),
        _ => u32::MAX,
    };
    let distances = observed.iter().zip(expected).map(distance);
    let (unequal, max_ulp_distance) = distances.fold((0_usize, 0), |(unequal, max), distance| {
        (unequal + usize::from(distance > 0), distance.max(max))
    });
    SameDTypeMetrics { unequal: unequal as f64 / expected.len() as f64, max_ulp_distance }
}

/// The index per axis of a flat index in C order.
fn unflatten(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (axis, &dim) in shape.iter().enumerate().rev() {
        index[axis] = flat % dim;
        flat /= dim;
    }
    index
}
