//! Values that programs trip over.

use crate::random::Random;

/// Numbers as JSON and the like write them: edges of every width, and what is no number there.
pub const NUMBERS: [&str; 26] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "127",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e300",
    "-1e300",
    "1e400",
    "1e-320",
    "-0.0",
    "0.5",
    "NaN",
    "Infinity",
    "-Infinity",
];

/// Names and texts: paths that lead elsewhere, control characters, what is nearly right.
pub const TEXTS: [&str; 20] = [
    "",
    " ",
    ".",
    "..",
    "../config.json",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "in",
    "./model.safetensors",
    "a/b",
    "\0",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "\r\x08\x7f\u{9b}",
    "\u{feff}\u{202e}\u{200b}",
    "\u{10ffff}\u{1f600}",
    "%s%n{}{0}$(id)",
    "Qwen3ForCausalLM",
];

/// A number's text.
pub fn number(random: &mut Random) -> String {
    match random.below(12) {
        // Longer than any type holds.
        0 => "9".repeat(400),
        1 => format!("{}", random.below(1 << 20)),
        _ => (*random.pick(&NUMBERS)).into(),
    }
}

/// A text, now and then a long one.
pub fn text(random: &mut Random) -> String {
    match random.below(12) {
        0 => "x".repeat(*random.pick(&[300, 5000, 1 << 20])),
        1 => "\u{1f600}".repeat(1000),
        _ => (*random.pick(&TEXTS)).into(),
    }
}
