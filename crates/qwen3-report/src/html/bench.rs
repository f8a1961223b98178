//! The report of a benchmark as one HTML file.

mod header;
mod plots;
mod ratios;
mod tables;
#[cfg(test)]
mod tests;

use crate::BenchReport;
use crate::bench::{Accuracy, Figures, Standing};
use crate::html::page::{Page, page};

/// The report of a benchmark as a whole page. Never fails; the same report gives the same bytes.
pub fn render_bench(report: &BenchReport) -> String {
    let lanes = lanes(report);
    let sections = vec![
        ("speed", "Speed", plots::section(&lanes)),
        ("limit", "Fraction of the limit", tables::of_limit(&lanes)),
        ("ratios", "Ours over theirs", ratios::section(report)),
        ("accuracy", "Accuracy", tables::accuracy(&lanes)),
        ("figures", "All figures", tables::figures(&lanes)),
        ("machine", "Model and machine", header::facts(report)),
        ("limits", "What the machine allows", tables::limits(&report.limits)),
        ("skipped", "Not measured", tables::skipped(report)),
    ];
    page(Page {
        title: header::title(report),
        header: header::header(report),
        lead: Vec::new(),
        sections,
        command: "bench",
        burn: report.burn.clone(),
    })
}

/// The rows of one backend or engine in one dtype, as a page shows them.
struct Shown<'a> {
    /// `flex bf16`, `llama.cpp f32`.
    name: String,
    /// Another engine's version.
    version: Option<&'a str>,
    /// What parity makes of it; nothing is known of other engines.
    standing: Option<Standing>,
    accuracy: Option<Accuracy>,
    rows: Vec<&'a Figures>,
}

impl Shown<'_> {
    /// The name, with a mark where the speed is no result.
    fn marked(&self) -> String {
        if self.is_wrong() { format!("{} (WRONG)", self.name) } else { self.name.clone() }
    }

    fn is_wrong(&self) -> bool {
        self.standing == Some(Standing::Wrong)
    }
}

/// Ours, what is wrong last, and then the others.
fn lanes(report: &BenchReport) -> Vec<Shown<'_>> {
    let ours = report.lanes().into_iter().map(|lane| Shown {
        name: lane.label.to_string(),
        version: None,
        standing: Some(lane.standing),
        accuracy: lane.accuracy,
        rows: lane.rows,
    });
    let theirs = report.peer_lanes().into_iter().map(|(peer, rows)| Shown {
        name: format!("{} {}", peer.peer, peer.figures.dtype),
        version: Some(&peer.version),
        standing: None,
        accuracy: None,
        rows,
    });
    ours.chain(theirs).collect()
}
