//! Counts, kinds of outcome and characters; the XML is read back by a parser of its own, as strict as XML 1.0.

use serde_json::{Value, json};

use super::render;
use super::xml::{attribute, content};
use crate::verify::sample;

/// Checks that elements nest, attributes are quoted, and every character and reference is allowed; returns how
/// often each element occurs.
fn parse(xml: &str) -> std::collections::BTreeMap<String, usize> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(
        xml.chars().all(allowed),
        "a character that XML 1.0 does not allow"
    );
    for reference in xml.split('&').skip(1) {
        let name = reference.split_once(';').expect("a reference ends").0;
        assert!(
            ["amp", "lt", "gt", "quot", "apos", "#9", "#10", "#13"].contains(&name),
            "&{name};"
        );
    }
    let mut count = std::collections::BTreeMap::new();
    let mut open = Vec::new();
    let rest = xml
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        .expect("a declaration");
    for tag in rest.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, empty) = tag
            .strip_suffix('/')
            .map_or((tag, false), |tag| (tag, true));
        let name = tag.split(' ').next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        *count.entry(name.to_owned()).or_default() += 1;
        if !empty {
            open.push(name);
        }
    }
    assert!(open.is_empty());
    count
}

fn run(fields: Value) -> Value {
    let mut run = json!({"backend": "flex", "dtype": "f32", "status": "pass", "elapsed_ms": 1500.0, "tensors": []});
    for (key, value) in fields.as_object().unwrap() {
        run[key] = value.clone();
    }
    json!({ "schema": 1, "runs": [run] })
}

#[test]
fn the_sample_has_a_case_for_each_tensor() {
    let report = sample::report(5);
    let tensors: usize = report["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["tensors"].as_array().unwrap().len())
        .sum();
    let counts = parse(&render(&report));
    assert_eq!(counts["testsuite"], 4);
    assert_eq!(
        counts["testcase"],
        tensors + 1,
        "and one for the run that is unavailable"
    );
    let head = format!(
        "<testsuites name=\"qwen3-verify\" tests=\"{}\"",
        tensors + 1
    );
    assert!(render(&report).contains(&head));
    assert_eq!(counts["skipped"], 1);
    let failed = report["runs"][2]["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tensor| tensor["pass"] == false)
        .count();
    assert_eq!(counts["failure"], failed);
    assert_eq!(counts["system-out"], 1);
}

#[test]
fn a_failure_names_its_worst_element() {
    let xml = render(&run(json!({"status": "fail", "tensors": [{
        "mode": "isolated", "name": "layer_03.mlp", "layer": 3, "pass": false, "ratio": 8.2, "max_abs": 0.82, "limit": 0.1,
        "max_abs_index": [0, 1, 2], "expected": 1.0, "observed": null,
    }]})));
    assert!(
        xml.contains("classname=\"qwen3-verify.flex.f32.isolated\" name=\"layer_03.mlp\""),
        "{xml}"
    );
    assert!(xml.contains("message=\"8.200 x its limit: not finite instead of 1.00000e0 at [0, 1, 2], max abs 8.20000e-1 of 1.00000e-1\""), "{xml}");
    assert!(xml.contains("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"1.500\""));
    parse(&xml);
}

#[test]
fn patched_cases_have_names_of_their_own() {
    let tensor =
        |layer: i64| json!({"mode": "patched", "name": "logits", "layer": layer, "pass": true});
    let xml = render(&run(json!({"tensors": [tensor(0), tensor(1)]})));
    assert!(
        xml.contains("name=\"logits after layer 0\"")
            && xml.contains("name=\"logits after layer 1\"")
    );
}

#[test]
fn crash_unavailable_and_silence_are_told_apart() {
    let xml = render(&run(json!({"status": "crash", "reason": "signal 11"})));
    assert!(
        xml.contains("<error type=\"crash\" message=\"signal 11\">")
            && xml.contains("errors=\"1\" skipped=\"0\"")
    );
    let xml = render(&run(json!({"status": "unavailable", "reason": null})));
    assert!(
        xml.contains("tests=\"1\"")
            && xml.contains("<skipped type=\"unavailable\"")
            && xml.contains("errors=\"0\" skipped=\"1\"")
    );
    let xml = render(&run(json!({"status": null})));
    assert!(
        xml.contains("<error type=\"report\""),
        "no verdict is not a pass"
    );
    let xml = render(&run(json!({"status": "fail"})));
    assert!(xml.contains("<failure type=\"run\" message=\"nothing was compared\">"));
    let wrong = json!({"status": "fail", "tokens": [{"expected": 1, "observed": 2}], "tensors": [{"pass": true}]});
    assert!(render(&run(wrong)).contains("1 of 1 tokens are wrong and no tie"));
}

#[test]
fn variants_have_suites_of_their_own() {
    let xml = render(&run(
        json!({"backend": "wgpu", "variant": "without fusion", "switches": {"fusion": false, "autotune": true}}),
    ));
    assert!(xml.contains("<testsuite name=\"qwen3-verify.wgpu.f32.without-fusion\""));
    assert!(
        xml.contains("name=\"fusion\" value=\"off\"")
            && xml.contains("name=\"autotune\" value=\"on\"")
    );
}

#[test]
fn nothing_that_xml_forbids_is_written() {
    assert_eq!(
        content("a<b>&\"'\n\r\t"),
        "a&lt;b&gt;&amp;&quot;&apos;\n&#13;\t"
    );
    assert_eq!(attribute("\n\r\t"), "&#10;&#13;&#9;");
    assert_eq!(
        content("\0\u{1b}[31m\u{ffff}\u{fffe}]]>日\u{1f600}"),
        "\u{fffd}\u{fffd}[31m\u{fffd}\u{fffd}]]&gt;日\u{1f600}"
    );
    let hostile = "]]></system-out><x a=\"\0\u{8}\u{ffff}'&#0;";
    let mut report = sample::report(4);
    for run in report["runs"].as_array_mut().unwrap() {
        for key in ["backend", "dtype", "variant", "reason"] {
            run[key] = hostile.into();
        }
        run["diagnosis"]["notes"] = json!([hostile]);
        for tensor in run["tensors"].as_array_mut().unwrap() {
            tensor["name"] = hostile.into();
            tensor["mode"] = hostile.into();
        }
    }
    report["test_input"] = hostile.into();
    assert!(!parse(&render(&report)).contains_key("x"));
}

#[test]
fn anything_may_be_missing() {
    for report in [
        json!(null),
        json!({}),
        json!({"runs": []}),
        json!({"runs": [null, {}, {"tensors": [null, {}]}]}),
    ] {
        parse(&render(&report));
    }
}
