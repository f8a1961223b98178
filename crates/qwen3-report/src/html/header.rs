//! The verdict, and what was compared with what.

use maud::{Markup, html};
use qwen3_trace::Preset;

use super::text::chip;
use crate::{Status, VerifyReport};

/// The page's title.
pub fn title(report: &VerifyReport) -> String {
    format!("{} \u{2013} {} \u{2013} verification", verdict(report).1, last_part(&report.model_path))
}

/// A path's last part.
pub fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The part above the sections: the verdict, and the names of what it is about.
pub fn header(report: &VerifyReport) -> Markup {
    let (class, word) = verdict(report);
    html! {
        header class=(class) {
            h1.verdict { span.word { (word) } " " span { (sentence(report)) } }
            @if report.runs.len() > 1 {
                ul.chips aria-label="Runs" {
                    @for run in &report.runs { li { span.name { (run.label) } " " (chip(run.status)) } }
                }
            }
            (subject(report))
        }
    }
}

fn verdict(report: &VerifyReport) -> (&'static str, &'static str) {
    let differs = report.consensus.as_ref().is_some_and(|consensus| !consensus.agree);
    if report.overall_success {
        ("passed", "Pass")
    } else if report.runs.iter().any(|run| run.status.failed()) || differs {
        ("failed", "Fail")
    } else {
        // What could not run has not failed, and has not passed either.
        ("idle", "Not run")
    }
}

/// The verdict in a sentence or two.
fn sentence(report: &VerifyReport) -> String {
    let what = match &report.runs[..] {
        [] => "Nothing was run.".into(),
        [run] => match run.status {
            _ if report.reference.is_none() => format!("{} has nothing to be compared with.", run.label),
            Status::Pass => format!("{} matches the reference.", run.label),
            Status::Fail => format!("{} differs from the reference.", run.label),
            Status::Crash => format!("{} crashed.", run.label),
            Status::Unavailable => format!("{} is unavailable.", run.label),
        },
        _ => of_several(report),
    };
    let (passed, total) = (report.layers_passed, report.total_layers_tested);
    match total {
        0 => what,
        _ => what + &format!(" {passed} of {total} layer comparisons are within their limits."),
    }
}

fn of_several(report: &VerifyReport) -> String {
    let ended = |status| report.runs.iter().filter(|run| run.status == status).count();
    let total = report.runs.len();
    let mut sentence = match (&report.reference, &report.consensus) {
        (Some(_), _) => format!("{} of {total} runs match the reference", ended(Status::Pass)),
        (None, Some(consensus)) if !consensus.agree => format!("{total} runs, which differ from each other"),
        (None, Some(_)) => format!("{total} runs, which agree with each other"),
        (None, None) => format!("{total} runs"),
    };
    for (status, word) in
        [(Status::Fail, "failed"), (Status::Crash, "crashed"), (Status::Unavailable, "unavailable")]
    {
        let number = ended(status);
        if number > 0 {
            sentence += &format!(", {number} {word}");
        }
    }
    sentence + "."
}

/// One line of file names.
fn subject(report: &VerifyReport) -> Markup {
    let observed = report.observed.as_deref();
    html! {
        @if !report.model_path.is_empty() {
            p."subject quiet" {
                @if let Some(observed) = observed { code { (observed) } " of " }
                code { (report.model_path) }
                @if let Some(adapter) = &report.adapter { " with " code { (adapter) } }
                @if let Some(reference) = &report.reference { " against " code { (reference) } }
            }
        }
    }
}

/// The section of what was compared with what; `None` when nothing was.
pub fn facts(report: &VerifyReport) -> Option<Markup> {
    let files = [
        ("Model", Some(report.model_path.as_str())),
        ("Adapter", report.adapter.as_deref()),
        ("Reference", report.reference.as_deref()),
        ("Observed", report.observed.as_deref()),
    ];
    let tolerance = report.tolerance.map(|tolerance| tolerance.to_string());
    let facts = [
        ("Input", Some(report.test_input.as_str())),
        ("Preset", report.preset.map(Preset::name)),
        ("Tolerance", tolerance.as_deref()),
        ("Limits", Some(report.limits.as_str())),
        ("Burn", Some(report.burn.as_str())),
    ];
    let there = |fact: &Option<&str>| fact.is_some_and(|fact| !fact.is_empty());
    (!report.runs.is_empty()).then(|| {
        html! {
            dl."card facts" {
                @for (term, file) in files.iter().filter(|(_, file)| there(file)) {
                    dt { (term) } dd { code { (file.unwrap_or_default()) } }
                }
                @for (term, fact) in facts.iter().filter(|(_, fact)| there(fact)) {
                    dt { (term) } dd { (long(fact.unwrap_or_default())) }
                }
            }
        }
    })
}

/// Characters of a fact that are shown at once.
const SHOWN: usize = 600;

/// A long prompt is folded.
fn long(text: &str) -> Markup {
    html! {
        @if let Some((end, _)) = text.char_indices().nth(SHOWN) {
            details { summary { (text[..end]) "\u{2026}" } (text[end..]) }
        } @else {
            (text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn one_run_is_named_and_several_are_counted() {
        let said = |statuses: &[Status], reference: Option<&str>| {
            let runs = statuses.iter().map(|status| sample::run("flex", *status, Vec::new()));
            sentence(&VerifyReport {
                reference: reference.map(Into::into),
                ..sample::report_of(runs.collect())
            })
        };
        let reference = Some("ref.npz");
        use Status::{Crash, Fail, Pass, Unavailable};
        assert_eq!(said(&[Pass], reference), "flex f32 matches the reference.");
        assert_eq!(said(&[Fail], reference), "flex f32 differs from the reference.");
        assert_eq!(said(&[Unavailable], reference), "flex f32 is unavailable.");
        assert_eq!(said(&[Crash, Pass], reference), "1 of 2 runs match the reference, 1 crashed.");
        assert_eq!(said(&[Pass], None), "flex f32 has nothing to be compared with.");
        assert_eq!(said(&[], reference), "Nothing was run.");
    }

    #[test]
    fn what_did_not_run_has_not_failed() {
        let word = |status| verdict(&sample::report_of(vec![sample::run("cuda", status, Vec::new())])).1;
        assert_eq!((word(Status::Unavailable), word(Status::Crash)), ("Not run", "Fail"));
    }

    #[test]
    fn a_long_prompt_is_folded() {
        assert_eq!(long("short").into_string(), "short");
        let text = "\u{e9}".repeat(SHOWN + 1);
        let html = long(&text).into_string();
        assert!(
            html.starts_with("<details><summary>") && html.ends_with("\u{2026}</summary>\u{e9}</details>")
        );
    }
}
