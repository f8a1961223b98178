//! A benchmark as text.

mod ratios;

use std::io::{Result, Write};

use qwen3_trace::printable;

use super::screen::{Look, Screen};
use crate::BenchReport;
use crate::bench::{Figures, Lane, Phase, Standing};
use crate::measure::three_digits;

const GREEN: u8 = 32;
const RED: u8 = 31;
const YELLOW: u8 = 33;

/// Writes the whole report: where it ran, a table for each backend and dtype and for each other engine, the ratios
/// of both, what was skipped, and what is fastest among what parity passes.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_bench(report: &BenchReport, out: &mut impl Write, look: Look) -> Result<()> {
    let out = &mut Screen::new(out, look);
    write_head(out, report)?;
    for lane in report.lanes() {
        write_lane(out, &lane)?;
    }
    for (peer, rows) in report.peer_lanes() {
        let name = format!("{} {}", peer.peer, peer.figures.dtype);
        writeln!(out, "\n{}: another engine, {}", printable(&name), printable(&peer.version))?;
        write_rows(out, &rows, false)?;
    }
    let all = report.rows.iter().map(|row| &row.figures).chain(report.peers.iter().map(|row| &row.figures));
    if all.clone().any(|row| row.disturbed > 0) {
        writeln!(out, "\n* while some of its samples were taken, other processes used the machine")?;
    }
    ratios::write_ratios(out, report)?;
    if !report.skipped.is_empty() {
        writeln!(out, "\nnot measured")?;
    }
    for skipped in &report.skipped {
        let workload = skipped.workload.map_or(String::new(), |workload| format!(", {workload}"));
        writeln!(out, "  {}{workload}: {}", printable(&skipped.who), printable(&skipped.reason))?;
    }
    write_fastest(out, report)
}

fn write_head(out: &mut impl Write, report: &BenchReport) -> Result<()> {
    let BenchReport { model, machine, limits, .. } = report;
    let parameters = model.parameters as f64 / 1e6;
    writeln!(out, "model      {}, {} M weights", printable(&model.name), three_digits(parameters))?;
    writeln!(out, "machine    {}", printable(&machine.facts().join(", ")))?;
    writeln!(out, "limits     {}", limits.rates().join(", "))?;
    for device in &limits.devices {
        let (memory, products) = (three_digits(device.gb_per_s), three_digits(device.gflop_per_s));
        let (backend, dtype) = (printable(&device.backend), device.dtype);
        writeln!(out, "           {backend} {dtype}: memory {memory} GB/s, products {products} GFLOP/s")?;
    }
    Ok(())
}

fn write_lane(out: &mut Screen<impl Write>, lane: &Lane) -> Result<()> {
    write!(out, "\n{}: ", printable(&lane.label.to_string()))?;
    let (word, code) = match lane.standing {
        Standing::Right => ("right", GREEN),
        Standing::Wrong => ("WRONG", RED),
        Standing::Unchecked => ("not checked", YELLOW),
    };
    out.coloured(word, code)?;
    if let Some(accuracy) = lane.accuracy {
        let worst = accuracy.worst_over_limit.map_or("not finite".into(), three_digits);
        let (failed, cases, ids) = (accuracy.failed, accuracy.cases, accuracy.greedy_ids);
        write!(out, ", parity: {failed} of {cases} cases fail, worst error/limit {worst}, greedy ids {ids}")?;
    }
    writeln!(out)?;
    if lane.standing == Standing::Wrong {
        writeln!(out, "  what it computes is not the model: its speeds are no results")?;
    }
    let range = |of: fn(&Figures) -> Option<f64>| range(lane.rows.iter().filter_map(|row| of(row)));
    let mut costs = Vec::new();
    costs.extend(range(|row| row.peak_rss_mb).map(|peak| format!("peak memory {peak} MiB")));
    costs.extend(range(|row| row.huge_pages_mb).map(|pages| format!("{pages} MiB of it in huge pages")));
    costs.extend(
        range(|row| Some(row.bytes_per_token? / 1e6)).map(|bytes| format!("{bytes} MB read per token")),
    );
    let warm_up = range(|row| row.warm_up_s.iter().copied().reduce(f64::max));
    costs.extend(warm_up.map(|seconds| format!("warm-up {seconds} s")));
    if !costs.is_empty() {
        writeln!(out, "  {}", costs.join(", "))?;
    }
    write_rows(out, &lane.rows, lane.standing == Standing::Wrong)
}

fn write_rows(out: &mut Screen<impl Write>, rows: &[&Figures], wrong: bool) -> Result<()> {
    writeln!(
        out,
        "  {:<12} {:>7} {:>8} {:>6} {:>14}  {:>18} {:>9} {:>9}",
        "phase", "tokens", "context", "batch", "median", "spread", "limit", "of limit"
    )?;
    for row in rows {
        let workload = row.workload;
        let count = |count: usize| if workload.phase == Phase::Load { "-".into() } else { count.to_string() };
        let [tokens, context, batch] = [workload.tokens, workload.context, workload.batch].map(count);
        let median = format!("{} {:<5}", three_digits(row.median()), row.unit);
        let spread = row.extremes().map(three_digits).join(" .. ");
        let limit = row.limit_tok_per_s.map_or("-".into(), three_digits);
        let share = row.of_limit.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
        let mark = if row.disturbed > 0 { '*' } else { ' ' };
        write!(
            out,
            "  {:<12} {tokens:>7} {context:>8} {batch:>6} {median:>14}{mark} {spread:>18} {limit:>9} {share:>9}",
            workload.phase
        )?;
        if wrong {
            write!(out, "  ")?;
            out.coloured("WRONG", RED)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `3574`, or `2397 to 2435`.
fn range(values: impl Iterator<Item = f64> + Clone) -> Option<String> {
    let (least, greatest) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
    let [least, greatest] = [least, greatest].map(three_digits);
    Some(if least == greatest { least } else { format!("{least} to {greatest}") })
}

/// The last lines: what to use.
fn write_fastest(out: &mut impl Write, report: &BenchReport) -> Result<()> {
    writeln!(out)?;
    for phase in [Phase::Decode, Phase::Prefill] {
        match report.fastest(phase) {
            Some((label, row)) => writeln!(
                out,
                "fastest at {phase}, among what parity passes: {} with {} {} ({})",
                printable(&label.to_string()),
                three_digits(row.median()),
                row.unit,
                row.workload
            )?,
            None => writeln!(out, "fastest at {phase}: nothing that parity passes was measured")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn text(report: &BenchReport, colour: bool) -> String {
        let mut out = Vec::new();
        write_bench(report, &mut out, Look { colour, ..Look::PLAIN }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_sample_says_what_was_measured() {
        let text = text(&sample::bench(), false);
        for line in [
            "model      synthetic 0.6b, 596 M weights\n",
            "machine    A processor, 8 cores, avx2 avx512f, 31.3 GiB of memory, Linux 6.1, huge pages: madvise\n",
            "limits     8 threads, reading ordinary pages 17.5 GB/s, reading huge pages 20.0 GB/s, multiplying f32 \
             400 GFLOP/s",
            "\nflex f32: right, parity: 0 of 40 cases fail, worst error/limit 0.400, greedy ids equal\n  peak memory \
             3574 MiB, 1024 MiB of it in huge pages, 609 to 2435 MB read per token, warm-up 2.50 s\n",
            "\n  load               -        -      -    0.800 s          0.792 .. 0.816         -         -\n",
            "\n  decode            32      128      1     5.22 tok/s        5.11 .. 5.27      8.34      62 %\n",
            "\n  decode            32      512      1     5.13 tok/s*       5.03 .. 5.18      8.21      62 %\n",
            "\n* while some of its samples were taken, other processes used the machine\n",
            "\nllama.cpp f32: another engine, candle",
            "\nnot measured\n  cuda f32: no device\n  flex bf16, prefill of 512, batch 4: it would take longer",
            "\nfastest at decode, among what parity passes: flex bf16 with 8.30 tok/s (decode of 32 at 128, batch 1)\n",
        ] {
            assert!(text.contains(line), "{line}\n\n{text}");
        }
        assert!(text.ends_with("parity passes: flex f32 with 210 tok/s (prefill of 32)\n"), "{text}");
    }

    #[test]
    fn a_wrong_backend_is_marked_beside_each_speed_and_comes_last() {
        let text = text(&sample::bench(), true);
        let wrong = "wgpu f32: \u{1b}[31mWRONG\u{1b}[0m, parity: 3 of 40 cases fail, worst error/limit not finite, \
                     greedy ids differ\n";
        let (before, after) = text.split_once(wrong).expect(&text);
        assert!(before.contains("flex bf16: \u{1b}[32mright") && !before.contains("WRONG"));
        let table = after.split("\n\n").next().unwrap();
        assert_eq!(table.matches("WRONG").count(), 8, "{table}");
        let last = text.rsplit("not measured").next().unwrap();
        assert!(!last.contains("wgpu"), "it does not win: {last}");
    }

    #[test]
    fn nothing_is_measured_and_nothing_wins() {
        let text = text(&BenchReport::default(), false);
        assert!(text.contains("fastest at decode: nothing that parity passes was measured\n"));
        assert!(!text.contains("not measured") && !text.contains('*'), "{text}");
    }

    #[test]
    fn names_of_files_give_a_terminal_no_orders() {
        let mut report = sample::bench();
        report.machine.cpu = "\u{1b}[2J\nmodel".into();
        report.rows[0].backend = "flex\u{7}\n".into();
        report.peers[0].peer = "a\nfastest at decode: me".into();
        report.compare();
        let text = text(&report, false);
        assert!(text.contains("\\u{1b}[2J\\nmodel") && text.contains("flex\\u{7}\\n f32: right"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']) && !text.contains("\nfastest at decode: me"));
    }
}
