//! What counts as worse, and what does not.

use serde_json::{Value, json};

use super::{Change, Diff};

fn compare(old: &Value, new: &Value) -> anyhow::Result<Diff> {
    super::compare(old, new, ["OLD", "NEW"])
}

fn tensor(name: &str, ratio: f64) -> Value {
    json!({"mode": "accumulated", "layer": null, "name": name, "ratio": ratio, "pass": ratio <= 1.0})
}

/// A verification of one run, in which `change` changes something.
fn verify(change: impl FnOnce(&mut Value)) -> Value {
    let mut run = json!({
        "backend": "wgpu", "dtype": "f32", "variant": null, "status": "pass", "elapsed_ms": 1000.0,
        "switches": {"fusion": true, "autotune": true},
        "tensors": [tensor("embedding_output", 0.0), tensor("layer_00.mlp", 0.3), tensor("layer_00_output", 0.04), tensor("layer_01.mlp", 0.5), tensor("logits", 0.6)],
        "tokens": [{"row": 0, "step": 0, "expected": 12, "observed": 12, "tie": false}, {"row": 0, "step": 1, "expected": 7, "observed": 7, "tie": false}],
        "diagnosis": {"first_divergence": null},
    });
    change(&mut run);
    json!({"schema": 1, "burn": "0.22.1", "reference": "a.npz", "runs": [run]})
}

fn parity(status: &str, max_abs: Value, rms: f64) -> Value {
    let tensor = json!({"name": "output", "max_abs": max_abs, "limit": 1.0, "rms": rms, "limit_rms": 1.0, "pass": status == "pass"});
    json!({"schema": 1, "burn": "0.22.1", "results": [
        {"case": "norm-00", "kind": "rms_norm", "backend": "flex", "dtype": "f16", "status": status, "elapsed_ms": 4.0, "tensors": [tensor]},
    ]})
}

fn diff(change: impl FnOnce(&mut Value)) -> Diff {
    compare(&verify(|_| {}), &verify(change)).unwrap()
}

/// The changes as text, each with the letter of its list.
fn lines(diff: &Diff) -> Vec<String> {
    let lists = [
        ("W", &diff.worse),
        ("B", &diff.better),
        ("N", &diff.new),
        ("I", &diff.notes),
    ];
    let line = |list, change: &Change| format!("{list} {}: {}", change.place, change.what);
    lists
        .iter()
        .flat_map(|(list, changes)| changes.iter().map(move |change| line(list, change)))
        .collect()
}

/// A backend that was never there is not missed.
#[test]
fn what_was_unavailable_may_be_missing() {
    let both = |status: &str| {
        let mut report = verify(|_| {});
        let mut other = report["runs"][0].clone();
        other["backend"] = "cuda".into();
        other["status"] = status.into();
        report["runs"].as_array_mut().unwrap().push(other);
        report
    };
    let code = |status: &str| compare(&both(status), &verify(|_| {})).unwrap().exit_code();
    assert_eq!((code("unavailable"), code("pass")), (0, 1));
}

#[test]
fn equal_reports_have_no_changes() {
    for report in [verify(|_| {}), parity("fail", Value::Null, 2.0)] {
        let diff = compare(&report, &report).unwrap();
        assert!(lines(&diff).is_empty(), "{diff}");
        assert_eq!((diff.exit_code(), diff.runs), (0, 1));
        assert!(diff.to_string().contains("nothing got worse"));
    }
}

#[test]
fn a_status_is_better_only_towards_a_pass() {
    let change = |old: &str, new: &str| {
        let report = |status: &str| verify(|run| run["status"] = status.into());
        compare(&report(old), &report(new)).unwrap().exit_code()
    };
    for (old, new) in [
        ("fail", "pass"),
        ("crash", "pass"),
        ("unavailable", "pass"),
        ("crash", "fail"),
    ] {
        assert_eq!(change(old, new), 0, "{old} -> {new}");
    }
    for new in ["fail", "crash", "unavailable"] {
        assert_eq!(change("pass", new), 1, "pass -> {new}");
    }
    for (old, new) in [
        ("fail", "crash"),
        ("fail", "unavailable"),
        ("unavailable", "fail"),
        ("crash", "unavailable"),
    ] {
        assert_eq!(change(old, new), 1, "{old} -> {new}");
    }
}

#[test]
fn tensors_cross_their_limits() {
    let broken = |run: &mut Value| run["tensors"][3] = tensor("layer_01.mlp", 8.2);
    assert_eq!(
        lines(&diff(broken)),
        ["W wgpu f32: accumulated layer_01.mlp: now beyond its limit, error/limit 0.500 -> 8.200"]
    );
    let mended = compare(&verify(broken), &verify(|_| {})).unwrap();
    assert_eq!(
        lines(&mended),
        ["B wgpu f32: accumulated layer_01.mlp: now within its limit, error/limit 8.200 -> 0.500"]
    );
}

#[test]
fn growth_needs_a_factor_and_a_size() {
    let grown = |at: usize, ratio: f64| {
        diff(|run| run["tensors"][at]["ratio"] = ratio.into())
            .worse
            .len()
    };
    assert_eq!(grown(1, 0.6), 0, "twice, not more");
    assert_eq!(grown(1, 0.61), 1);
    assert_eq!(grown(2, 0.1), 0, "more than twice, but small");
    assert_eq!(grown(2, 0.11), 1);
    assert_eq!(grown(0, 0.09), 0);
    assert_eq!(grown(0, 0.11), 1, "from exact");
    let null = diff(
        |run| run["tensors"][1] = json!({"mode": "accumulated", "name": "layer_00.mlp", "ratio": null, "max_abs": null, "pass": false}),
    );
    assert!(lines(&null)[0].ends_with("now beyond its limit, error/limit 0.300 -> not finite"));
}

#[test]
fn growth_beyond_the_limit_counts_too() {
    let failing = |ratio: f64| verify(|run| run["tensors"][1] = tensor("layer_00.mlp", ratio));
    assert_eq!(
        compare(&failing(3.0), &failing(7.0)).unwrap().exit_code(),
        1
    );
    assert_eq!(
        compare(&failing(3.0), &failing(5.0)).unwrap().exit_code(),
        0
    );
    assert_eq!(
        compare(&failing(7.0), &failing(3.0)).unwrap().better.len(),
        1
    );
}

#[test]
fn what_is_missing_is_worse_and_what_is_new_is_not() {
    let fewer = |run: &mut Value| {
        run["tensors"].as_array_mut().unwrap().truncate(3);
        run["tokens"] = json!([]);
    };
    assert_eq!(
        lines(&diff(fewer)),
        [
            "W wgpu f32: missing: 2 tokens",
            "W wgpu f32: missing: 2 tensors: accumulated layer_01.mlp, accumulated logits"
        ]
    );
    let more = compare(&verify(fewer), &verify(|_| {})).unwrap();
    assert_eq!((more.exit_code(), more.new.len()), (0, 2));
    let none = json!({"schema": 1, "burn": "0.22.1", "reference": "a.npz", "runs": []});
    assert_eq!(
        lines(&compare(&verify(|_| {}), &none).unwrap()),
        ["W wgpu f32: missing; was pass"]
    );
    assert_eq!(
        lines(&compare(&none, &verify(|_| {})).unwrap()),
        ["N wgpu f32: pass"]
    );
}

#[test]
fn a_crash_is_not_reported_once_more_for_each_tensor() {
    let crash = diff(|run| {
        run["status"] = "crash".into();
        run["tensors"] = json!([]);
        run["tokens"] = json!([]);
    });
    assert_eq!(lines(&crash), ["W wgpu f32: status: pass -> crash"]);
}

#[test]
fn a_wrong_token_is_worse_and_a_tie_is_not() {
    let wrong = |run: &mut Value| run["tokens"][1]["observed"] = 9.into();
    assert_eq!(
        lines(&diff(wrong)),
        ["W wgpu f32: token of row 0, step 1: 7 -> 9, expected 7"]
    );
    let tie = diff(|run| {
        run["tokens"][1]["observed"] = 9.into();
        run["tokens"][1]["tie"] = true.into();
    });
    assert_eq!(
        lines(&tie),
        ["I wgpu f32: token of row 0, step 1: 7 -> 9, a tie"]
    );
    let mended = compare(&verify(wrong), &verify(|_| {})).unwrap();
    assert_eq!(
        lines(&mended),
        ["B wgpu f32: token of row 0, step 1: 9 -> 7, now as expected"]
    );
    let other = diff(|run| run["tokens"][0]["expected"] = 13.into());
    assert_eq!(
        other.exit_code(),
        1,
        "the same id, but no longer the right one"
    );
}

#[test]
fn many_wrong_tokens_leave_room_for_the_rest() {
    let tokens = |observed: i64| {
        let token =
            |step: i64| json!({"step": step, "expected": step, "observed": step + observed});
        verify(|run| run["tokens"] = (0..20).map(token).collect())
    };
    let diff = compare(&tokens(0), &tokens(1)).unwrap();
    assert_eq!(diff.worse.len(), 5);
    assert!(diff.worse[4].what.contains("16 tokens wrong besides"));
}

#[test]
fn the_first_divergence_moves() {
    let at = |layer: Value, tensor: &str| {
        let first = json!({"layer": layer, "tensor": tensor});
        move |run: &mut Value| {
            run["status"] = "fail".into();
            run["diagnosis"]["first_divergence"] = first;
        }
    };
    let moved = |old: (Value, &str), new: (Value, &str)| {
        let diff = compare(&verify(at(old.0, old.1)), &verify(at(new.0, new.1))).unwrap();
        lines(&diff).concat().chars().next()
    };
    let (embedding, logits) = ((Value::Null, "embedding_output"), (Value::Null, "logits"));
    let (early, late) = ((json!(0), "layer_00.mlp"), (json!(1), "layer_01.mlp"));
    assert_eq!(moved(late.clone(), early.clone()), Some('W'));
    assert_eq!(moved(early.clone(), late.clone()), Some('B'));
    assert_eq!(moved(logits.clone(), late.clone()), Some('W'));
    assert_eq!(moved(early.clone(), embedding), Some('W'));
    assert_eq!(
        moved((json!(0), "layer_00_output"), early.clone()),
        Some('W'),
        "within a layer"
    );
    assert_eq!(moved(early.clone(), early.clone()), None);
    let appeared = diff(at(json!(0), "layer_00.mlp"));
    assert!(
        lines(&appeared).contains(&"W wgpu f32: first divergence: none -> layer_00.mlp".into())
    );
    let gone = compare(&verify(at(json!(0), "layer_00.mlp")), &verify(|_| {})).unwrap();
    assert_eq!((gone.exit_code(), gone.better.len()), (0, 2));
}

#[test]
fn times_switches_and_references_are_information() {
    let diff = diff(|run| {
        run["elapsed_ms"] = 2500.0.into();
        run["switches"]["fusion"] = false.into();
    });
    assert_eq!(
        lines(&diff),
        [
            "I wgpu f32: switches: fusion on, autotune on -> fusion off, autotune on",
            "I wgpu f32: time: 1000 ms -> 2500 ms"
        ]
    );
    let mut other = verify(|_| {});
    other["reference"] = "b.npz".into();
    assert_eq!(
        lines(&compare(&verify(|_| {}), &other).unwrap()),
        ["I report: reference: a.npz -> b.npz"]
    );
    let fast = |ms: f64| verify(|run| run["elapsed_ms"] = ms.into());
    assert!(
        compare(&fast(10.0), &fast(40.0)).unwrap().notes.is_empty(),
        "too short to tell"
    );
}

#[test]
fn parity_reports_are_compared_by_case() {
    let (good, bad) = (
        parity("pass", 0.2.into(), 0.3),
        parity("fail", Value::Null, 3.0),
    );
    assert_eq!(
        lines(&compare(&good, &bad).unwrap()),
        [
            "W norm-00 on flex f16: status: pass -> fail",
            "W norm-00 on flex f16: output: now beyond its limit, error/limit 0.300 -> 3.000"
        ]
    );
    let rms = compare(&good, &parity("pass", 0.2.into(), 0.7)).unwrap();
    assert_eq!(rms.exit_code(), 1, "the worse of largest and rms");
}

#[test]
fn a_backend_that_is_missing_is_missing_once() {
    let case = |case: &str, backend: &str| json!({"case": case, "backend": backend, "dtype": "f32", "status": "pass"});
    let report = |cases: &[Value]| json!({"schema": 1, "results": cases});
    let all: Vec<Value> = ["norm-00", "mlp-00"]
        .iter()
        .flat_map(|name| [case(name, "flex"), case(name, "wgpu")])
        .collect();
    let fewer = report(&all[..1]);
    let all = report(&all);
    assert_eq!(
        lines(&compare(&all, &fewer).unwrap()),
        [
            "W mlp-00 on flex f32: missing; was pass",
            "W wgpu f32: missing: 2 cases: mlp-00, norm-00"
        ]
    );
    assert_eq!(
        lines(&compare(&fewer, &all).unwrap()),
        [
            "N mlp-00 on flex f32: pass",
            "N wgpu f32: 2 cases: mlp-00, norm-00"
        ]
    );
}

#[test]
fn what_is_no_report_is_an_error() {
    let good = verify(|_| {});
    let error = |old: &Value, new: &Value| format!("{:#}", compare(old, new).unwrap_err());
    assert_eq!(
        error(&good, &parity("pass", 0.into(), 0.0)),
        "OLD is a verify report and NEW is a parity report"
    );
    assert!(error(&json!({}), &good).contains("OLD is no report"));
    assert!(error(&good, &json!([1])).contains("NEW is no report"));
    assert!(error(&good, &json!({"schema": 2, "runs": []})).contains("schema 2"));
    assert!(error(&good, &json!({"schema": 1})).contains("either `runs` or `results`"));
    let broken = [
        (json!({"status": null}), "NEW: runs[0]: no `status`"),
        (json!({"status": "perhaps"}), "unknown status `perhaps`"),
        (
            json!({"tensors": [{"name": "a"}]}),
            "tensor a without `pass`",
        ),
        (json!({"tensors": {}}), "`tensors` is no list"),
        (json!({"backend": 3}), "no `backend`"),
    ];
    for (fields, message) in broken {
        let new = verify(|run| {
            fields
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(key, value)| run[key] = value.clone())
        });
        assert!(
            error(&good, &new).contains(message),
            "{}",
            error(&good, &new)
        );
    }
}

#[test]
fn long_lists_are_cut_and_hostile_names_do_not_reach_the_terminal() {
    let many = |ratio: f64| {
        verify(|run| {
            run["tensors"] = (0..30)
                .map(|at| tensor(&format!("t{at}\u{1b}[2J"), ratio))
                .collect()
        })
    };
    let diff = compare(&many(0.5), &many(5.0)).unwrap();
    let text = diff.to_string();
    assert_eq!(diff.worse.len(), 30);
    assert!(
        text.contains("WORSE: 30") && text.contains("... and 18 more"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    assert_eq!(text, compare(&many(0.5), &many(5.0)).unwrap().to_string());
}
