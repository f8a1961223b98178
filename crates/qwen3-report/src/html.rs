//! Reports of a verification, of a benchmark and of a checkpoint's weights as one HTML file that needs no network.
//!
//! The templates escape whatever they show, and control characters of the whole page become visible; the page's
//! policy forbids it to load anything. Without scripts everything is still there: tabs are radio buttons, folds
//! are `details`, a cell's numbers are its title.

mod bench;
mod curves;
mod diagnosis;
mod doctor;
mod elements;
mod grid;
mod header;
mod heatmap;
mod memory;
mod page;
mod pairwise;
mod plot;
mod runs;
mod scroll;
mod svg;
mod text;
mod tokens;

#[cfg(test)]
mod tests;

pub use self::bench::render_bench;
pub use self::doctor::render_doctor;
use self::page::{Page, page};
use crate::VerifyReport;

/// The report of a verification as a whole page. Never fails; the same report gives the same bytes.
pub fn render(report: &VerifyReport) -> String {
    let runs = &report.runs;
    // A report without tokens or a second backend has no such section.
    let sections = vec![
        ("heatmap", "Error over limit", heatmap::section(runs)),
        ("curves", "Layer by layer", curves::section(runs)),
        ("tokens", "Generated tokens", tokens::section(runs)),
        ("elements", "Worst elements", elements::section(runs)),
        ("pairwise", "Backend against backend", pairwise::section(report)),
        ("runs", "Runs", runs::section(report)),
        ("compared", "What was compared", header::facts(report)),
        ("memory", "Memory", memory::section(report)),
    ];
    page(Page {
        title: header::title(report),
        header: header::header(report),
        // What one opens the page for.
        lead: vec![("diagnosis", "Diagnosis", Some(diagnosis::section(report)))],
        sections,
        command: "verify",
        burn: report.burn.clone(),
    })
}
