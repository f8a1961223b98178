//! Values written as Python writes them: `str`, `repr` and `json.dumps`.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::budget::{depth_within, text, tick};
use crate::limits::TEMPLATE_STRING;

/// Text that takes no more than a text may have; what would go beyond is left out, and [`Out::check`] says so.
#[derive(Default)]
struct Out {
    text: String,
    full: bool,
}

impl Out {
    fn push_str(&mut self, part: &str) {
        self.full |= self.text.len() + part.len() > TEMPLATE_STRING;
        if !self.full {
            self.text.push_str(part);
        }
    }

    fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    /// Called for each value, so that recursion ends where the text or the time does.
    fn check(&self, depth: usize) -> Result<(), Error> {
        depth_within(depth)?;
        tick()?;
        text(if self.full { usize::MAX } else { 0 }).map(drop)
    }

    fn finish(self) -> Result<String, Error> {
        self.check(0)?;
        Ok(self.text)
    }
}

impl Write for Out {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.push_str(part);
        Ok(())
    }
}

/// `str(value)`: what `{{ value }}` prints.
pub(crate) fn to_str(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.to_string()),
        _ => {
            let mut out = Out::default();
            repr(value, &mut out, 0)?;
            out.finish()
        }
    }
}

fn repr(value: &Value, out: &mut Out, depth: usize) -> Result<(), Error> {
    out.check(depth)?;
    match value.kind() {
        ValueKind::Number => out.push_str(&number(value, "inf", "nan")),
        ValueKind::String => repr_str(value.as_str().unwrap_or_default(), out),
        ValueKind::Undefined if depth > 0 => out.push_str("Undefined"),
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                repr(&item, out, depth + 1)?;
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                out.push(',');
            }
            out.push(close);
        }
        // A slice or a sum of lists, which are lists in Python.
        ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            repr(&Value::from(items), out, depth)?;
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                repr(&key, out, depth + 1)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").expect("Out takes everything"),
    }
    Ok(())
}

/// `repr` of a string: single quotes unless that means escaping.
fn repr_str(text: &str, out: &mut Out) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                write!(out, "\\x{:02x}", c as u32).expect("Out takes everything");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn number(value: &Value, infinity: &str, nan: &str) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => repr_float(float, infinity, nan),
        _ => value.to_string(),
    }
}

/// `repr` of a float: the shortest digits that read back the same, in exponent form below 1e-4 and
/// from 1e16.
pub(crate) fn repr_float(float: f64, infinity: &str, nan: &str) -> String {
    if float.is_nan() {
        return nan.into();
    }
    if float.is_infinite() {
        return format!("{}{infinity}", if float < 0.0 { "-" } else { "" });
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes an integer exponent");
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let fixed = format!("{float}");
    if fixed.contains('.') { fixed } else { fixed + ".0" }
}

/// The arguments of `json.dumps` that templates may give.
#[derive(Debug)]
pub(crate) struct JsonStyle {
    pub(crate) ensure_ascii: bool,
    /// What one level is indented by; `None` for everything on one line.
    pub(crate) indent: Option<String>,
    pub(crate) item_separator: String,
    pub(crate) key_separator: String,
    pub(crate) sort_keys: bool,
}

impl Default for JsonStyle {
    fn default() -> Self {
        Self {
            ensure_ascii: false,
            indent: None,
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            sort_keys: false,
        }
    }
}

/// `json.dumps(value, ...)`.
pub(crate) fn to_json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = Out::default();
    write_json(value, style, &mut out, 0)?;
    out.finish()
}

fn write_json(value: &Value, style: &JsonStyle, out: &mut Out, depth: usize) -> Result<(), Error> {
    out.check(depth)?;
    let line = |out: &mut Out, depth: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value, "Infinity", "NaN")),
        ValueKind::String => json_str(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = value.try_iter()?.peekable();
            if items.peek().is_none() {
                out.push_str("[]");
                return Ok(());
            }
            out.push('[');
            for (at, item) in items.enumerate() {
                if at > 0 {
                    out.push_str(&style.item_separator);
                }
                line(out, depth + 1);
                write_json(&item, style, out, depth + 1)?;
            }
            line(out, depth);
            out.push(']');
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                entries.push((json_key(&key)?, value.get_item(&key)?));
            }
            if entries.is_empty() {
                out.push_str("{}");
                return Ok(());
            }
            if style.sort_keys {
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push_str(&style.item_separator);
                }
                line(out, depth + 1);
                json_str(key, style, out);
                out.push_str(&style.key_separator);
                write_json(value, style, out, depth + 1)?;
            }
            line(out, depth);
            out.push('}');
        }
        kind => {
            let reason = format!("tojson: a value of type {kind} is not JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    }
    Ok(())
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.to_string()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(number(key, "Infinity", "NaN")),
        kind => {
            let reason = format!("tojson: a key of type {kind} is not JSON");
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        }
    }
}

fn json_str(text: &str, style: &JsonStyle, out: &mut Out) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (style.ensure_ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("Out takes everything");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (float, expected) in cases {
            assert_eq!(repr_float(float, "inf", "nan"), expected);
        }
    }

    #[test]
    fn strings_as_python_writes_them() {
        let json = |style: &JsonStyle| to_json(&Value::from("a\"\\\n\u{1}\u{7f}é😀</b>"), style).unwrap();
        assert_eq!(json(&JsonStyle::default()), "\"a\\\"\\\\\\n\\u0001\u{7f}é😀</b>\"");
        let ascii = JsonStyle { ensure_ascii: true, ..JsonStyle::default() };
        assert_eq!(json(&ascii), "\"a\\\"\\\\\\n\\u0001\\u007f\\u00e9\\ud83d\\ude00</b>\"");
        let repr = |text: &str| to_str(&Value::from(vec![text.to_string()])).unwrap();
        assert_eq!(repr("it's"), "[\"it's\"]");
        assert_eq!(repr("a'b\"c\u{a0}"), "['a\\'b\"c\\xa0']");
    }
}
