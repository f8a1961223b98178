//! `dtype_rounding`: observed values that are the right ones in a narrower format.

use half::{bf16, f16};

use qwen3_config::{Precision, Site};
use qwen3_trace::Limits;

use crate::{Blame, Result};

/// The nearest value of `dtype`.
pub fn round(value: f64, dtype: Precision) -> f64 {
    match dtype {
        Precision::F32 => f64::from(value as f32),
        Precision::F16 => f16::from_f64(value).to_f64(),
        Precision::BF16 => bf16::from_f64(value).to_f64(),
    }
}

/// Has every one of `values` a place in `dtype`?
pub fn fits(values: &[f64], dtype: Precision) -> bool {
    values.iter().all(|value| round(*value, dtype) == *value)
}

/// The half precision that every one of `values` has a place in, bf16 first, if there is one.
pub fn format_of(values: &[f64]) -> Option<Precision> {
    let mut halves = [Precision::BF16, Precision::F16].into_iter();
    halves.find(|dtype| fits(values, *dtype))
}

/// The share of elements that are exactly the expected value rounded to `dtype`. A value that lies
/// within `slack` of the middle between two neighbours may go either way.
pub fn share_rounded(observed: &[f64], expected: &[f64], dtype: Precision, slack: f64) -> f64 {
    let pairs = observed.iter().zip(expected);
    let equal = pairs.filter(|(o, e)| {
        let near = [**e, **e - slack, **e + slack];
        near.iter().any(|e| round(*e, dtype) == **o)
    });
    equal.count() as f64 / observed.len().max(1) as f64
}

/// The limits of the half precision that every observed tensor is stored in; without one, those of the run.
///
/// # Errors
/// When a tensor is malformed.
pub fn stored_limits(blame: &Blame) -> Result<Limits> {
    // A run in half precision is held to its own limits already.
    let mut formats = match blame.limits.dtype() {
        Precision::F32 => vec![Precision::BF16, Precision::F16],
        _ => Vec::new(),
    };
    for site in Site::all(blame.scope.of) {
        if formats.is_empty() {
            break;
        }
        if let Some(values) = blame.observed.values(&site.to_string())? {
            formats.retain(|dtype| fits(&values, *dtype));
        }
    }
    match formats.first() {
        Some(dtype) => blame.limits.in_dtype(blame.reference, *dtype),
        None => Ok(blame.limits.clone()),
    }
}
