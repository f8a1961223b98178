//! The files that a report is written to.

use std::io::stdout;
use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::{OutputFile, VerifyArgs, unless_closed};
use qwen3_report::text::{Look, write_verify};
use qwen3_report::{VerifyReport, html, junit};

/// Files that were found to be writable before the work.
pub struct Outputs {
    json: Option<OutputFile>,
    junit: Option<OutputFile>,
    html: Option<OutputFile>,
}

impl Outputs {
    /// Those that the arguments name, which must not be what is read.
    ///
    /// # Errors
    /// When one cannot be written to, is an input, or is named twice.
    pub fn prepare(args: &VerifyArgs) -> Result<Self> {
        let VerifyArgs { model, adapter, reference, observed, json, junit, html, .. } = args;
        let folders = [Some(model), adapter.as_ref()].into_iter().flatten();
        let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let files = files.map(|file| file.path());
        let given = [reference, observed].into_iter().flatten().chain([model]).cloned();
        let inputs: Vec<PathBuf> = given.chain(files).collect();
        let prepare = |flag, file: &Option<PathBuf>| {
            let inputs = inputs.iter().map(PathBuf::as_path);
            file.as_ref().map(|file| OutputFile::prepare(flag, file, inputs)).transpose()
        };
        let [json, junit, html] =
            [prepare("--json", json)?, prepare("--junit", junit)?, prepare("--html", html)?];
        OutputFile::check_distinct(&[&json, &junit, &html].into_iter().flatten().collect::<Vec<_>>())?;
        Ok(Self { json, junit, html })
    }

    /// Writes the report to the files and, as text, to standard output; `fail_only` the rows that fail alone.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(self, report: &VerifyReport, fail_only: bool) -> Result<()> {
        if let Some(file) = self.json {
            file.write(&report.to_json())?;
        }
        if let Some(file) = self.junit {
            file.write(&junit::verify(report))?;
        }
        if let Some(file) = self.html {
            file.write(&html::render(report))?;
        }
        // Whoever does not read to the end still gets the reports and the verdict.
        let look = Look { fail_only, ..Look::of_stdout() };
        unless_closed(write_verify(report, &mut stdout().lock(), look))
    }
}
