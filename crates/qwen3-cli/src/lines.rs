//! Texts on the command line, or one on each line of a file.

use std::path::Path;

use anyhow::{Context, Result};

use crate::failure::{Blame, bad_input};

/// The texts that were `given`, or the lines of `file`; an empty line is an empty text.
///
/// # Errors
/// When the file cannot be read, is not UTF-8 or is empty.
pub fn texts(given: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let Some(file) = file else {
        return Ok(given.to_vec());
    };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string()).bad_input()?;
    if text.is_empty() {
        return Err(bad_input(format!("{}: is empty; a text is expected on each line", file.display())));
    }
    Ok(text.lines().map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines.txt");
        let lines = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            texts(&[], Some(&file))
        };
        assert_eq!(lines(b"a b\r\n\nc\n").unwrap(), ["a b", "", "c"]);
        assert_eq!(lines(b"a\nb").unwrap(), ["a", "b"]);
        assert!(lines(b"").is_err() && lines(b"\xff\n").is_err());
        assert_eq!(texts(&["a\nb".into()], None).unwrap(), ["a\nb"]);
    }
}
