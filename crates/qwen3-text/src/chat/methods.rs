//! Python's methods of strings, dictionaries and lists.

use std::slice;

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::bounded::check_size;
use super::budget::{made, weigh};

/// Called for every method that the engine itself does not know. What `pycompat` has and Python does
/// the same is left to it; its white space and line ends are Rust's.
pub(crate) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let bytes = check_arguments(value, args)?;
    match name {
        // The text between comes first.
        "join" => check_size(name, &[args, slice::from_ref(value)].concat(), bytes)?,
        "replace" | "format" | "split" | "rsplit" => {
            check_size(name, &[slice::from_ref(value), args].concat(), bytes)?
        }
        _ => {}
    }
    let ours = value.as_str().map(|text| of_string(text, name, args)).transpose()?.flatten();
    let result = match ours {
        Some(result) => result,
        None => pycompat::unknown_method_callback(state, value, name, args)?,
    };
    // What a dictionary gives is in it already.
    if name == "get" { Ok(result) } else { made(result) }
}

/// Refuses what takes too long to be walked through; bytes of the texts. Dictionaries are not walked through.
fn check_arguments(value: &Value, args: &[Value]) -> Result<usize, Error> {
    let subject = if value.kind() == ValueKind::Map { 0 } else { weigh(value)? };
    let args = args.iter().map(weigh).sum::<Result<usize, Error>>()?;
    Ok(subject + args)
}

fn of_string(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, name != "rstrip", name != "lstrip"))
        }
        "split" | "rsplit" => {
            let (sep, limit, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let sep = sep.or(kwargs.get("sep")?).filter(|sep| !sep.is_none());
            let limit = limit.or(kwargs.get("maxsplit")?).unwrap_or(-1);
            kwargs.assert_all_used()?;
            let sep = sep.as_ref().map(|sep| as_str(name, sep)).transpose()?;
            if sep == Some("") {
                return Err(wrong(format!("{name}: empty separator")));
            }
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let parts = match name {
                "split" => split(text, sep, limit),
                _ => rsplit(text, sep, limit),
            };
            Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>())
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            Value::from(lines(text, keep))
        }
        "partition" | "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            if sep.is_empty() {
                return Err(wrong(format!("{name}: empty separator")));
            }
            let parts = match name {
                "partition" => text.split_once(sep).map_or([text, "", ""], |(a, b)| [a, sep, b]),
                _ => text.rsplit_once(sep).map_or(["", "", text], |(a, b)| [a, sep, b]),
            };
            Value::from(Tuple::from(parts.map(Value::from).to_vec()))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if name == "index" { text.find(part) } else { text.rfind(part) };
            let at = found.ok_or_else(|| wrong(format!("{name}: substring not found")))?;
            Value::from(text[..at].chars().count())
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        _ => return Ok(None),
    }))
}

/// Python's `str.isspace`, which counts four separators that Unicode's White_Space does not.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `str.strip`, or one side of it: of white space, or of the characters of `chars`.
pub(crate) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// `str.title`: a letter after anything that is no letter is upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_lowercase() || character.is_uppercase();
    }
    out
}

fn split<'a>(text: &'a str, sep: Option<&str>, limit: usize) -> Vec<&'a str> {
    if let Some(sep) = sep {
        return text.splitn(limit.saturating_add(1), sep).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = if parts.len() < limit { rest.find(is_space) } else { None };
        let end = end.unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    // What the limit leaves together keeps the space at its end, as in Python.
    parts
}

fn rsplit<'a>(text: &'a str, sep: Option<&str>, limit: usize) -> Vec<&'a str> {
    let mut parts: Vec<&str> = match sep {
        Some(sep) => text.rsplitn(limit.saturating_add(1), sep).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                let cut =
                    if parts.len() < limit { rest.char_indices().rfind(|&(_, c)| is_space(c)) } else { None };
                let start = cut.map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end_matches(is_space);
            }
            parts
        }
    };
    parts.reverse();
    parts
}

/// `str.splitlines`: at every line end that Unicode or ASCII has.
fn lines(text: &str, keep: bool) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_end = |c| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let end = rest.find(is_end).unwrap_or(rest.len());
        let after = &rest[end..];
        let length =
            if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        lines.push(Value::from(&rest[..if keep { end + length } else { end }]));
        rest = &after[length..];
    }
    lines
}

fn as_str<'a>(name: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| wrong(format!("{name}: must be a string, not {}", value.kind())))
}

fn wrong(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_python_does() {
        assert_eq!(split("  a b\u{1c}c  ", None, usize::MAX), ["a", "b", "c"]);
        assert_eq!(split(" a  b  c ", None, 1), ["a", "b  c "]);
        assert_eq!(split("", None, usize::MAX), [""; 0]);
        assert_eq!(split("", Some(","), usize::MAX), [""]);
        assert_eq!(split("a,b,c", Some(","), 1), ["a", "b,c"]);
        assert_eq!(rsplit(" a  b  c ", None, 1), [" a  b", "c"]);
        assert_eq!(rsplit("a,b,c", Some(","), 1), ["a,b", "c"]);
    }

    #[test]
    fn strips_sets_of_characters() {
        assert_eq!(strip("\n\nx\n", Some("\n"), true, false), "x\n");
        assert_eq!(strip("\u{1f} x\u{a0}", None, true, true), "x");
        assert_eq!(strip("abcba", Some("ab"), false, true), "abc");
    }
}
