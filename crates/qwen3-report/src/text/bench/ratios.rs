//! Ours over theirs, workload by workload.

use std::io::{Result, Write};

use qwen3_trace::{Precision, printable};

use crate::BenchReport;
use crate::bench::{Lane, Ratio, Standing, Workload};
use crate::measure::three_digits;

/// Writes a row for each workload and a column for each peer and dtype: of our backends the fastest that parity
/// does not fail. All the others are in the JSON report.
pub fn write_ratios(out: &mut impl Write, report: &BenchReport) -> Result<()> {
    let lanes = report.lanes();
    let wrong = |ratio: &&Ratio| {
        let here = |lane: &&Lane| lane.label == ratio.label();
        lanes.iter().find(here).is_some_and(|lane| lane.standing == Standing::Wrong)
    };
    let ratios: Vec<&Ratio> = report.ratios.iter().filter(|ratio| !wrong(ratio)).collect();
    if ratios.is_empty() {
        return Ok(());
    }
    let mut workloads: Vec<Workload> = ratios.iter().map(|ratio| ratio.workload).collect();
    workloads.sort_unstable();
    workloads.dedup();
    let mut peers: Vec<(&str, Precision)> = Vec::new();
    for ratio in &ratios {
        if !peers.contains(&(&ratio.peer, ratio.dtype)) {
            peers.push((&ratio.peer, ratio.dtype));
        }
    }
    writeln!(
        out,
        "\nours over theirs, by our fastest backend that parity does not fail; above 1 ours is faster"
    )?;
    let mut table = vec![vec![String::new()]];
    table[0].extend(peers.iter().map(|(peer, dtype)| format!("{} {dtype}", printable(peer))));
    for workload in workloads {
        let mut line = vec![workload.to_string()];
        line.extend(peers.iter().map(|peer| best(&ratios, workload, *peer)));
        table.push(line);
    }
    let width =
        |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..=peers.len()).map(width).collect();
    for line in &table {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

/// `1.50 flex`, or `-`; the variant in brackets.
fn best(ratios: &[&Ratio], workload: Workload, (peer, dtype): (&str, Precision)) -> String {
    let here =
        |ratio: &&&Ratio| (ratio.workload, ratio.peer.as_str(), ratio.dtype) == (workload, peer, dtype);
    let best = ratios.iter().filter(here).max_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let who = |best: &Ratio| match &best.variant {
        Some(variant) => format!("{} ({variant})", best.backend),
        None => best.backend.clone(),
    };
    best.map_or("-".into(), |best| format!("{} {}", three_digits(best.ratio), printable(&who(best))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn text(report: &BenchReport) -> String {
        let mut out = Vec::new();
        write_ratios(&mut out, report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_best_of_ours_that_is_right_stands_for_us() {
        let mut report = sample::bench();
        let shown = text(&report);
        assert!(shown.contains("  transformers f32  llama.cpp f32\n"), "{shown}");
        assert!(
            shown.contains("\n  prefill of 128                1.50 flex         0.750 flex\n"),
            "{shown}"
        );
        assert!(!shown.contains("wgpu"), "it is faster, and wrong: {shown}");
        for row in &mut report.rows {
            row.figures.accuracy = sample::bench().rows[0].figures.accuracy;
        }
        assert!(text(&report).contains("2.18 wgpu"));
        report.ratios.clear();
        assert_eq!(text(&report), "");
    }
}
