use serde_json::Value;
use thiserror::Error;

/// Why a `config.json` was refused. Every error about a field names it.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The text is not a JSON object.
    #[error("not a JSON object: {message}")]
    Json {
        /// The parser's message, with line and column.
        message: String,
    },
    /// A field that has no default is absent.
    #[error("field `{field}` is missing")]
    Missing {
        /// The field.
        field: String,
    },
    /// A field's value has the wrong type or lies outside its range.
    #[error("field `{field}` is {found}, expected {expected}")]
    Invalid {
        /// The field.
        field: String,
        /// The value found, as JSON.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// The value is meaningful, but this crate does not implement it.
    #[error("field `{field}` is {found}, which is not supported: {supported}")]
    Unsupported {
        /// The field.
        field: String,
        /// The value found, as JSON.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// Two fields say different things.
    #[error("fields `{first}` and `{second}` disagree: {detail}")]
    Contradiction {
        /// One field.
        first: String,
        /// The other field.
        second: String,
        /// Both values, or the rule they break.
        detail: String,
    },
}

/// The value `found` of `field` is not what is `expected`.
pub(crate) fn invalid(field: &str, found: &Value, expected: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.into(), found: shorten(found), expected: expected.into() }
}

/// [`invalid`], of a value that is put into words by the caller.
pub(crate) fn invalid_text(field: &str, found: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.into(), found: found.into(), expected: expected.into() }
}

/// The value `found` of `field` means something else than what is `supported`.
pub(crate) fn unsupported(field: &str, found: &Value, supported: impl Into<String>) -> ConfigError {
    ConfigError::Unsupported { field: field.into(), found: shorten(found), supported: supported.into() }
}

/// A hostile value must not flood the terminal.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What `first` and `second` say does not go together.
pub(crate) fn contradiction(first: &str, second: &str, detail: String) -> ConfigError {
    ConfigError::Contradiction { first: first.into(), second: second.into(), detail }
}
