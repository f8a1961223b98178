//! What counts as worse, and what does not.

use qwen3_blame::Divergence;
use qwen3_trace::{Backend, LayerVerdict, Mode, Switches, Verdicts};

use super::{Change, Diff, DiffError};
use crate::sample::{self, report_of, token};
use crate::{AnyReport, CaseResult, Kind, ParityReport, RunResult, Status, VerifyReport};

fn compare(old: &AnyReport, new: &AnyReport) -> Result<Diff, DiffError> {
    super::compare(old, new, ["OLD", "NEW"])
}

fn tensor(name: &str, ratio: f64) -> LayerVerdict {
    sample::tensor(Mode::Accumulated, name, Some(ratio))
}

fn verify_of(runs: Vec<RunResult>) -> VerifyReport {
    VerifyReport { reference: Some("a.npz".into()), ..report_of(runs) }
}

/// A run, in which `change` changes something.
fn run(change: impl FnOnce(&mut RunResult)) -> RunResult {
    let tensors = vec![
        tensor("embedding_output", 0.0),
        tensor("layer_00.mlp", 0.3),
        tensor("layer_00_output", 0.04),
        tensor("layer_01.mlp", 0.5),
        tensor("logits", 0.6),
    ];
    let mut run = RunResult {
        elapsed_ms: 1000.0,
        switches: Some(Switches { fusion: true, autotune: true }),
        verdicts: Verdicts { tensors, tokens: vec![token(0, 12, 12), token(1, 7, 7)], steps: Vec::new() },
        ..sample::run("wgpu", Status::Pass, Vec::new())
    };
    change(&mut run);
    run
}

fn verify(change: impl FnOnce(&mut RunResult)) -> AnyReport {
    AnyReport::Verify(verify_of(vec![run(change)]))
}

fn parity_of(results: Vec<CaseResult>) -> AnyReport {
    AnyReport::Parity(ParityReport { results, ..ParityReport::default() })
}

fn parity(status: Status, max_abs: Option<f64>, rms: f64) -> AnyReport {
    let mut tensor = tensor("output", 0.0).verdict;
    (tensor.max_abs, tensor.rms, tensor.pass) = (max_abs, Some(rms), status == Status::Pass);
    parity_of(vec![CaseResult {
        tensors: vec![tensor],
        ..sample::case("norm-00", Kind::RmsNorm, Backend::Flex, status)
    }])
}

fn diff(change: impl FnOnce(&mut RunResult)) -> Diff {
    compare(&verify(|_| {}), &verify(change)).unwrap()
}

/// The changes as text, each with the letter of its list.
fn lines(diff: &Diff) -> Vec<String> {
    let lists = [("W", &diff.worse), ("B", &diff.better), ("N", &diff.new), ("I", &diff.notes)];
    let line = |list, change: &Change| format!("{list} {}: {}", change.place, change.what);
    let lines = lists.iter().flat_map(|(list, changes)| changes.iter().map(move |change| line(list, change)));
    lines.collect()
}

/// A backend that was never there is not missed.
#[test]
fn what_was_unavailable_may_be_missing() {
    let both = |status| {
        let mut other = run(|run| run.status = status);
        other.label.backend = "cuda".into();
        AnyReport::Verify(verify_of(vec![run(|_| {}), other]))
    };
    let code = |status| compare(&both(status), &verify(|_| {})).unwrap().exit_code();
    assert_eq!((code(Status::Unavailable), code(Status::Pass)), (0, 1));
}

#[test]
fn equal_reports_have_no_changes() {
    for report in [verify(|_| {}), parity(Status::Fail, None, 2.0)] {
        let diff = compare(&report, &report).unwrap();
        assert!(lines(&diff).is_empty(), "{diff}");
        assert_eq!((diff.exit_code(), diff.runs), (0, 1));
        assert!(diff.to_string().contains("nothing got worse"));
    }
}

#[test]
fn a_status_is_better_only_towards_a_pass() {
    use Status::{Crash, Fail, Pass, Unavailable};
    let change = |old, new| {
        let report = |status| verify(|run| run.status = status);
        compare(&report(old), &report(new)).unwrap().exit_code()
    };
    for (old, new) in [(Fail, Pass), (Crash, Pass), (Unavailable, Pass), (Crash, Fail)] {
        assert_eq!(change(old, new), 0, "{old} -> {new}");
    }
    for new in [Fail, Crash, Unavailable] {
        assert_eq!(change(Pass, new), 1, "pass -> {new}");
    }
    for (old, new) in [(Fail, Crash), (Fail, Unavailable), (Unavailable, Fail), (Crash, Unavailable)] {
        assert_eq!(change(old, new), 1, "{old} -> {new}");
    }
}

#[test]
fn tensors_cross_their_limits() {
    let broken = |run: &mut RunResult| run.verdicts.tensors[3] = tensor("layer_01.mlp", 8.2);
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
    let grown = |at: usize, ratio| diff(|run| run.verdicts.tensors[at].ratio = Some(ratio)).worse.len();
    assert_eq!(grown(1, 0.6), 0, "twice, not more");
    assert_eq!(grown(1, 0.61), 1);
    assert_eq!(grown(2, 0.1), 0, "more than twice, but small");
    assert_eq!(grown(2, 0.11), 1);
    assert_eq!(grown(0, 0.09), 0);
    assert_eq!(grown(0, 0.11), 1, "from exact");
    let not_finite = sample::tensor(Mode::Accumulated, "layer_00.mlp", None);
    let null = diff(|run| run.verdicts.tensors[1] = not_finite);
    assert!(lines(&null)[0].ends_with("now beyond its limit, error/limit 0.300 -> not finite"));
}

#[test]
fn growth_beyond_the_limit_counts_too() {
    let failing = |ratio| verify(|run| run.verdicts.tensors[1] = tensor("layer_00.mlp", ratio));
    assert_eq!(compare(&failing(3.0), &failing(7.0)).unwrap().exit_code(), 1);
    assert_eq!(compare(&failing(3.0), &failing(5.0)).unwrap().exit_code(), 0);
    assert_eq!(compare(&failing(7.0), &failing(3.0)).unwrap().better.len(), 1);
}

#[test]
fn what_is_missing_is_worse_and_what_is_new_is_not() {
    let fewer = |run: &mut RunResult| {
        run.verdicts.tensors.truncate(3);
        run.verdicts.tokens.clear();
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
    let none = AnyReport::Verify(verify_of(Vec::new()));
    assert_eq!(lines(&compare(&verify(|_| {}), &none).unwrap()), ["W wgpu f32: missing; was pass"]);
    assert_eq!(lines(&compare(&none, &verify(|_| {})).unwrap()), ["N wgpu f32: pass"]);
}

#[test]
fn a_variant_is_a_run_of_its_own() {
    let variant = |run: &mut RunResult| run.label.variant = Some("without fusion".into());
    assert_eq!(lines(&diff(variant)), ["W wgpu f32: missing; was pass", "N wgpu f32 (without fusion): pass"]);
}

#[test]
fn a_crash_is_not_reported_once_more_for_each_tensor() {
    let crash = diff(|run| {
        run.status = Status::Crash;
        run.verdicts = Verdicts::default();
    });
    assert_eq!(lines(&crash), ["W wgpu f32: status: pass -> crash"]);
}

#[test]
fn a_wrong_token_is_worse_and_a_tie_is_not() {
    let wrong = |run: &mut RunResult| run.verdicts.tokens[1].observed = 9;
    assert_eq!(lines(&diff(wrong)), ["W wgpu f32: token of row 0, step 1: 7 -> 9, expected 7"]);
    let tie = diff(|run| {
        run.verdicts.tokens[1].observed = 9;
        run.verdicts.tokens[1].tie = true;
    });
    assert_eq!(lines(&tie), ["I wgpu f32: token of row 0, step 1: 7 -> 9, a tie"]);
    let mended = compare(&verify(wrong), &verify(|_| {})).unwrap();
    assert_eq!(lines(&mended), ["B wgpu f32: token of row 0, step 1: 9 -> 7, now as expected"]);
    let other = diff(|run| run.verdicts.tokens[0].expected = 13);
    assert_eq!(other.exit_code(), 1, "the same id, but no longer the right one");
}

#[test]
fn many_wrong_tokens_leave_room_for_the_rest() {
    let tokens = |added: i64| {
        let token = |step: usize| token(step, step as u32, step as i64 + added);
        verify(|run| run.verdicts.tokens = (0..20).map(token).collect())
    };
    let diff = compare(&tokens(0), &tokens(1)).unwrap();
    assert_eq!(diff.worse.len(), 5);
    assert!(diff.worse[4].what.contains("16 tokens wrong besides"));
}

#[test]
fn the_first_divergence_moves() {
    let at = |(layer, tensor): (Option<usize>, &str)| {
        let tensor = tensor.into();
        let first = Divergence { layer, tensor };
        move |run: &mut RunResult| {
            run.status = Status::Fail;
            run.diagnosis.first_divergence = Some(first);
        }
    };
    let moved = |old, new| {
        let diff = compare(&verify(at(old)), &verify(at(new))).unwrap();
        lines(&diff).concat().chars().next()
    };
    let (embedding, logits) = ((None, "embedding_output"), (None, "logits"));
    let (early, late) = ((Some(0), "layer_00.mlp"), (Some(1), "layer_01.mlp"));
    assert_eq!(moved(late, early), Some('W'));
    assert_eq!(moved(early, late), Some('B'));
    assert_eq!(moved(logits, late), Some('W'));
    assert_eq!(moved(early, embedding), Some('W'));
    assert_eq!(moved((Some(0), "layer_00_output"), early), Some('W'), "within a layer");
    assert_eq!(moved((None, "layer_01.mlp"), early), Some('W'), "the layer is in the name");
    assert_eq!(moved(early, early), None);
    let appeared = diff(at(early));
    assert!(lines(&appeared).contains(&"W wgpu f32: first divergence: none -> layer_00.mlp".into()));
    let gone = compare(&verify(at(early)), &verify(|_| {})).unwrap();
    assert_eq!((gone.exit_code(), gone.better.len()), (0, 2));
}

#[test]
fn times_switches_and_references_are_information() {
    let switches = Switches { fusion: false, autotune: true };
    let diff = diff(|run| {
        run.elapsed_ms = 2500.0;
        run.switches = Some(switches);
    });
    assert_eq!(
        lines(&diff),
        [
            "I wgpu f32: switches: fusion on, autotune on -> fusion off, autotune on",
            "I wgpu f32: time: 1000 ms -> 2500 ms"
        ]
    );
    let other =
        AnyReport::Verify(VerifyReport { reference: Some("b.npz".into()), ..verify_of(vec![run(|_| {})]) });
    assert_eq!(lines(&compare(&verify(|_| {}), &other).unwrap()), ["I report: reference: a.npz -> b.npz"]);
    let fast = |ms| verify(|run| run.elapsed_ms = ms);
    assert!(compare(&fast(10.0), &fast(40.0)).unwrap().notes.is_empty(), "too short to tell");
}

#[test]
fn parity_reports_are_compared_by_case() {
    let good = parity(Status::Pass, Some(0.2), 0.3);
    let bad = parity(Status::Fail, None, 3.0);
    assert_eq!(
        lines(&compare(&good, &bad).unwrap()),
        [
            "W norm-00 on flex f32: status: pass -> fail",
            "W norm-00 on flex f32: output: now beyond its limit, error/limit 0.300 -> 3.000"
        ]
    );
    let rms = compare(&good, &parity(Status::Pass, Some(0.2), 0.7)).unwrap();
    assert_eq!(rms.exit_code(), 1, "the worse of largest and rms");
}

#[test]
fn a_backend_that_is_missing_is_missing_once() {
    let case = |case, backend| sample::case(case, Kind::Mlp, backend, Status::Pass);
    let cases = ["norm-00", "mlp-00"].into_iter();
    let all = cases.flat_map(|name| [case(name, Backend::Flex), case(name, Backend::Wgpu)]);
    let all: Vec<CaseResult> = all.collect();
    let fewer = parity_of(all[..1].to_vec());
    let all = parity_of(all);
    assert_eq!(
        lines(&compare(&all, &fewer).unwrap()),
        ["W mlp-00 on flex f32: missing; was pass", "W wgpu f32: missing: 2 cases: mlp-00, norm-00"]
    );
    assert_eq!(
        lines(&compare(&fewer, &all).unwrap()),
        ["N mlp-00 on flex f32: pass", "N wgpu f32: 2 cases: mlp-00, norm-00"]
    );
}

#[test]
fn reports_of_two_kinds_are_an_error() {
    let error = compare(&verify(|_| {}), &parity(Status::Pass, Some(0.0), 0.0)).unwrap_err();
    assert_eq!(error.to_string(), "OLD is a verify report and NEW is a parity report");
    let bench = AnyReport::Bench(sample::bench());
    let error = compare(&bench, &verify(|_| {})).unwrap_err();
    assert_eq!(error.to_string(), "OLD is a bench report and NEW is a verify report");
}

#[test]
fn long_lists_are_cut_and_hostile_names_do_not_reach_the_terminal() {
    let many = |ratio| {
        let tensor = |at| tensor(&format!("t{at}\u{1b}[2J"), ratio);
        verify(|run| run.verdicts.tensors = (0..30).map(tensor).collect())
    };
    let diff = compare(&many(0.5), &many(5.0)).unwrap();
    let text = diff.to_string();
    assert_eq!(diff.worse.len(), 30);
    assert!(text.contains("WORSE: 30") && text.contains("... and 18 more"), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert_eq!(text, compare(&many(0.5), &many(5.0)).unwrap().to_string());
}
