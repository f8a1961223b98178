//! A benchmark as Markdown, for a document that is kept: tables, and bars that GitHub and others draw.

use std::fmt::Write;

use qwen3_trace::{Precision, printable};

use crate::BenchReport;
use crate::bench::{Figures, Phase, Standing, Workload};
use crate::measure::three_digits;

/// `text` with what stands between the first `begin` and the `end` behind it replaced; `None` when a mark is missing.
pub fn between(text: &str, [begin, end]: [&str; 2], new: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{new}{end}{after}"))
}

/// A column: a backend of ours as it was run, or another engine.
struct Column<'a> {
    name: String,
    rows: Vec<&'a Figures>,
    ours: bool,
}

impl Column<'_> {
    fn find(&self, workload: Workload) -> Option<&Figures> {
        self.rows.iter().find(|row| row.workload == workload).copied()
    }
}

/// The model, the machine and its limits, and for each dtype a table of all workloads and bars of decoding.
pub fn bench(report: &BenchReport) -> String {
    let mut out = String::new();
    head(&mut out, report);
    for dtype in Precision::ALL {
        let columns = columns(report, dtype);
        if !columns.is_empty() {
            table(&mut out, dtype, &columns);
            bars(&mut out, dtype, &columns);
        }
    }
    if !report.skipped.is_empty() {
        out += "\nNot measured:\n\n";
    }
    for skipped in &report.skipped {
        let workload = skipped.workload.map_or(String::new(), |workload| format!(", {workload}"));
        line(&mut out, &format!("- {}{workload}: {}", shown(&skipped.who), shown(&skipped.reason)));
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// On one line, and no cell's end.
fn shown(text: &str) -> String {
    printable(text).to_string().replace('|', "\\|")
}

fn head(out: &mut String, report: &BenchReport) {
    let BenchReport { model, machine, limits, .. } = report;
    let parameters = three_digits(model.parameters as f64 / 1e6);
    line(out, "");
    line(out, &format!("- Model: {}, {parameters} M weights.", shown(&model.name)));
    line(out, &format!("- Machine: {}.", shown(&machine.facts().join(", "))));
    line(out, &format!("- Limits, measured in the same run: {}.", limits.rates().join(", ")));
    let mut versions = vec![format!("Burn {}", report.burn)];
    for peer in &report.peers {
        // Most say their own name.
        let named = peer.version.starts_with(&peer.peer);
        let version = if named { peer.version.clone() } else { format!("{} {}", peer.peer, peer.version) };
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    line(out, &format!("- Versions: {}.", shown(&versions.join(", "))));
    if report.rows.iter().any(|row| row.figures.disturbed > 0) {
        line(out, "- Marked with *: other processes used the machine while a sample was taken.");
    }
}

fn columns(report: &BenchReport, dtype: Precision) -> Vec<Column<'_>> {
    let ours = report.lanes().into_iter().filter(|lane| lane.label.dtype == dtype).map(|lane| {
        let wrong = if lane.standing == Standing::Wrong { " (WRONG)" } else { "" };
        let variant = lane.label.variant.map_or(String::new(), |variant| format!(" ({variant})"));
        Column { name: format!("{}{variant}{wrong}", lane.label.backend), rows: lane.rows, ours: true }
    });
    let theirs = report.peer_lanes().into_iter().filter(|(peer, _)| peer.figures.dtype == dtype);
    let theirs = theirs.map(|(peer, rows)| Column { name: peer.peer.clone(), rows, ours: false });
    ours.chain(theirs).collect()
}

fn table(out: &mut String, dtype: Precision, columns: &[Column]) {
    let mut workloads: Vec<Workload> =
        columns.iter().flat_map(|column| column.rows.iter().map(|row| row.workload)).collect();
    workloads.sort_unstable();
    workloads.dedup();
    let peers = columns.iter().any(|column| !column.ours);
    let mut heads = vec![format!("{dtype}"), "limit".into()];
    heads.extend(columns.iter().map(|column| shown(&column.name)));
    heads.extend(peers.then(|| "best of ours / best peer".into()));
    line(out, "");
    line(out, &format!("| {} |", heads.join(" | ")));
    line(out, &format!("|---|{}", "---:|".repeat(heads.len() - 1)));
    for workload in workloads {
        let unit = workload.phase.unit();
        let limits = columns.iter().filter_map(|column| column.find(workload)?.limit_tok_per_s);
        let limit = limits.reduce(f64::max).map_or("-".into(), three_digits);
        let mut cells = vec![format!("{workload} ({unit})"), limit];
        for column in columns {
            cells.push(column.find(workload).map_or("-".into(), |row| {
                let share = row.of_limit.map_or(String::new(), |share| format!(" ({:.0} %)", 100.0 * share));
                let mark = if row.disturbed > 0 { "*" } else { "" };
                format!("{}{mark}{share}", three_digits(row.median()))
            }));
        }
        cells.extend(peers.then(|| {
            let best = |ours: bool| {
                let rows = columns.iter().filter(move |column| column.ours == ours);
                let rows = rows.filter_map(|column| column.find(workload));
                rows.reduce(|a, b| if b.times_as_fast_as(a).is_some_and(|times| times > 1.0) { b } else { a })
            };
            let ratio = best(true).zip(best(false)).and_then(|(ours, theirs)| ours.times_as_fast_as(theirs));
            ratio.map_or("-".into(), three_digits)
        }));
        line(out, &format!("| {} |", cells.join(" | ")));
    }
    for column in columns {
        let most =
            |of: fn(&Figures) -> Option<f64>| column.rows.iter().filter_map(|row| of(row)).reduce(f64::max);
        let mut facts = Vec::new();
        facts.extend(most(|row| row.peak_rss_mb).map(|peak| format!("{} MiB at most", three_digits(peak))));
        facts.extend(
            most(|row| row.huge_pages_mb).map(|pages| format!("{} MiB in huge pages", three_digits(pages))),
        );
        if let Some(accuracy) = column.rows.iter().find_map(|row| row.accuracy) {
            let worst = accuracy.worst_over_limit.map_or("not finite".into(), three_digits);
            facts.push(format!(
                "parity: {} of {} cases fail, worst error/limit {worst}, greedy ids {}",
                accuracy.failed, accuracy.cases, accuracy.greedy_ids
            ));
        }
        if !facts.is_empty() {
            let _ = write!(out, "\n{} {dtype}: {}.", shown(&column.name), facts.join("; "));
        }
    }
    line(out, "");
}

/// Decoding of one sequence behind the shortest context, and the limit as a line.
fn bars(out: &mut String, dtype: Precision, columns: &[Column]) {
    let decoded = |row: &&&Figures| row.workload.phase == Phase::Decode && row.workload.batch == 1;
    let all = columns.iter().flat_map(|column| &column.rows);
    let Some(workload) = all.filter(decoded).map(|row| row.workload).min_by_key(|workload| workload.context)
    else {
        return;
    };
    let rows: Vec<(&str, &Figures)> =
        columns.iter().filter_map(|column| Some((&*column.name, column.find(workload)?))).collect();
    let list = |values: Vec<String>| values.join(", ");
    let plain = |name: &str| format!("\"{}\"", shown(name).replace('"', "'"));
    line(out, "\n```mermaid\nxychart-beta");
    line(out, &format!("    title \"{workload}, {dtype}; the line is the limit\""));
    line(out, &format!("    x-axis [{}]", list(rows.iter().map(|(name, _)| plain(name)).collect())));
    line(out, "    y-axis \"tokens per second\"");
    line(
        out,
        &format!("    bar [{}]", list(rows.iter().map(|(_, row)| format!("{:.2}", row.median())).collect())),
    );
    let limit = rows.iter().filter_map(|(_, row)| row.limit_tok_per_s).reduce(f64::max);
    if let Some(limit) = limit {
        line(out, &format!("    line [{}]", list(vec![format!("{limit:.2}"); rows.len()])));
    }
    line(out, "```");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        assert_eq!(between("a [ old ] b ]", ["[", "]"], "new"), Some("a [\nnew] b ]".into()));
        assert_eq!(between("a ] b [", ["[", "]"], "new"), None);
        assert_eq!(between("nothing", ["[", "]"], "new"), None);
    }

    #[test]
    fn every_figure_is_in_a_table_and_text_from_elsewhere_ends_no_cell() {
        let report = sample::bench();
        let text = bench(&report);
        let tables = text.lines().filter(|line| line.starts_with('|'));
        let mut width = 0;
        for line in tables {
            let cells = line.replace("\\|", "").matches('|').count();
            if line.contains(" | limit | ") {
                width = cells;
            }
            assert_eq!(cells, width, "{line}");
        }
        for row in &report.rows {
            assert!(text.contains(&three_digits(row.figures.median())), "{}", row.figures.workload);
            assert!(text.contains(&format!("{} (", row.figures.workload)), "{}", row.figures.workload);
        }
        assert!(text.contains("wgpu (WRONG)") && text.contains("best of ours / best peer"), "{text}");
        assert_eq!(text.matches("```").count() % 2, 0);
        assert!(!text.contains('\u{7}'), "{text}");
    }
}
