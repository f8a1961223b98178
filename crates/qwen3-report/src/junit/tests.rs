//! Counts, kinds of outcome and characters; the XML is read back by a parser of its own, as strict as XML 1.0.

use std::collections::BTreeMap;

use qwen3_trace::{Backend, LayerVerdict, Mode, Precision, Switches};

use super::{harmless, parity, verify};
use crate::sample::{self, report_of, tensor, token};
use crate::{CaseResult, Kind, Label, ParityReport, RunResult, Status};

/// Checks that elements nest, attributes are quoted, and every character and reference is allowed; returns how
/// often each element occurs.
fn parse(xml: &str) -> BTreeMap<String, usize> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(allowed), "a character that XML 1.0 does not allow");
    for reference in xml.split('&').skip(1) {
        let name = reference.split_once(';').expect("a reference ends").0;
        assert!(
            ["amp", "lt", "gt", "quot", "apos", "#9", "#10", "#13", "#xA", "#xD"].contains(&name),
            "&{name};"
        );
    }
    let mut count = BTreeMap::new();
    let mut open = Vec::new();
    let rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").expect("a declaration");
    for tag in rest.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
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

fn of_run(run: RunResult) -> String {
    verify(&report_of(vec![run]))
}

fn run(status: Status, tensors: Vec<LayerVerdict>) -> RunResult {
    RunResult { elapsed_ms: 1500.0, ..sample::run("flex", status, tensors) }
}

#[test]
fn the_sample_has_a_case_for_each_tensor() {
    let report = sample::report(5);
    let tensors: usize = report.runs.iter().map(|run| run.verdicts.tensors.len()).sum();
    let xml = verify(&report);
    let counts = parse(&xml);
    assert_eq!(counts["testsuite"], 4);
    assert_eq!(counts["testcase"], tensors + 1, "and one for the run that is unavailable");
    assert!(xml.contains(&format!("<testsuites name=\"qwen3-verify\" tests=\"{}\"", tensors + 1)));
    assert_eq!(counts["skipped"], 1);
    let failed = report.runs[2].verdicts.tensors.iter().filter(|tensor| !tensor.verdict.pass);
    assert_eq!(counts["failure"], failed.count());
    assert_eq!(counts["system-out"], 1);
    assert!(xml.contains("first divergence: layer_03.self_attn.q_rope\noperation: self_attn.q_rope\n"));
    assert!(xml.contains("cause: rope_theta: ") && xml.contains("(residual 4.10000e-1 -&gt; 2.70000e-1)\n"));
    assert!(xml.contains("along axis 2 from "));
}

#[test]
fn a_failure_names_its_worst_element() {
    let mut tensor = tensor(Mode::Isolated, "layer_03.mlp", Some(8.2));
    let verdict = &mut tensor.verdict;
    (verdict.max_abs, verdict.limit, verdict.expected) = (Some(0.82), 0.1, Some(1.0));
    verdict.max_abs_index = vec![0, 1, 2];
    let xml = of_run(run(Status::Fail, vec![tensor]));
    assert!(xml.contains("name=\"layer_03.mlp\" classname=\"qwen3-verify.flex.f32.isolated\""), "{xml}");
    assert!(xml.contains("message=\"8.200 x its limit: not finite instead of 1.00000e0 at [0, 1, 2], max abs 8.20000e-1 of 1.00000e-1\""), "{xml}");
    assert!(xml.contains("tests=\"1\" skipped=\"0\" errors=\"0\" failures=\"1\" time=\"1.500\""), "{xml}");
    parse(&xml);
}

#[test]
fn patched_cases_have_names_of_their_own() {
    let patched = |layer| LayerVerdict { layer: Some(layer), ..tensor(Mode::Patched, "logits", Some(0.1)) };
    let xml = of_run(run(Status::Pass, vec![patched(0), patched(1)]));
    assert!(xml.contains("name=\"logits after layer 0\"") && xml.contains("name=\"logits after layer 1\""));
}

#[test]
fn crash_unavailable_and_silence_are_told_apart() {
    let stopped = |status, reason: Option<&str>| RunResult {
        reason: reason.map(Into::into),
        ..run(status, Vec::new())
    };
    let xml = of_run(stopped(Status::Crash, Some("signal 11")));
    assert!(xml.contains("<error message=\"signal 11\" type=\"crash\"/>"), "{xml}");
    assert!(xml.contains("skipped=\"0\" errors=\"1\""));
    let xml = of_run(stopped(Status::Unavailable, None));
    assert!(
        xml.contains("<skipped message=\"the backend is unavailable on this machine\" type=\"unavailable\"")
    );
    assert!(xml.contains("tests=\"1\" skipped=\"1\" errors=\"0\""), "{xml}");
    let xml = of_run(stopped(Status::Fail, None));
    assert!(xml.contains("<failure message=\"nothing was compared\" type=\"run\"/>"), "{xml}");
    let mut wrong = run(Status::Fail, vec![tensor(Mode::Isolated, "logits", Some(0.1))]);
    let xml = of_run(wrong.clone());
    assert!(
        xml.contains("the run failed, though every tensor is within its limit"),
        "a failure is not a pass"
    );
    wrong.verdicts.tokens = vec![token(0, 1, 2)];
    assert!(of_run(wrong).contains("1 of 1 tokens are wrong and no tie"));
}

#[test]
fn variants_have_suites_of_their_own() {
    let xml = of_run(RunResult {
        switches: Some(Switches { fusion: false, autotune: true }),
        ..RunResult::new(Label {
            variant: Some("without fusion".into()),
            ..Label::new("wgpu", Precision::F32)
        })
    });
    assert!(xml.contains("<testsuite name=\"qwen3-verify.wgpu.f32.without-fusion\""));
    assert!(xml.contains("name=\"fusion\" value=\"off\"") && xml.contains("name=\"autotune\" value=\"on\""));
}

#[test]
fn nothing_that_xml_forbids_is_written() {
    assert_eq!(harmless("a\n\r\tb"), "a\n\r b");
    assert_eq!(
        harmless("\0\u{1b}[31m\u{ffff}\u{fffe}日\u{1f600}"),
        "\u{fffd}\u{fffd}[31m\u{fffd}\u{fffd}日\u{1f600}"
    );
    let hostile = "]]></system-out><x a=\"\0\u{8}\u{ffff}'&#0;\u{1b}[31m";
    let mut report = sample::report(4);
    for run in &mut report.runs {
        run.label.backend = hostile.into();
        run.label.variant = Some(hostile.into());
        run.reason = Some(hostile.into());
        run.diagnosis.notes = vec![hostile.into()];
        for tensor in &mut run.verdicts.tensors {
            tensor.verdict.name = hostile.into();
        }
    }
    report.test_input = hostile.into();
    let xml = verify(&report);
    assert!(!parse(&xml).contains_key("x"));
    assert!(xml.contains("]]&gt;&lt;/system-out&gt;&lt;x a="), "{xml}");
}

#[test]
fn lines_of_a_reason_stay_lines() {
    let label = Label::new("wgpu", Precision::F32);
    let xml = of_run(RunResult::stopped(label, Status::Crash, "signal 11\nstack".into()));
    assert!(xml.contains(" type=\"crash\">signal 11\nstack</error>"), "{xml}");
}

#[test]
fn an_empty_report_is_a_document() {
    parse(&verify(&report_of(Vec::new())));
    parse(&parity(&ParityReport::default()));
}

#[test]
fn parity_has_a_suite_for_each_backend_and_dtype() {
    let case = |name, backend, status| sample::case(name, Kind::Mlp, backend, status);
    let failed = CaseResult {
        tensors: vec![tensor(Mode::Isolated, "output", None).verdict],
        ..case("mlp-01", Backend::Flex, Status::Fail)
    };
    let report = ParityReport {
        results: vec![
            case("mlp-00", Backend::Flex, Status::Pass),
            case("mlp-00", Backend::Wgpu, Status::Unavailable),
            failed,
        ],
        ..ParityReport::default()
    };
    let xml = parity(&report);
    let counts = parse(&xml);
    assert_eq!((counts["testsuite"], counts["testcase"]), (2, 3));
    assert!(xml.contains("tests=\"3\" skipped=\"1\" failures=\"1\" errors=\"0\" time=\"0.012\""), "{xml}");
    assert!(xml.contains("name=\"mlp-01\" classname=\"qwen3-parity.flex.f32.mlp\" time=\"0.004\""), "{xml}");
    assert!(xml.contains("message=\"output: not finite: x its limit: "), "{xml}");
}
