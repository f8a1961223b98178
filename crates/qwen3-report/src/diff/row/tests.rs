//! What counts as worse between two benchmarks.

use super::super::compare;
use super::Diff;
use crate::bench::{Figures, GreedyIds, Phase};
use crate::{AnyReport, BenchReport, sample};

fn diff(change: impl FnOnce(&mut BenchReport)) -> Diff {
    let mut new = sample::bench();
    change(&mut new);
    new.check().unwrap();
    let [old, new] = [sample::bench(), new].map(AnyReport::Bench);
    compare(&old, &new, ["OLD", "NEW"]).unwrap()
}

/// The changes as text, each with the letter of its list.
fn lines(diff: &Diff) -> Vec<String> {
    let lists = [("W", &diff.worse), ("B", &diff.better), ("N", &diff.new), ("I", &diff.notes)];
    let lines = lists.iter().flat_map(|(letter, changes)| {
        changes.iter().map(move |change| format!("{letter} {}: {}", change.place, change.what))
    });
    lines.collect()
}

/// The row's samples, each so many times as large.
fn scale(figures: &mut Figures, times: f64) {
    figures.samples.iter_mut().for_each(|sample| *sample *= times);
    figures.spread = figures.extremes();
    figures.tok_per_s = figures.tok_per_s.map(|speed| speed * times);
    figures.of_limit = figures.of_limit.map(|share| share * times);
}

fn first(report: &mut BenchReport, phase: Phase) -> &mut Figures {
    let row = report.rows.iter_mut().find(|row| row.figures.workload.phase == phase);
    &mut row.unwrap().figures
}

#[test]
fn equal_benchmarks_have_no_changes() {
    let diff = diff(|_| {});
    assert!(lines(&diff).is_empty(), "{diff}");
    let text = diff.to_string();
    assert!(text.starts_with("bench reports: 24 rows are in both\n"), "{text}");
    assert!(text.contains("a median counts as changed when it changes by more than 10 % and"), "{text}");
    assert!(!text.contains("tensor") && text.contains("nothing got worse"), "{text}");
}

#[test]
fn a_speed_changes_by_a_tenth_and_beyond_its_spread() {
    let scaled = |phase, times| lines(&diff(|new| scale(first(new, phase), times)));
    assert_eq!(scaled(Phase::Decode, 1.0 / 1.09), [""; 0]);
    assert_eq!(
        scaled(Phase::Decode, 0.8),
        ["W decode of 32 at 128, batch 1 on flex f32: 5.22 -> 4.17 tok/s, 1.25 times as slow"]
    );
    assert_eq!(scaled(Phase::Prefill, 2.0).len(), 1);
    assert!(scaled(Phase::Prefill, 2.0)[0].ends_with(" tok/s, 2.00 times as fast"));
    // Of seconds, less is better.
    assert_eq!(scaled(Phase::Load, 1.5), ["W load on flex f32: 0.800 -> 1.20 s, 1.50 times as slow"]);
    assert!(scaled(Phase::Load, 0.5)[0].starts_with("B load"));
    let wide = lines(&diff(|new| {
        let decode = first(new, Phase::Decode);
        scale(decode, 0.5);
        decode.samples[2] *= 2.01;
        decode.spread = decode.extremes();
    }));
    assert_eq!(wide, [""; 0], "the spreads overlap");
}

#[test]
fn a_disturbed_row_is_said_to_be() {
    let slow = diff(|new| {
        let decode = first(new, Phase::Decode);
        scale(decode, 0.5);
        decode.disturbed = 1;
    });
    assert!(lines(&slow)[0].ends_with("2.00 times as slow, the new one disturbed"));
}

#[test]
fn memory_grows_by_a_tenth() {
    let peak = |times: f64| {
        lines(&diff(|new| {
            for row in &mut new.rows[..8] {
                row.figures.peak_rss_mb = row.figures.peak_rss_mb.map(|peak| peak * times);
            }
        }))
    };
    assert_eq!(peak(1.09), [""; 0]);
    // Once, and not for each row.
    assert_eq!(peak(1.2), ["W flex f32: peak memory: 3574 MiB -> 4288 MiB"]);
    assert_eq!(peak(0.8), ["B flex f32: peak memory: 3574 MiB -> 2859 MiB"]);
}

#[test]
fn accuracy_is_compared_once_for_a_backend() {
    let changed = |change: &dyn Fn(&mut crate::bench::Accuracy)| {
        lines(&diff(|new| {
            new.rows[..8].iter_mut().for_each(|row| change(row.figures.accuracy.as_mut().unwrap()));
        }))
    };
    assert_eq!(changed(&|new| new.failed = 1), ["W flex f32: parity: failed cases: 0 -> 1"]);
    assert_eq!(changed(&|new| new.cases = 30), ["W flex f32: parity: cases: 40 -> 30"]);
    assert_eq!(changed(&|new| new.cases = 41), ["N flex f32: parity: cases: 40 -> 41"]);
    let ids = "W flex f32: parity: greedy ids: equal -> ";
    assert_eq!(changed(&|new| new.greedy_ids = GreedyIds::Differ), [ids.to_owned() + "differ"]);
    assert_eq!(changed(&|new| new.greedy_ids = GreedyIds::NotRun), [ids.to_owned() + "not run"]);
    assert_eq!(changed(&|new| new.worst_over_limit = Some(0.8)), [""; 0]);
    let worst = "W flex f32: parity: worst error/limit: 0.400 -> ";
    assert_eq!(changed(&|new| new.worst_over_limit = Some(0.81)), [worst.to_owned() + "0.810"]);
    assert_eq!(changed(&|new| new.worst_over_limit = None), [worst.to_owned() + "not finite"]);
    assert!(changed(&|new| new.worst_over_limit = Some(0.1))[0].starts_with("B flex f32"));
    let gone = diff(|new| new.rows[..8].iter_mut().for_each(|row| row.figures.accuracy = None));
    assert_eq!(lines(&gone), ["W flex f32: parity: no longer run"]);
}

#[test]
fn a_missing_row_is_worse_and_a_missing_backend_is_so_once() {
    let one = diff(|new| drop(new.rows.remove(1)));
    assert_eq!(lines(&one), ["W first token after 128 on flex f32: missing; was 0.610 s"]);
    let all = lines(&diff(|new| new.rows.retain(|row| row.backend != "wgpu")));
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("W wgpu f32: missing: 8 rows: "), "{all:?}");
}

#[test]
fn other_engines_are_notes() {
    let slower = diff(|new| scale(&mut new.peers[0].figures, 3.0));
    assert_eq!((slower.exit_code(), slower.notes.len(), slower.runs), (0, 1, 24));
    let gone = diff(|new| new.peers.truncate(7));
    assert_eq!((gone.exit_code(), gone.notes.len()), (0, 7));
    let [old, new] =
        [|new: &mut BenchReport| new.peers.truncate(7), |_: &mut BenchReport| {}].map(|change| {
            let mut report = sample::bench();
            change(&mut report);
            AnyReport::Bench(report)
        });
    let added = compare(&old, &new, ["OLD", "NEW"]).unwrap();
    assert_eq!((added.new.len(), added.notes.len()), (0, 1));
}

#[test]
fn other_machines_are_warned_of_first() {
    let other = diff(|new| {
        new.machine.cpu = "B\u{1b}[2J".into();
        new.limits.threads = 4;
        *new.limits.read_gb_per_s.values_mut().next().unwrap() *= 2.0;
        new.limits.matmul_gflop_per_s.values_mut().for_each(|rate| *rate *= 1.09);
        new.ratios[0].ratio *= 3.0;
    });
    let text = other.to_string();
    let warning = "the machines differ, see below: only ratios within one run count";
    assert_eq!(text.lines().nth(1), Some(warning), "{text}");
    assert_eq!(other.exit_code(), 0);
    let notes = lines(&other);
    assert_eq!(notes[..2], ["I machine: processor: A processor -> B\u{1b}[2J", "I machine: threads: 8 -> 4"]);
    assert_eq!(notes[2], "I limits: reading ordinary pages: 17.5 GB/s -> 35.0 GB/s");
    assert!(notes[3].starts_with("I ratios: flex f32 over transformers, first token"), "{notes:?}");
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(!text.contains('\u{1b}'));
    let skipped = diff(|new| drop(new.skipped.remove(0)));
    assert_eq!(lines(&skipped), ["I skipped: cuda f32: no device -> none"]);
    let model = diff(|new| new.model.name = "another".into());
    assert_eq!(lines(&model), ["I model: name: synthetic 0.6b -> another"]);
    assert!(!model.to_string().contains(warning));
}
