//! The verdict, what was compared with what, and what it took.

use maud::{Markup, html};
use qwen3_trace::Preset;

use super::text::{chip, megabytes};
use crate::{Memory, Status, VerifyReport};

/// The page's title.
pub fn title(report: &VerifyReport) -> String {
    format!("{} \u{2013} {} \u{2013} verification", verdict(report).1, last_part(&report.model_path))
}

/// A path's last part.
pub fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The part above the sections.
pub fn header(report: &VerifyReport) -> Markup {
    let (class, word) = verdict(report);
    html! {
        header class=(class) {
            p.verdict { span.word { (word) } " " span { (sentence(report)) } }
            ul.chips aria-label="Runs" {
                @for run in &report.runs { li { span.name { (run.label) } " " (chip(run.status)) } }
            }
            (facts(report))
        }
    }
}

fn verdict(report: &VerifyReport) -> (&'static str, &'static str) {
    if report.overall_success { ("passed", "Pass") } else { ("failed", "Fail") }
}

/// The verdict in one sentence.
fn sentence(report: &VerifyReport) -> String {
    if report.runs.is_empty() {
        return "Nothing was run.".into();
    }
    let ended = |status| report.runs.iter().filter(|run| run.status == status).count();
    let mut sentence = match (ended(Status::Pass), report.runs.len()) {
        (1, 1) => "The run matches the reference".into(),
        (passed, total) => format!("{passed} of {total} runs match the reference"),
    };
    for (status, word) in
        [(Status::Fail, "failed"), (Status::Crash, "crashed"), (Status::Unavailable, "unavailable")]
    {
        let number = ended(status);
        if number > 0 {
            sentence += &format!(", {number} {word}");
        }
    }
    let (passed, total) = (report.layers_passed, report.total_layers_tested);
    sentence + &format!(". {passed} of {total} layer comparisons are within their limits.")
}

/// What was compared with what, and the memory it took.
fn facts(report: &VerifyReport) -> Markup {
    let files = [
        ("Model", Some(report.model_path.as_str())),
        ("Adapter", report.adapter.as_deref()),
        ("Reference", report.reference.as_deref()),
        ("Observed", report.observed.as_deref()),
    ];
    let facts = [
        ("Input", Some(report.test_input.as_str())),
        ("Preset", report.preset.map(Preset::name)),
        ("Limits", Some(report.limits.as_str())),
        ("Burn", Some(report.burn.as_str())),
    ];
    html! {
        div.facts {
            dl {
                @for (term, file) in files { @if let Some(file) = file { dt { (term) } dd { code { (file) } } } }
                @for (term, fact) in facts { @if let Some(fact) = fact { dt { (term) } dd { (fact) } } }
            }
            (memory(&report.memory))
        }
    }
}

/// Bars that compare the process's peak with the whole model and with the parts that it held one at a time.
fn memory(memory: &Memory) -> Markup {
    let bars = [
        ("peak, resident", memory.peak_rss_mb),
        ("whole model", Some(memory.model_mb)),
        ("embedding", Some(memory.embedding_mb)),
        ("one layer", Some(memory.layer_mb)),
        ("head", Some(memory.head_mb)),
    ];
    let bars = bars.into_iter().filter_map(|(name, mb)| Some((name, mb?)));
    let largest = bars.clone().map(|bar| bar.1).fold(0.0, f64::max);
    html! {
        @if largest > 0.0 {
            table.bars {
                caption { "Memory" }
                tbody {
                    @for (name, mb) in bars {
                        @let share = 100.0 * mb.max(0.0) / largest;
                        @let class = name.starts_with("peak").then_some("peak");
                        tr class=[class] {
                            th scope="row" { (name) }
                            td.num { (megabytes(mb)) }
                            td.bar { i style=(format_args!("width:{share:.1}%")) {} }
                        }
                    }
                }
            }
        }
    }
}
