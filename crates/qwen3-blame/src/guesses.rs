//! Mistakes that need no recomputing: scaled embeddings, rounding, another head, values that are not finite.

use crate::explanation::Explanation;
use crate::formats::{Format, Nearest};
use crate::ops::dot;
use crate::residual::Residual;
use crate::rounding;
use qwen3_trace::TensorLimit;

/// The words for embeddings that are multiplied by `factor`.
pub fn scale_words(factor: f64, hidden: usize) -> String {
    let root = (hidden as f64).sqrt();
    if (factor / root - 1.0).abs() < 1e-3 {
        return format!("embeddings are multiplied by sqrt(hidden_size) = {root:.4}");
    }
    format!("embeddings are multiplied by {factor:.6}")
}

/// `dtype_rounding`, when `observed` is `expected` rounded to a half precision.
pub fn rounded(observed: &[f64], expected: &[f64], limit: &TensorLimit) -> Vec<Explanation> {
    let Some(dtype) = rounding::format_of(observed) else {
        return Vec::new();
    };
    let share = rounding::share_rounded(observed, expected, dtype, limit.max_abs());
    if share < 0.99 {
        return Vec::new();
    }
    let round = |value: &f64| rounding::round(*value, dtype);
    let predicted: Vec<f64> = expected.iter().map(round).collect();
    let after = Residual::of(&predicted, observed, limit);
    vec![Explanation::plain("dtype_rounding", format!("the right values are rounded to {dtype}"), after)]
}

/// `weights_q8_0` or `weights_q4_0`, when `observed` are the rows of `expected`, of `width` values, in blocks of that format: an
/// embedding that was quantised.
pub fn quantised(
    observed: &[f64],
    expected: &[f64],
    width: usize,
    limit: &TensorLimit,
    before: Residual,
) -> Option<Explanation> {
    let formats =
        [("weights_q8_0", Format::Q8(Nearest::Reference)), ("weights_q4_0", Format::Q4)].into_iter();
    let mut tried = formats.map(|(id, format)| {
        let mut rows = expected.to_vec();
        rows.chunks_mut(width).for_each(|row| format.round(row));
        let words = format!("weights are rounded to {}", format.name());
        Explanation::plain(id, words, Residual::of(&rows, observed, limit))
    });
    tried.find(|tried| tried.after.explains_as_rounding(before))
}

/// `non_finite`, when tensor `key` holds such values.
pub fn not_finite(values: &[f64], key: &str) -> Option<Explanation> {
    let first = values.iter().position(|value| !value.is_finite())?;
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    let words = match bad {
        1 => format!("`{key}` holds a value that is not finite, {} at flat index {first}", values[first]),
        _ => format!(
            "`{key}` holds {bad} values that are not finite, the first {} at flat index {first}",
            values[first]
        ),
    };
    Some(Explanation {
        whole: Some(words),
        ..Explanation::plain("non_finite", String::new(), Residual::INFINITE)
    })
}

/// `embedding_scaled`, when `observed` embeddings are `expected` ones times a number.
pub fn scaled(
    observed: &[f64],
    expected: &[f64],
    hidden_size: usize,
    limit: &TensorLimit,
    before: Residual,
) -> Option<Explanation> {
    let factor = dot(observed, expected) / dot(expected, expected);
    let scaled: Vec<f64> = expected.iter().map(|e| e * factor).collect();
    // Rounding grows with the values, and embeddings, which are copied, have next to none.
    let grown = factor.abs().max(1.0);
    let after = Residual::of(&scaled, observed, &limit.clone().times(grown));
    (factor.is_finite() && after.explains(before)).then(|| {
        let words = scale_words(factor, hidden_size);
        Explanation::plain("embedding_scaled", words, after)
    })
}

/// `head_untied`, when the logits of a tied head have nothing to do with the embedding's, `predicted`.
pub fn another_head(observed: &[f64], predicted: &[f64]) -> Option<Explanation> {
    let norms = (dot(observed, observed) * dot(predicted, predicted)).sqrt();
    let cosine = dot(observed, predicted) / norms;
    (cosine.abs() < 0.5).then(|| Explanation {
        whole: Some(format!(
            "the logits are made with another head than the embedding: what goes into the head is right, \
             and its logits have a cosine of {cosine:.3} with the embedding's"
        )),
        ..Explanation::plain("head_untied", String::new(), Residual::UNKNOWN)
    })
}
