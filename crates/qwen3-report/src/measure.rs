//! How far a tensor is from its limit, and which one of many is furthest.

use qwen3_trace::{LayerVerdict, Verdict};

/// The error over its limit, the worse of largest and rms; infinite when neither is finite.
pub fn error_over_limit(verdict: &Verdict) -> f64 {
    let share = |error: Option<f64>, limit: f64| match error? {
        _ if !limit.is_finite() => None,
        error if limit > 0.0 => Some(error / limit),
        0.0 => Some(0.0),
        _ => Some(f64::INFINITY),
    };
    let max = share(verdict.max_abs, verdict.limit);
    let rms = share(verdict.rms, verdict.limit_rms);
    max.into_iter().chain(rms).reduce(f64::max).unwrap_or(f64::INFINITY)
}

/// The error over its limit as it was judged; infinite when it is not finite.
pub fn ratio(tensor: &LayerVerdict) -> f64 {
    tensor.ratio.unwrap_or_else(|| error_over_limit(&tensor.verdict))
}

/// The worse of two: a failure is worse than a pass whatever the numbers; of equals the first.
pub fn worse<'a>(a: &'a LayerVerdict, b: &'a LayerVerdict) -> &'a LayerVerdict {
    let (a_fails, b_fails) = (!a.verdict.pass, !b.verdict.pass);
    let order = b_fails.cmp(&a_fails).then(ratio(b).total_cmp(&ratio(a)));
    if order.is_gt() { b } else { a }
}

/// The tensor that is furthest beyond its limit, or closest to it.
pub fn worst<'a>(tensors: impl IntoIterator<Item = &'a LayerVerdict>) -> Option<&'a LayerVerdict> {
    tensors.into_iter().reduce(worse)
}

/// The name a person knows the tensor by: in patched mode with the layer after which the reference was put in.
pub fn title(tensor: &LayerVerdict) -> String {
    let name = &tensor.verdict.name;
    match tensor.layer {
        Some(layer) if !name.starts_with("layer_") => format!("{name} after layer {layer}"),
        _ => name.clone(),
    }
}

/// A number above 0 with three digits, or all those before its point.
pub fn three_digits(value: f64) -> String {
    match value {
        value if !value.is_finite() => "not finite".into(),
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value if value >= 0.9995 => format!("{value:.2}"),
        value if value >= 0.001 || value == 0.0 => format!("{value:.3}"),
        value => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use qwen3_trace::Mode;

    use super::*;
    use crate::sample::tensor;

    #[test]
    fn ratios_are_computed_when_the_report_has_none() {
        let ratio_of = |ratio, max_abs, limit, rms, limit_rms| {
            let mut tensor = tensor(Mode::Isolated, "logits", ratio);
            let verdict = &mut tensor.verdict;
            (verdict.max_abs, verdict.limit) = (max_abs, limit);
            (verdict.rms, verdict.limit_rms) = (rms, limit_rms);
            super::ratio(&tensor)
        };
        assert_eq!(ratio_of(Some(0.5), Some(9.0), 1.0, None, 1.0), 0.5);
        assert_eq!(ratio_of(None, Some(1.0), 2.0, Some(3.0), 2.0), 1.5);
        assert_eq!(ratio_of(None, Some(0.0), 0.0, None, 0.0), 0.0);
        assert_eq!(ratio_of(None, Some(1.0), 0.0, None, 0.0), f64::INFINITY);
        assert_eq!(ratio_of(None, None, 1.0, None, 1.0), f64::INFINITY);
        assert_eq!(ratio_of(None, Some(1.0), f64::INFINITY, Some(3.0), 2.0), 1.5);
    }

    #[test]
    fn a_failure_is_worse_than_a_pass_whatever_the_numbers() {
        let tensor = |name, ratio, pass| {
            let mut tensor = tensor(Mode::Isolated, name, ratio);
            tensor.verdict.pass = pass;
            tensor
        };
        let run = [
            tensor("a", Some(9.0), true),
            tensor("b", Some(2.0), false),
            tensor("c", None, false),
            tensor("d", None, false),
        ];
        assert_eq!(worst(&run).unwrap().verdict.name, "c");
        assert_eq!(worst(&run[..2]).unwrap().verdict.name, "b");
        assert!(worst(&[]).is_none());
    }

    #[test]
    fn figures_have_three_digits() {
        let shown =
            [1234.5, 99.96, 12.34, 9.996, 1.0, 0.9994, 0.0123, 0.0, 0.000_012, f64::NAN].map(three_digits);
        let expected =
            ["1234", "100", "12.3", "10.0", "1.00", "0.999", "0.012", "0.000", "1.20e-5", "not finite"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn patched_tensors_have_names_of_their_own() {
        let mut logits = tensor(Mode::Patched, "logits", Some(0.1));
        assert_eq!(title(&logits), "logits");
        logits.layer = Some(3);
        assert_eq!(title(&logits), "logits after layer 3");
        assert_eq!(title(&tensor(Mode::Isolated, "layer_07.mlp", Some(0.1))), "layer_07.mlp");
    }
}
