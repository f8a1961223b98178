//! The report of a checkpoint's weights as one HTML file.

use maud::{Markup, html};

use super::header::last_part;
use super::page::{Page, page};
use super::scroll::card;
use super::text::{
    NOTHING, NUM, axes, count, duration, heads, num, number, number_or_dash, ratio, sign_and_word,
};
use crate::doctor::{DoctorReport, Finding, Health, TensorHealth};

/// The report of a checkpoint's weights as a whole page. Never fails; the same report gives the same bytes.
pub fn render_doctor(report: &DoctorReport) -> String {
    page(Page {
        title: format!("{} \u{2013} {} \u{2013} doctor", word(report.health), last_part(&report.model)),
        header: header(report),
        lead: vec![("findings", "What was found", findings(report))],
        sections: vec![
            ("kinds", "Precision", kinds(report)),
            ("tensors", "Every tensor", Some(tensors(report))),
            ("compared", "What was compared", Some(facts(report))),
        ],
        command: "doctor",
        burn: String::new(),
    })
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Same => "Same",
        Health::Precision => "Precision only",
        Health::Layout => "No damage",
        Health::Wrong => "Wrong",
    }
}

fn chip(health: Health) -> Markup {
    let (class, sign) = match health {
        Health::Same | Health::Precision => ("pass", '\u{2713}'),
        Health::Layout => ("none", '\u{21c4}'),
        Health::Wrong => ("fail", '\u{2717}'),
    };
    sign_and_word(class, sign, health.name())
}

fn header(report: &DoctorReport) -> Markup {
    let class = if report.health == Health::Wrong { "failed" } else { "passed" };
    html! {
        header class=(class) {
            h1.verdict { span.word { (word(report.health)) } " " span { (report.conclusion()) "." } }
            p."subject quiet" { code { (report.model) } " beside " code { (report.original) } }
        }
    }
}

fn findings(report: &DoctorReport) -> Option<Markup> {
    (!report.findings.is_empty()).then(|| {
        html! { @for finding in &report.findings { (one(finding)) } }
    })
}

fn one(finding: &Finding) -> Markup {
    html! {
        div.card {
            h3 { (chip(finding.health)) " " (finding.id.title()) }
            p { (finding.explanation) }
            @if finding.tensors.len() > 1 {
                details {
                    summary { (count(finding.tensors.len(), "tensor")) }
                    ul {
                        @for (at, tensor) in finding.tensors.iter().enumerate() {
                            li { code { (tensor) } @if let Some(with) = finding.with.get(at) { " holds " code { (with) } } }
                        }
                    }
                }
            }
        }
    }
}

fn kinds(report: &DoctorReport) -> Option<Markup> {
    let kinds = report.kinds();
    let columns = [
        ("tensors", NUM),
        ("original", None),
        ("model", None),
        ("relative error", NUM),
        ("error \u{d7} bound", NUM),
        ("what", None),
    ];
    (!kinds.is_empty()).then(|| {
        card(
            "Precision",
            &html! {
                table { (heads(&columns)) tbody {
                    @for kind in &kinds {
                        tr {
                            (num(kind.count.to_string()))
                            td { (kind.original_dtype) }
                            td { (kind.dtype) }
                            (num(number(kind.relative)))
                            (num(if kind.through.is_some() { ratio(kind.ratio) } else { NOTHING.into() }))
                            td { (kind.what()) }
                        }
                    }
                } }
            },
        )
    })
}

fn tensors(report: &DoctorReport) -> Markup {
    let columns = [
        ("tensor", None),
        ("health", None),
        ("original", None),
        ("model", None),
        ("shape", None),
        ("largest error", NUM),
        ("relative error", NUM),
        ("what", None),
    ];
    card(
        "Every tensor",
        &html! { table { (heads(&columns)) tbody { @for tensor in &report.tensors { (row(tensor)) } } } },
    )
}

fn row(tensor: &TensorHealth) -> Markup {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or(NOTHING.into());
    let titles: Vec<&str> = tensor.findings.iter().map(|id| id.title()).collect();
    html! {
        tr {
            th scope="row" { (tensor.name) }
            td { (chip(tensor.health)) }
            td { (or_dash(&tensor.original_dtype)) }
            td { (or_dash(&tensor.dtype)) }
            td { @if let Some(shape) = &tensor.shape { (axes(shape)) } @else { (NOTHING) } }
            (num(number_or_dash(tensor.max_abs)))
            (num(number_or_dash(tensor.relative)))
            td {
                @if titles.is_empty() {
                    @if let Some(through) = &tensor.through { (through.format) } @else { (NOTHING) }
                } @else { (titles.join(", ")) }
            }
        }
    }
}

fn facts(report: &DoctorReport) -> Markup {
    html! {
        dl."card facts" {
            dt { "Model" } dd { code { (report.model) } " (" (report.model_format) ")" }
            dt { "Original" } dd { code { (report.original) } " (" (report.original_format) ")" }
            dt { "Values" } dd { (report.values) }
            dt { "Time" } dd { (duration(report.elapsed_ms)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_page_has_every_finding_and_every_tensor() {
        let report = sample::doctor();
        let page = render_doctor(&report);
        for finding in &report.findings {
            assert!(page.contains(finding.id.title()), "{}", finding.id.title());
        }
        for tensor in &report.tensors {
            assert!(page.contains(&format!("<th scope=\"row\">{}</th>", tensor.name)), "{}", tensor.name);
        }
        assert!(page.contains("Wrong") && page.contains("cargo xtask doctor"));
    }

    #[test]
    fn names_are_text() {
        let mut report = sample::doctor();
        report.findings[0].explanation = "<script>alert(1)</script>".into();
        assert!(!render_doctor(&report).contains("<script>alert"));
    }
}
