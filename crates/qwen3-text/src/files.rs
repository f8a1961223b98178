//! Reading of small text files, with a limit and with errors that name the file.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::TextError;
use crate::limits::FILE;

/// A UTF-8 file of a sane size.
pub(crate) fn read_text(file: &Path) -> Result<String, TextError> {
    let io = |source| TextError::Io { file: file.into(), source };
    let metadata = fs::metadata(file).map_err(io)?;
    if !metadata.is_file() {
        return Err(malformed(file, qwen3_config::not_regular(&metadata)));
    }
    let length = metadata.len();
    if length > FILE {
        return Err(malformed(file, format!("{length} bytes, at most {FILE} are read")));
    }
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(io)?;
    opened.take(FILE).read_to_end(&mut bytes).map_err(io)?;
    String::from_utf8(bytes).map_err(|error| malformed(file, error))
}

/// The same, or `None` when there is no such file.
pub(crate) fn read_text_if_there(file: &Path) -> Result<Option<String>, TextError> {
    match read_text(file) {
        Err(TextError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The JSON object that a file is, or `None` when there is no such file.
pub(crate) fn read_object(file: &Path) -> Result<Option<serde_json::Map<String, Value>>, TextError> {
    let Some(text) = read_text_if_there(file)? else {
        return Ok(None);
    };
    match serde_json::from_str(&text).map_err(|error| malformed(file, error))? {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(malformed(file, "not a JSON object")),
    }
}

pub(crate) fn malformed(file: &Path, reason: impl ToString) -> TextError {
    TextError::Malformed { file: file.into(), reason: reason.to_string() }
}

/// An error about one key of `file`.
pub(crate) fn bad_key(file: &Path, key: impl ToString, reason: impl ToString) -> TextError {
    TextError::Key { file: file.into(), key: key.to_string(), reason: reason.to_string() }
}
