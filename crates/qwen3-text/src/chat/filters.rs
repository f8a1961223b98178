//! What Transformers adds to Jinja2, and Jinja2's filters where the engine's differ.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::budget::{charge, made};
use super::methods::strip;
use super::python::{JsonStyle, to_json, to_str};

/// Bytes of a date's format, and of a message that a template refuses with.
const FORMAT_BYTES: usize = 1024;
const MESSAGE_CHARS: usize = 4096;

/// The message of a template's `raise_exception`, carried inside an engine error.
#[derive(Debug)]
pub(crate) struct Raised(pub(crate) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// `raise_exception(message)`.
pub(crate) fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message: String = to_str(message)?.chars().take(MESSAGE_CHARS).collect();
    Err(wrong(message.clone()).with_source(Raised(message)))
}

/// `strftime_now(format)`: the local time.
pub(crate) fn strftime_now(format: &str) -> Result<String, Error> {
    if format.len() > FORMAT_BYTES {
        return Err(wrong(format!("strftime_now: a format of more than {FORMAT_BYTES} bytes")));
    }
    let mut out = String::new();
    write!(out, "{}", chrono::Local::now().format(format))
        .map_err(|_| wrong(format!("strftime_now: {format:?} is not a date format")))?;
    Ok(out)
}

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`:
/// `json.dumps`, without the HTML escapes of Jinja2's own filter.
pub(crate) fn tojson(value: &Value, arguments: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    type Optional = Option<Value>;
    let (ensure_ascii, indent, separators, sort_keys) =
        from_args::<(Optional, Optional, Optional, Optional)>(&arguments)?;
    let argument = |given: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let value = given.or(kwargs.get(name)?);
        Ok(value.filter(|value| !value.is_none()))
    };
    let ensure_ascii = argument(ensure_ascii, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = match argument(indent, "indent")? {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(indent) => indent.to_string(),
            None => {
                let width = i64::try_from(indent)?.clamp(0, 1 << 10);
                " ".repeat(width as usize)
            }
        }),
    };
    let mut style = JsonStyle {
        ensure_ascii,
        sort_keys: argument(sort_keys, "sort_keys")?.is_some_and(|value| value.is_true()),
        ..JsonStyle::default()
    };
    if indent.is_some() {
        style.item_separator = ",".into();
        style.indent = indent;
    }
    if let Some(separators) = argument(separators, "separators")? {
        let given: Vec<Value> = separators.try_iter()?.collect();
        let texts: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
        let [item, key] = texts[..] else {
            return Err(wrong("tojson: separators are two strings".into()));
        };
        (style.item_separator, style.key_separator) = (item.into(), key.into());
    }
    kwargs.assert_all_used()?;
    made(Value::from(to_json(value, &style)?))
}

/// `value | trim(chars)`.
pub(crate) fn trim(value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    made(Value::from(strip(&to_str(value)?, chars, true, true)))
}

/// `value | string`.
pub(crate) fn string(value: &Value) -> Result<Value, Error> {
    made(Value::from(to_str(value)?))
}

/// Prints a value as Python's `str` does, into the prompt or into what a macro or block returns.
pub(crate) fn print(out: &mut minijinja::Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let printed;
    let text = match value.as_str() {
        Some(text) => text,
        None => {
            printed = to_str(value)?;
            &printed
        }
    };
    charge(text.len())?;
    out.write_str(text).map_err(Error::from)
}

fn wrong(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
