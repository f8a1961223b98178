//! The page as a whole: nothing of the report can become markup, and nothing that is missing is an error.

use serde_json::{Value, json};

use super::render;
use crate::verify::sample;

/// What a hostile string tries, in text and in an attribute.
const HOSTILE: &str =
    "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;\u{0}\u{202e}";

/// The same report with every string replaced.
fn with_strings(value: &Value, string: &str) -> Value {
    match value {
        Value::String(_) => string.into(),
        Value::Array(values) => values
            .iter()
            .map(|value| with_strings(value, string))
            .collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), with_strings(value, string)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// The same report with every leaf of it gone, one kind at a time.
fn without(value: &Value, gone: fn(&Value) -> bool) -> Value {
    match value {
        value if gone(value) => Value::Null,
        Value::Array(values) => values.iter().map(|value| without(value, gone)).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), without(value, gone)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// Every opened element is closed, in order: enough to catch a forgotten end tag.
fn assert_balanced(html: &str) {
    const VOID: [&str; 4] = ["meta", "input", "!doctype", "wbr"];
    let body = html.replace(super::STYLE, "").replace(super::SCRIPT, "");
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag
            .split_once('>')
            .unwrap_or_else(|| panic!("no end of <{tag}"));
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/', '\n'])
            .next()
            .unwrap();
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
    for id in [
        "diagnosis",
        "heatmap",
        "curves",
        "tokens",
        "elements",
        "pairwise",
        "runs",
    ] {
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
    for outside in [
        "http:",
        "https:",
        " src=",
        "<link",
        "@import",
        "@font-face",
        "url(//",
    ] {
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
    let html = render(&with_strings(&report, HOSTILE));
    for markup in ["<img", "<script>alert", "\u{202e}", "\0"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert_eq!(html.matches("</script>").count(), 1);
    assert_balanced(&html);
}

#[test]
fn a_name_of_markup_stays_within_known_modes_and_statuses() {
    let mut report = sample::report(4);
    for run in report["runs"].as_array_mut().unwrap() {
        for key in ["backend", "dtype", "variant", "reason"] {
            run[key] = HOSTILE.into();
        }
        for tensor in run["tensors"].as_array_mut().unwrap() {
            tensor["name"] = format!("layer_01.{HOSTILE}").into();
        }
    }
    let html = render(&report);
    assert!(!html.contains("<img") && html.contains("&lt;img src=x onerror"));
    assert_balanced(&html);
}

#[test]
fn missing_fields_are_left_out() {
    let report = sample::report(4);
    for gone in [
        Value::is_number,
        Value::is_string,
        Value::is_boolean,
        Value::is_array,
    ] {
        assert_balanced(&render(&without(&report, gone)));
    }
    for report in [
        json!(null),
        json!([]),
        json!({}),
        json!({"runs": []}),
        json!({"runs": [null, 3, {}]}),
    ] {
        let html = render(&report);
        assert!(
            html.contains("No verdict") && !html.contains("No divergence"),
            "{report}"
        );
        assert_balanced(&html);
    }
}

#[test]
fn a_crash_before_the_first_tensor_is_shown() {
    let html = render(&json!({
        "overall_success": false,
        "runs": [{"backend": "wgpu", "dtype": "f16", "status": "crash", "reason": "signal 11\nstack:\n\u{1b}[31m0x0", "tensors": []}],
    }));
    assert!(html.contains("crash") && html.contains("signal 11"));
    assert!(!html.contains("<section id=\"heatmap\""));
    assert_balanced(&html);
}

#[test]
fn what_is_not_finite_is_shown_as_such() {
    let mut report = sample::report(5);
    for key in ["max_abs", "rms", "ratio", "relative", "cosine", "observed"] {
        report["runs"][0]["tensors"][20][key] = Value::Null;
    }
    report["runs"][0]["tensors"][20]["pass"] = false.into();
    let html = render(&report);
    assert!(html.contains("class=hx") && html.contains("not finite"));
    assert_balanced(&html);
}

#[test]
fn a_large_model_on_several_backends_stays_small() {
    let mut report = sample::report(64);
    let run = report["runs"][2].clone();
    report["runs"] = (0..6).map(|_| run.clone()).collect();
    let size = render(&report).len();
    assert!(size < 2_000_000, "{size} bytes");
}
