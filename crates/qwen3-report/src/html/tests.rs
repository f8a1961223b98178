//! The page as a whole: nothing of the report can become markup.

use qwen3_trace::Precision;

use super::{render, render_bench};
use crate::sample;
use crate::{Label, RunResult, Status, VerifyReport};

/// What a hostile string tries, in text and in an attribute.
const HOSTILE: &str = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;\u{0}\u{202e}";

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
fn assert_balanced(html: &str) {
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

#[test]
fn a_benchmark_has_every_section() {
    let html = render_bench(&sample::bench());
    for id in ["speed", "limit", "ratios", "accuracy", "figures", "limits", "skipped"] {
        assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(html.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    for part in [
        "<title>synthetic 0.6b \u{2013} benchmark</title>",
        "Fastest among what parity passes: decode by flex bf16 with 8.30 tok/s (decode of 32 at 128, batch 1);",
        "Prefill, by the length of the prompt",
        "Decoding 32 tokens, by what the cache holds",
        "Decoding 32 tokens at 128, by batch",
        "limit of flex f32",
        "<title>flex f32: prefill of 128: 210 tok/s (206 to 212), 62 % of the limit</title>",
        "(5.03 to 5.18), 62 % of the limit, disturbed",
        "5.13 tok/s*",
        "style=\"width:62.5%\"",
        "reading memory, huge pages",
        "prefill of 512, batch 4",
        "cargo xtask bench",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<figure").count(), 3);
    assert_eq!(html, render_bench(&sample::bench()));
    assert_balanced(&html);
}

#[test]
fn a_wrong_speed_is_marked_wherever_it_stands() {
    let html = render_bench(&sample::bench());
    // In each plot's legend; its line is pale.
    assert_eq!(html.matches("</svg> wgpu f32 (WRONG)</span>").count(), 3);
    assert_eq!(html.matches("path class=\"line s2 solid wrong\"").count(), 6);
    assert_eq!(html.matches(" tok/s WRONG</td>").count() + html.matches(" s WRONG</td>").count(), 8);
    assert_eq!(html.matches("<tr class=\"wrong-speed\">").count(), 6, "its bars");
    assert!(html.contains(">1 of 3 wrong</span>") && html.contains("does not count, however fast it is"));
    assert!(!html.contains("by wgpu"), "it does not win");
    let mut right = sample::bench();
    right.rows.retain(|row| row.backend == "flex");
    right.compare();
    assert!(
        !render_bench(&right).contains("WRONG") && render_bench(&right).contains("header class=\"passed\"")
    );
}

#[test]
fn backends_of_one_limit_have_one_dashed_line() {
    let html = render_bench(&sample::bench());
    // Prefill has one limit in both dtypes, decoding one for each.
    let legend = |name: &str| html.matches(&format!("</svg> limit of {name}</span>")).count();
    assert_eq!((legend("flex f32"), legend("flex bf16"), legend("wgpu f32")), (3, 2, 0));
}

#[test]
fn no_name_of_a_benchmark_becomes_markup() {
    let mut report = sample::bench();
    report.model.name = HOSTILE.into();
    report.machine.cpu = HOSTILE.into();
    report.machine.devices = vec![HOSTILE.into()];
    report.rows.iter_mut().for_each(|row| row.backend += HOSTILE);
    report.peers.iter_mut().for_each(|row| row.peer += HOSTILE);
    report.compare();
    let html = render_bench(&report);
    for markup in ["<img", "<script>alert", "\u{202e}", "\0", "\u{1b}"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert_eq!(html.matches("</script>").count(), 1);
    assert!(html.matches("&lt;img src=x onerror").count() > 20);
    for outside in ["http:", "https:", " src=\"", "<link", "@import", "url(//"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_balanced(&html);
}

#[test]
fn a_benchmark_of_nothing_is_a_page() {
    let html = render_bench(&crate::BenchReport::default());
    assert!(html.contains("Nothing was measured.") && !html.contains("<section"));
    assert_balanced(&html);
    let mut report = sample::bench();
    report.rows[2].figures.samples.clear();
    assert!(!render_bench(&report).contains("NaN"));
}
