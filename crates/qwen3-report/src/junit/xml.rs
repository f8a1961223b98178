//! The elements of a JUnit file, and what XML allows in them.

/// A test case; `outcome` is an element of [`outcome`], or nothing for a pass.
pub fn case(class: &str, name: &str, outcome: &str) -> String {
    let (class, name) = (attribute(class), attribute(name));
    match outcome.is_empty() {
        true => format!("    <testcase classname=\"{class}\" name=\"{name}\"/>\n"),
        false => format!(
            "    <testcase classname=\"{class}\" name=\"{name}\">\n{outcome}    </testcase>\n"
        ),
    }
}

/// A `failure`, an `error` or a `skipped`.
pub fn outcome(element: &str, kind: &str, message: &str, details: &str) -> String {
    format!(
        "      <{element} type=\"{kind}\" message=\"{}\">{}</{element}>\n",
        attribute(message),
        content(details)
    )
}

/// Escapes text for a quoted attribute; a reader would turn line ends and tabs into spaces there.
pub fn attribute(text: &str) -> String {
    content(text).replace('\n', "&#10;").replace('\t', "&#9;")
}

/// Escapes text for an element, and replaces what XML 1.0 does not allow at all.
pub fn content(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\n' | '\t' => out.push(c),
            // As itself it would be read as a line feed.
            '\r' => out += "&#13;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
