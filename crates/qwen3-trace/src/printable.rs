//! Text that came from a file, made fit for a terminal.

use std::borrow::Cow;

/// `text` on one line, with everything in it that a terminal would obey, and not show, written as an escape: control
/// characters and overrides of the direction of writing. Names, keys, ids and errors are printed through it.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, "")
}

/// [`printable`] of text with lines and tabs.
pub fn printable_text(text: &str) -> Cow<'_, str> {
    escaped(text, "\n\t")
}

/// [`printable`] of text with lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, "\n")
}

fn escaped<'a>(text: &'a str, kept: &str) -> Cow<'a, str> {
    let obeyed = |c: char| is_obeyed(c) && !kept.contains(c);
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.into()
}

/// Does a terminal do something else with it than to show it?
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("layer_00.mlp: 日本 é 🎉", "layer_00.mlp: 日本 é 🎉"),
            ("\u{1b}]0;title\u{7}\u{1b}[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"),
            ("a\r\n\tb\0", "a\\r\\n\\tb\\u{0}"),
            ("\u{7f}\u{9b}31m\u{85}", "\\u{7f}\\u{9b}31m\\u{85}"),
            ("user\u{202e}nimda\u{2069}\u{200f}", "user\\u{202e}nimda\\u{2069}\\u{200f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
        assert_eq!(printable_text("a\n\tb\u{1b}"), "a\n\tb\\u{1b}");
        assert_eq!(printable_lines("a\n\tb"), "a\n\\tb");
    }
}
