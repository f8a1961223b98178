//! What is fastest, and where it was measured.

use maud::{Markup, html};

use crate::BenchReport;
use crate::bench::{Phase, Standing};
use crate::html::header::last_part;
use crate::html::text::standing_chip;
use crate::measure::three_digits;

/// The page's title.
pub fn title(report: &BenchReport) -> String {
    format!("{} \u{2013} benchmark", last_part(&report.model.name))
}

/// The part above the sections.
pub fn header(report: &BenchReport) -> Markup {
    let lanes = report.lanes();
    let wrong = lanes.iter().filter(|lane| lane.standing == Standing::Wrong).count();
    let (class, word) = match wrong {
        0 => ("passed", "Benchmark".into()),
        _ => ("failed", format!("{wrong} of {} wrong", lanes.len())),
    };
    html! {
        header class=(class) {
            h1.verdict { span.word { (word) } " " span { (sentence(report, wrong > 0)) } }
            ul.chips aria-label="Backends" {
                @for lane in &lanes { li { span.name { (lane.label) } " " (standing_chip(lane.standing)) } }
            }
        }
    }
}

/// What is fastest, in one sentence or two.
fn sentence(report: &BenchReport, wrong: bool) -> String {
    if report.rows.is_empty() {
        return "Nothing was measured.".into();
    }
    let fastest = |phase: Phase| {
        let (label, row) = report.fastest(phase)?;
        Some(format!(
            "{phase} by {label} with {} {} ({})",
            three_digits(row.median()),
            row.unit,
            row.workload
        ))
    };
    let fastest: Vec<String> = [Phase::Decode, Phase::Prefill].into_iter().filter_map(fastest).collect();
    let fastest = match &fastest[..] {
        [] => "Nothing that parity passes was measured.".into(),
        phases => format!("Fastest among what parity passes: {}.", phases.join("; ")),
    };
    let warning = if wrong {
        " A backend that computes something else does not count, however fast it is."
    } else {
        ""
    };
    fastest + warning
}

/// The section of what was measured on what; `None` when nothing was.
pub fn facts(report: &BenchReport) -> Option<Markup> {
    let BenchReport { model, machine, limits, .. } = report;
    let facts = [
        ("Model", model.name.clone()),
        ("Weights", format!("{} M", three_digits(model.parameters as f64 / 1e6))),
        ("Processor", machine.cpu.clone()),
        ("Cores", machine.cores.to_string()),
        ("Threads", limits.threads.to_string()),
        ("Instruction sets", machine.instruction_sets.join(", ")),
        ("Memory", format!("{} GiB", three_digits(machine.memory_gb))),
        ("System", machine.system.clone()),
        ("Huge pages", machine.huge_pages.clone().unwrap_or_default()),
        ("Devices", machine.devices.join(", ")),
        ("Burn", report.burn.clone()),
    ];
    let facts = facts.iter().filter(|(_, fact)| !fact.is_empty());
    (!report.rows.is_empty()).then(|| {
        html! { dl."card facts" { @for (term, fact) in facts { dt { (term) } dd { (fact) } } } }
    })
}
