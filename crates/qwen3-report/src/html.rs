//! The verification report as one HTML file that needs no network.
//!
//! The templates escape whatever they show, and control characters of the whole page become visible; the page's
//! policy forbids it to load anything. Without scripts everything is still there: tabs are radio buttons, folds
//! are `details`, a cell's numbers are its title.

mod curves;
mod diagnosis;
mod elements;
mod grid;
mod header;
mod heatmap;
mod pairwise;
mod runs;
mod text;
mod tokens;

#[cfg(test)]
mod tests;

use maud::{DOCTYPE, PreEscaped, html};

use crate::VerifyReport;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The report as a whole page. Never fails; the same report gives the same bytes.
pub fn render(report: &VerifyReport) -> String {
    let runs = &report.runs;
    let sections = [
        ("diagnosis", "Diagnosis", Some(diagnosis::section(report))),
        ("heatmap", "Error over limit", heatmap::section(runs)),
        ("curves", "Layer by layer", curves::section(runs)),
        ("tokens", "Generated tokens", tokens::section(runs)),
        ("elements", "Worst elements", elements::section(runs)),
        ("pairwise", "Backend against backend", pairwise::section(report)),
        ("runs", "Runs", runs::section(runs)),
    ];
    // A report without tokens or a second backend has no such section.
    let sections = sections.into_iter().filter_map(|(id, title, body)| Some((id, title, body?)));
    let sections: Vec<_> = sections.collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (header::title(report)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header::header(report))
                nav aria-label="Sections" {
                    ul { @for (id, title, _) in &sections { li { a href={ "#" (id) } { (title) } } } }
                }
                main {
                    @for (id, title, body) in &sections {
                        section id=(id) aria-labelledby={ (id) "-title" } {
                            h2 id={ (id) "-title" } { (title) }
                            (body)
                        }
                    }
                }
                footer {
                    "Written by " code { "cargo xtask verify" }
                    @if !report.burn.is_empty() { " on Burn " (report.burn) }
                    ". Every number is in the JSON report."
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    text::visible(&page.into_string())
}
