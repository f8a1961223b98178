//! Every backend against every other: which one is alone.

use std::collections::BTreeMap;

use maud::{Markup, html};
use qwen3_trace::consensus::Pair;

use super::scroll::scroll;
use super::text::{NOTHING, finite, number_or_dash};
use crate::VerifyReport;

/// The section's body; `None` when no two runs were compared and nothing is said of them.
pub fn section(report: &VerifyReport) -> Option<Markup> {
    let (pairs, consensus) = (&report.pairwise, &report.consensus);
    if pairs.is_empty() && consensus.is_none() {
        return None;
    }
    let outlier = consensus.as_ref().and_then(|consensus| consensus.outlier.as_deref());
    let tensors = in_order(pairs.iter().map(|pair| pair.tensor.as_str()));
    Some(html! {
        @if let Some(consensus) = consensus {
            div.card.alarm[outlier.is_some()] {
                p {
                    @if let Some(outlier) = outlier { b { (outlier) " stands apart." } " " }
                    (consensus.explanation)
                }
            }
        }
        div.matrices { @for tensor in tensors { (matrix(tensor, pairs, outlier)) } }
    })
}

/// Each once, in the order in which the report first has them.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn matrix(tensor: &str, pairs: &[Pair], outlier: Option<&str>) -> Markup {
    let pairs = pairs.iter().filter(|pair| pair.tensor == tensor);
    let names = in_order(pairs.clone().flat_map(|pair| [pair.a.as_str(), &pair.b]));
    let mut cells: BTreeMap<(&str, &str), &Pair> = BTreeMap::new();
    for pair in pairs.clone() {
        cells.insert((&pair.a, &pair.b), pair);
        cells.entry((&pair.b, &pair.a)).or_insert(pair);
    }
    let largest = pairs.filter_map(|pair| pair.relative).fold(0.0, f64::max);
    let head = |scope: &str, name: &str| {
        let class = (outlier == Some(name)).then_some("outlier");
        html! { th scope=(scope) class=[class] { (name) } }
    };
    html! {
        figure.card {
            (scroll(&format!("{tensor}: relative difference"), &html! {
                table.pairs {
                    caption { code { (tensor) } ": relative difference" }
                    thead { tr { td {} @for name in &names { (head("col", name)) } } }
                    tbody {
                        @for row in &names {
                            tr {
                                (head("row", row))
                                @for column in &names {
                                    @if row == column { td.self { (NOTHING) } }
                                    @else if let Some(pair) = cells.get(&(*row, *column)) { (cell(pair, largest)) }
                                    @else { td {} }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// The darker, the closer to the largest difference of the matrix, decade by decade.
fn cell(pair: &Pair, largest: f64) -> Markup {
    let class = match pair.relative {
        Some(relative) if relative > 0.0 && largest > 0.0 => match (largest / relative).log10() {
            below if below < 0.5 => "p4",
            below if below < 1.0 => "p3",
            below if below < 2.0 => "p2",
            _ => "p1",
        },
        _ => "p0",
    };
    html! {
        td class={ "num " (class) } title={ "largest difference " (number_or_dash(pair.max_abs)) } {
            (finite(pair.relative))
        }
    }
}

#[cfg(test)]
mod tests {
    use qwen3_trace::consensus::Consensus;

    use super::*;
    use crate::sample;

    #[test]
    fn the_matrix_is_symmetric_and_names_the_outlier() {
        let pair = |b: &str, tensor: &str, relative| Pair {
            a: "flex f32".into(),
            b: b.into(),
            tensor: tensor.into(),
            max_abs: Some(1.0),
            relative,
        };
        let report = VerifyReport {
            pairwise: vec![
                pair("tch f32", "logits", Some(1e-7)),
                pair("wgpu f32", "logits", Some(0.5)),
                pair("tch f32", "final_norm_output", None),
            ],
            consensus: Some(Consensus {
                agree: false,
                outlier: Some("wgpu f32".into()),
                explanation: "the others agree".into(),
            }),
            ..sample::report_of(Vec::new())
        };
        let html = section(&report).unwrap().into_string();
        assert_eq!(html.matches("1.00e-7").count(), 2);
        assert_eq!(html.matches("class=\"outlier\"").count(), 2);
        assert_eq!(html.matches("<table").count(), 2);
        assert!(html.contains("wgpu f32 stands apart") && html.contains("not finite"));
    }

    #[test]
    fn without_pairs_there_is_no_section() {
        let mut report = sample::report_of(Vec::new());
        assert!(section(&report).is_none());
        report.consensus = Some(Consensus { agree: true, outlier: None, explanation: "one run".into() });
        assert!(section(&report).is_some());
    }
}
