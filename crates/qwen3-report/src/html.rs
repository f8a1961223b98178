//! The verification report as one HTML file that needs no network.
//!
//! Every string of the report goes through [`text::esc`]; the page's policy forbids it to load anything. Without
//! scripts everything is still there: tabs are radio buttons, folds are `details`, a cell's numbers are its title.

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

use serde_json::Value;

use super::view::Run;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Renders a verification report (`schema` 1) as a whole HTML page.
///
/// Never fails: what the report does not have is left out or shown as a dash. The same report gives the same
/// bytes.
pub fn render(report: &Value) -> String {
    let runs = Run::all(report);
    let sections = [
        ("diagnosis", "Diagnosis", diagnosis::section(report, &runs)),
        ("heatmap", "Error over limit", heatmap::section(&runs)),
        ("curves", "Layer by layer", curves::section(&runs)),
        ("tokens", "Generated tokens", tokens::section(&runs)),
        ("elements", "Worst elements", elements::section(&runs)),
        (
            "pairwise",
            "Backend against backend",
            pairwise::section(report),
        ),
        ("runs", "Runs", runs::section(&runs)),
    ];
    let (mut links, mut main) = (String::new(), String::new());
    for (id, title, body) in sections {
        // A report without tokens or a second backend has no such section.
        let Some(body) = body else { continue };
        links += &format!("<li><a href=\"#{id}\">{title}</a></li>");
        main += &format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>\n{body}</section>\n"
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{header}\
         <nav aria-label=\"Sections\"><ul>{links}</ul></nav>\n<main>\n{main}</main>\n\
         <footer>Written by <code>cargo xtask verify</code>{burn}. Every number is in the JSON report.</footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        title = header::title(report),
        header = header::header(report, &runs),
        burn = super::view::text(report, "burn").map_or(String::new(), |burn| format!(
            " on Burn {}",
            text::esc(burn)
        )),
    )
}
