//! The page as a whole: nothing of the report can become markup.

use qwen3_trace::Precision;

use super::render;
use crate::sample;
use crate::{Label, RunResult, Status, VerifyReport};

/// What a hostile string tries, in text and in an attribute.
pub const HOSTILE: &str =
    "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;\u{0}\u{202e}";

/// The same report with every string replaced, wherever JSON has one that is not one of a few words.
fn hostile(report: &VerifyReport) -> VerifyReport {
    fn replace(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Array(values) => values.iter_mut().for_each(replace),
            serde_json::Value::Object(fields) => {
                let words = ["dtype", "mode", "status", "preset"];
                let fields = fields.iter_mut().filter(|(key, _)| !words.contains(&key.as_str()));
                fields.for_each(|(_, value)| replace(value));
            }
            serde_json::Value::String(text) => *text = HOSTILE.into(),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(report).unwrap();
    replace(&mut value);
    serde_json::from_value(value).unwrap()
}

/// Every opened element is closed, in order: enough to catch a forgotten end tag.
pub fn assert_balanced(html: &str) {
    const VOID: [&str; 4] = ["meta", "input", "!DOCTYPE", "wbr"];
    let body = html.replace(super::page::STYLE, "").replace(super::page::SCRIPT, "");
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("no end of <{tag}"));
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "near <{tag}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_full_report_has_every_section() {
    let html = render(&sample::report(6));
    for id in ["diagnosis", "heatmap", "curves", "tokens", "elements", "pairwise", "runs"] {
        assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(html.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(html.contains("2 of 4 runs match the reference, 1 failed, 1 unavailable."));
    assert!(html.contains("no CUDA device"));
    assert_balanced(&html);
}

#[test]
fn the_diagnosis_is_above_everything() {
    for report in [sample::report(6), sample::observed(6)] {
        let html = render(&report);
        let place = |what: &str| html.find(what).unwrap_or_else(|| panic!("{what}"));
        let diagnosis = place("<section id=\"diagnosis\"");
        for below in ["<nav", "<section id=\"heatmap\"", "<dt>Limits</dt>"] {
            assert!(diagnosis < place(below), "{below}");
        }
        // Memory is the last, and is not told of activations that another program made.
        let memory = html.find("<section id=\"memory\"");
        assert_eq!(memory.is_some(), report.observed.is_none());
        assert!(memory.is_none_or(|memory| !html[memory + 1..].contains("<section")));
        assert!(!html.contains(" MB"), "sizes are in MiB");
    }
}

#[test]
fn activations_in_one_mode_have_no_buttons_and_a_map_that_fails() {
    let html = render(&sample::observed(6));
    assert!(!html.contains("<fieldset") && html.contains("<b>accumulated</b>"));
    assert!(html.contains("observed f32 differs from the reference."));
    assert!(html.contains("step logits</th><td class=\"out h4\"") && html.contains(">3 wrong</td>"));
    assert_eq!(html.matches(" first\"").count(), 1);
    assert_balanced(&html);
}

#[test]
fn the_first_divergence_is_marked_in_its_grid() {
    let html = render(&sample::report(6));
    // Once accumulated and once isolated, in the failing run only.
    assert_eq!(html.matches(" first\"").count(), 2);
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let html = render(&sample::report(4));
    for outside in ["http:", "https:", " src=", "<link", "@import", "@font-face", "url(//"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(render(&sample::report(4)), render(&sample::report(4)));
}

#[test]
fn no_string_becomes_markup() {
    let report = sample::report(4);
    let html = render(&hostile(&report));
    for markup in ["<img", "<script>alert", "\u{202e}", "\0"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert_eq!(html.matches("</script>").count(), 1);
    // In the text, and in the attributes that name a run.
    assert!(html.matches("&lt;img src=x onerror").count() > 20);
    assert!(html.contains("aria-label=\"&quot;'&gt;&lt;img"));
    assert_balanced(&html);
}

#[test]
fn a_name_of_markup_stays_within_known_modes_and_statuses() {
    let mut report = sample::report(4);
    for run in &mut report.runs {
        run.label.backend = HOSTILE.into();
        run.label.variant = Some(HOSTILE.into());
        run.reason = Some(HOSTILE.into());
        for tensor in &mut run.verdicts.tensors {
            tensor.verdict.name = format!("layer_01.{HOSTILE}");
        }
    }
    let html = render(&report);
    assert!(!html.contains("<img") && html.contains("&lt;img src=x onerror"));
    assert_balanced(&html);
}

#[test]
fn what_was_not_found_is_left_out() {
    let html = render(&sample::report_of(Vec::new()));
    assert!(html.contains("Nothing was run.") && !html.contains("No divergence"));
    for id in ["heatmap", "curves", "tokens", "elements", "pairwise", "runs"] {
        assert!(!html.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert_balanced(&html);
}

#[test]
fn a_crash_before_the_first_tensor_is_shown() {
    let reason = "signal 11\nstack:\n\u{1b}[31m0x0".into();
    let run = RunResult::stopped(Label::new("wgpu", Precision::F16), Status::Crash, reason);
    let html = render(&sample::report_of(vec![run]));
    assert!(html.contains("crash") && html.contains("signal 11"));
    assert!(html.contains("\u{241b}[31m0x0"), "control characters are visible");
    assert!(!html.contains("<section id=\"heatmap\""));
    assert_balanced(&html);
}

#[test]
fn what_is_not_finite_is_shown_as_such() {
    let mut report = sample::report(5);
    let tensor = &mut report.runs[0].verdicts.tensors[20];
    tensor.ratio = None;
    let verdict = &mut tensor.verdict;
    (verdict.max_abs, verdict.rms, verdict.relative) = (None, None, None);
    (verdict.cosine, verdict.observed, verdict.pass) = (None, None, false);
    let html = render(&report);
    assert!(html.contains("<td class=\"hx\"") && html.contains("not finite"));
    assert_balanced(&html);
}

#[test]
fn a_large_model_on_several_backends_stays_small() {
    let mut report = sample::report(64);
    report.runs = vec![report.runs[2].clone(); 6];
    let size = render(&report).len();
    assert!(size < 2_000_000, "{size} bytes");
}
