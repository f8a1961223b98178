//! A table that may be wider than a telephone scrolls by itself, and the page does not.

use maud::{Markup, html};

/// The table in a group that scrolls, with the Tab key too; `name` is what it is to those who do not see it.
pub fn scroll(name: &str, table: &Markup) -> Markup {
    html! { div.scroll role="group" tabindex="0" aria-label=(name) { (table) } }
}

/// The same as a card.
pub fn card(name: &str, table: &Markup) -> Markup {
    html! { div."card scroll" role="group" tabindex="0" aria-label=(name) { (table) } }
}
