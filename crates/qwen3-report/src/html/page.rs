//! What every page has: the policy, the style, a navigation, sections and a footer.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::visible;

/// The pages' style.
pub const STYLE: &str = include_str!("page.css");
/// The pages' script, without which everything is still there.
pub const SCRIPT: &str = include_str!("page.js");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// A section: its id, its title and its body; without a body it is left out.
pub type Section = (&'static str, &'static str, Option<Markup>);

/// What a page consists of.
pub struct Page {
    /// In the browser's title bar.
    pub title: String,
    /// What is above everything.
    pub header: Markup,
    /// Sections above the navigation.
    pub lead: Vec<Section>,
    /// Sections below it.
    pub sections: Vec<Section>,
    /// The command of `cargo xtask` that wrote it.
    pub command: &'static str,
    /// The Burn release, or nothing.
    pub burn: String,
}

/// The whole page.
pub fn page(page: Page) -> String {
    let Page { title, header, lead, sections, command, burn } = page;
    let there = |sections: Vec<Section>| -> Vec<(&str, &str, Markup)> {
        sections.into_iter().filter_map(|(id, title, body)| Some((id, title, body?))).collect()
    };
    let (lead, sections) = (there(lead), there(sections));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header)
                main {
                    @for part in &lead { (section(part)) }
                    nav aria-label="Sections" {
                        ul { @for (id, title, _) in lead.iter().chain(&sections) { li { a href={ "#" (id) } { (title) } } } }
                    }
                    @for part in &sections { (section(part)) }
                }
                footer {
                    "Written by " code { "cargo xtask " (command) }
                    @if !burn.is_empty() { " on Burn " (burn) }
                    ". Every number is in the JSON report."
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    visible(&page.into_string())
}

fn section((id, title, body): &(&str, &str, Markup)) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            (body)
        }
    }
}
