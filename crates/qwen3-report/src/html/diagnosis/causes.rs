//! What would explain the error, and how much of it.

use maud::{Markup, html};
use qwen3_blame::Cause;

use crate::html::text::{NOTHING, number_or_dash};

/// The causes; the one that explains most of the residual first.
pub fn causes(causes: &[Cause]) -> Markup {
    let mut causes: Vec<(&Cause, Option<f64>)> = causes.iter().map(|cause| (cause, left(cause))).collect();
    let worth = |left: Option<f64>| left.unwrap_or(f64::INFINITY);
    causes.sort_by(|a, b| worth(a.1).total_cmp(&worth(b.1)));
    html! {
        @if !causes.is_empty() {
            h3 { @if causes.len() == 1 { "Likely cause" } @else { "Likely causes, best first" } }
            ol.causes {
                @for (cause, left) in causes {
                    li {
                        p {
                            @if let Some(evidence) = &cause.evidence {
                                "consistent with " code { (cause.id) } ", by " (evidence) ": "
                            } @else {
                                code { (cause.id) } " "
                            }
                            (cause.explanation)
                        }
                        dl.metrics {
                            (metric("error before", html! { (number_or_dash(cause.residual_before)) }))
                            (metric("error after", html! { (number_or_dash(cause.residual_after)) }))
                            (metric("explains", explains(left)))
                            (metric("layers", html! { (layers(&cause.layers)) }))
                        }
                    }
                }
            }
        }
    }
}

fn metric(name: &str, shown: Markup) -> Markup {
    html! { div { dt { (name) } dd { (shown) } } }
}

/// The share of the residual that the cause leaves unexplained.
fn left(cause: &Cause) -> Option<f64> {
    let (before, after) = (cause.residual_before?, cause.residual_after?);
    (before > 0.0).then(|| after / before)
}

/// A bar over eight decades: what a cause does not explain to the last digit, it does not explain.
fn explains(left: Option<f64>) -> Markup {
    let Some(left) = left else {
        return html! { (NOTHING) };
    };
    let decades = -left.max(1e-8).log10();
    let width = (decades / 8.0).clamp(0.0, 1.0) * 100.0;
    html! {
        span.meter aria-hidden="true" { i style=(format_args!("width:{width:.1}%")) {} }
        @if left <= 0.0 { "all of it" }
        @else if left < 0.01 { "all but 10" sup { (format_args!("\u{2212}{:.0}", -left.log10())) } }
        @else if left < 1.0 { (format_args!("{:.0} %", 100.0 * (1.0 - left))) }
        @else { "none of it" }
    }
}

/// `3, 4, 9\u{2013}27`
fn layers(layers: &[usize]) -> String {
    let mut layers = layers.to_vec();
    layers.sort_unstable();
    layers.dedup();
    let spans = layers.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|span| match span {
        [one] => one.to_string(),
        [one, other] => format!("{one}, {other}"),
        span => format!("{}\u{2013}{}", span[0], span[span.len() - 1]),
    });
    let spans = spans.collect::<Vec<_>>().join(", ");
    if spans.is_empty() { NOTHING.into() } else { spans }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_as_spans() {
        assert_eq!(layers(&[4, 3, 9, 5, 5, 11, 12]), "3\u{2013}5, 9, 11, 12");
        assert_eq!(layers(&[]), NOTHING);
        assert_eq!(layers(&[usize::MAX]), usize::MAX.to_string());
    }

    #[test]
    fn what_ids_alone_say_is_only_consistent() {
        let cause = Cause {
            id: "mask_missing".into(),
            explanation: "the mask is missing".into(),
            residual_before: None,
            residual_after: None,
            fitted: None,
            evidence: Some("3 of 8 ids".into()),
            layers: Vec::new(),
        };
        let html = causes(&[cause]).into_string();
        assert!(
            html.contains("consistent with <code>mask_missing</code>, by 3 of 8 ids: the mask is missing"),
            "{html}"
        );
    }

    #[test]
    fn the_cause_that_leaves_least_comes_first() {
        let cause = |id: &str, before, after| Cause {
            id: id.into(),
            explanation: String::new(),
            residual_before: before,
            residual_after: after,
            fitted: None,
            evidence: None,
            layers: Vec::new(),
        };
        let html = causes(&[
            cause("unknown", None, None),
            cause("half", Some(1.0), Some(0.5)),
            cause("nearly_all", Some(0.4), Some(3e-7)),
            cause("zero_before", Some(0.0), Some(0.0)),
        ]);
        let html = html.into_string();
        let place = |id| html.find(id).unwrap();
        assert!(place("nearly_all") < place("half") && place("half") < place("unknown"));
        assert!(html.contains("all but 10<sup>\u{2212}6</sup>") && html.contains("</span>50 %<"));
    }
}
