//! Reports read from files.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::bench::Impossible;
use crate::{BenchReport, ParityReport, SCHEMA, VerifyReport};

/// A report of any of the commands that write one.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyReport {
    /// Of `verify`.
    Verify(VerifyReport),
    /// Of `parity`.
    Parity(ParityReport),
    /// Of `bench`.
    Bench(BenchReport),
}

/// Which command writes a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportKind {
    /// `verify`.
    #[default]
    Verify,
    /// `parity`.
    Parity,
    /// `bench`.
    Bench,
}

impl ReportKind {
    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Parity => "parity",
            Self::Bench => "bench",
        }
    }

    /// One of what its reports list: `run`, `case`, `row`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Verify => "run",
            Self::Parity => "case",
            Self::Bench => "row",
        }
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Opening a pipe would wait for somebody who writes to it.
    #[error("{file}: not a regular file")]
    NotAFile {
        /// The file.
        file: String,
    },
    /// It is no JSON, or a field is missing or of another type.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: String,
        /// Which field, and where.
        #[source]
        source: serde_json::Error,
    },
    /// It is JSON of something else.
    #[error("{file} is no report: {lacks}")]
    NoReport {
        /// The file.
        file: String,
        /// What it would need.
        lacks: &'static str,
    },
    /// It is a report of another version.
    #[error("{file} has schema {found}, not {SCHEMA}")]
    Schema {
        /// The file.
        file: String,
        /// Its version.
        found: u64,
    },
    /// It has a figure that no measurement can give.
    #[error("{file}: {source}")]
    Impossible {
        /// The file.
        file: String,
        /// Which, and where.
        #[source]
        source: Box<Impossible>,
    },
}

/// What tells the kinds of reports apart.
#[derive(Deserialize)]
struct Head {
    schema: Option<u64>,
    runs: Option<IgnoredAny>,
    results: Option<IgnoredAny>,
    rows: Option<IgnoredAny>,
}

impl AnyReport {
    /// Reads a report from a file.
    ///
    /// # Errors
    /// When it cannot be read, is no report of schema 1, or has a figure that cannot be.
    pub fn read(file: &Path) -> Result<Self, ReadError> {
        let name = file.display().to_string();
        let io = |source| ReadError::Io { file: name.clone(), source };
        if !fs::metadata(file).map_err(io)?.is_file() {
            return Err(ReadError::NotAFile { file: name });
        }
        Self::from_json(&fs::read_to_string(file).map_err(io)?, &name)
    }

    /// Reads a report from its JSON text; `file` names it in errors.
    ///
    /// # Errors
    /// When it is no report of schema 1, or has a figure that cannot be.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ReadError> {
        let json = |source| ReadError::Json { file: file.into(), source };
        let lacks = |lacks| ReadError::NoReport { file: file.into(), lacks };
        if !text.trim_start().starts_with('{') {
            serde_json::from_str::<IgnoredAny>(text).map_err(json)?;
            return Err(lacks("it is no object"));
        }
        let head: Head = serde_json::from_str(text).map_err(json)?;
        let found = head.schema.ok_or_else(|| lacks("it has no `schema`"))?;
        if found != u64::from(SCHEMA) {
            return Err(ReadError::Schema { file: file.into(), found });
        }
        match (head.runs, head.results, head.rows) {
            (Some(_), None, None) => Ok(Self::Verify(serde_json::from_str(text).map_err(json)?)),
            (None, Some(_), None) => Ok(Self::Parity(serde_json::from_str(text).map_err(json)?)),
            (None, None, Some(_)) => {
                let report: BenchReport = serde_json::from_str(text).map_err(json)?;
                let impossible =
                    |source| ReadError::Impossible { file: file.into(), source: Box::new(source) };
                report.check().map_err(impossible)?;
                Ok(Self::Bench(report))
            }
            _ => Err(lacks("it needs one of `runs`, `results` and `rows`")),
        }
    }

    /// Which command writes it.
    pub fn kind(&self) -> ReportKind {
        match self {
            Self::Verify(_) => ReportKind::Verify,
            Self::Parity(_) => ReportKind::Parity,
            Self::Bench(_) => ReportKind::Bench,
        }
    }
}
