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

/// A whole page of a report that `cargo xtask COMMAND` wrote.
pub fn page(title: &str, header: &Markup, sections: Vec<Section>, command: &str, burn: &str) -> String {
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
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header)
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
