//! Numbers and small parts as a page shows them.

use maud::{Markup, html};

use crate::Status;
use crate::bench::Standing;

/// What stands where the report has nothing.
pub const NOTHING: &str = "\u{2013}";

/// The class of a column of numbers; `None` is that of words.
pub const NUM: Option<&str> = Some("num");

/// Makes control characters visible, and those that turn the reading direction: a name must not be able to
/// look like another one.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => out.push('\u{fffd}'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out += &format!("[U+{:04X}]", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A table's row of heads: names and classes.
pub fn heads(columns: &[(&str, Option<&str>)]) -> Markup {
    html! { thead { tr { @for (name, class) in columns { th scope="col" class=[class] { (name) } } } } }
}

/// A number's cell.
pub fn num(shown: String) -> Markup {
    html! { td.num { (shown) } }
}

/// A status as a coloured word with a sign, so that colour alone says nothing.
pub fn chip(status: Status) -> Markup {
    let (class, sign) = match status {
        Status::Pass => ("pass", '\u{2713}'),
        Status::Fail => ("fail", '\u{2717}'),
        Status::Crash => ("fail", '\u{26a0}'),
        Status::Unavailable => ("none", '\u{2205}'),
    };
    sign_and_word(class, sign, status.name())
}

/// What parity makes of a speed, as [`chip`].
pub fn standing_chip(standing: Standing) -> Markup {
    let (class, sign, word) = match standing {
        Standing::Right => ("pass", '\u{2713}', "right"),
        Standing::Unchecked => ("none", '\u{2205}', "not checked"),
        Standing::Wrong => ("fail", '\u{2717}', "WRONG"),
    };
    sign_and_word(class, sign, word)
}

/// A word with a sign, coloured as `class` is.
pub fn sign_and_word(class: &str, sign: char, word: &str) -> Markup {
    html! { span class={ "chip " (class) } { (sign) " " (word) } }
}

/// `[0, 1, 2]`, in a shape or an index per axis.
pub fn axes(axes: &[usize]) -> Markup {
    html! { code { (format_args!("{axes:?}")) } }
}

/// A number in a table: four decimals near one, whole when it is whole, else `3.10e-7` or `not finite`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "not finite".into()
    } else if value.fract() == 0.0 && size < 100_000.0 {
        format!("{}", value.abs().copysign(if size == 0.0 { 1.0 } else { value }))
    } else if (0.001..10.0).contains(&size) {
        format!("{value:.4}")
    } else if (10.0..100_000.0).contains(&size) {
        format!("{value:.2}")
    } else {
        format!("{value:.2e}")
    }
}

/// Decimals that show a difference of `error` with two of its digits.
pub fn decimals(error: Option<f64>) -> usize {
    match error {
        Some(error) if error > 0.0 && error.is_finite() => {
            (1.0 - error.log10().floor()).clamp(4.0, 12.0) as usize
        }
        _ => 4,
    }
}

/// A number with so many decimals; as [`number`] when it is too large or too small for them.
pub fn fixed(value: f64, decimals: usize) -> String {
    if (0.01..100_000.0).contains(&value.abs()) { format!("{value:.decimals$}") } else { number(value) }
}

/// As [`number`], or a dash.
pub fn number_or_dash(value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), number)
}

/// A number that is absent only when it is not finite.
pub fn finite(value: Option<f64>) -> String {
    number(value.unwrap_or(f64::NAN))
}

/// An error over its limit in at most four characters.
///
/// What is just below one is `<1` and what is just above is `>1`: rounding must not change the verdict.
pub fn ratio(value: f64) -> String {
    if !value.is_finite() {
        "\u{221e}".into()
    } else if value == 0.0 {
        "0".into()
    } else if !(0.0095..999.5).contains(&value) {
        format!("{value:.0e}")
    } else if (0.995..=1.0).contains(&value) {
        "<1".into()
    } else if (1.0..1.05).contains(&value) {
        ">1".into()
    } else if value < 0.995 {
        format!("{value:.2}")
    } else if value < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A wall time given in milliseconds.
pub fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.1} min", ms / 60_000.0),
    }
}

/// A size given in MiB.
pub fn mebibytes(mib: f64) -> String {
    if mib < 10.0 { format!("{mib:.1} MiB") } else { format!("{mib:.0} MiB") }
}

/// `1 layer`, `2 layers`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_controls_and_direction_are_made_harmless() {
        let markup = html! { a title=("<\">&") { ("<a b='c' d=\"e\">&") } }.into_string();
        let text = "&lt;a b='c' d=&quot;e&quot;&gt;&amp;";
        assert_eq!(markup, format!("<a title=\"&lt;&quot;&gt;&amp;\">{text}</a>"));
        assert_eq!(
            visible("a\0\u{1b}[31m\u{7f}\u{9b}\r\n"),
            "a\u{2400}\u{241b}[31m\u{2421}\u{fffd}\u{240d}\n"
        );
        assert_eq!(visible("x\u{202e}y"), "x[U+202E]y");
        assert_eq!(visible("日本 \u{1f600}"), "日本 \u{1f600}");
    }

    #[test]
    fn ratios_fit_a_cell_and_keep_their_side_of_one() {
        let cases = [
            (0.0, "0"),
            (3e-7, "3e-7"),
            (0.0094, "9e-3"),
            (0.0096, "0.01"),
            (0.314, "0.31"),
            (0.996, "<1"),
            (1.0, "<1"),
            (1.0001, ">1"),
            (1.06, "1.1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (123_456.0, "1e5"),
            (f64::INFINITY, "\u{221e}"),
            (f64::NAN, "\u{221e}"),
        ];
        for (value, text) in cases {
            assert_eq!(ratio(value), text, "{value}");
            assert!(ratio(value).chars().count() <= 4 + usize::from(value > 1e9));
        }
    }

    #[test]
    fn null_is_not_finite_and_absence_is_a_dash() {
        assert_eq!(finite(None), "not finite");
        assert_eq!(finite(Some(0.25)), "0.2500");
        assert_eq!(number_or_dash(None), NOTHING);
    }

    #[test]
    fn a_difference_is_visible_in_the_values() {
        let decimals = decimals(Some(9.3e-6));
        assert_eq!(fixed(-0.471_584_8, decimals), "-0.4715848");
        assert_eq!(fixed(-0.471_594_1, decimals), "-0.4715941");
        assert_eq!(fixed(f64::NAN, decimals), "not finite");
        assert_eq!(fixed(3e-9, decimals), "3.00e-9");
        for none in [None, Some(0.0), Some(f64::INFINITY), Some(7.0)] {
            assert_eq!(super::decimals(none), 4);
        }
    }

    #[test]
    fn numbers_keep_their_scale() {
        assert_eq!(number(3.1e-7), "3.10e-7");
        assert_eq!(number(-0.031_25), "-0.0312");
        assert_eq!(number(1234.5), "1234.50");
        assert_eq!(number(2e9), "2.00e9");
        assert_eq!(number(27_913.0), "27913");
        assert_eq!((number(-3.0), number(-0.0)), ("-3".into(), "0".into()));
        assert_eq!(duration(812.4), "812 ms");
        assert_eq!(duration(95_000.0), "95.0 s");
        assert_eq!(duration(600_000.0), "10.0 min");
        assert_eq!((mebibytes(9.96), mebibytes(12.3)), ("10.0 MiB".into(), "12 MiB".into()));
    }
}
