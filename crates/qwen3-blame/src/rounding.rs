//! `dtype_rounding`: observed values that are the right ones in a narrower format.

use half::{bf16, f16};

use qwen3_config::Precision;

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
