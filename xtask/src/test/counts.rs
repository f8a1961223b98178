//! Counting tests and cases from what `cargo test` prints and the fixture runner and qwen3-fuzz report.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use qwen3_report::{ParityReport, Status};
use serde::Deserialize;

/// Tests and cases, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: u64,
    /// All others that ran or should have run.
    pub failed: u64,
}

/// What is counted of a report of qwen3-fuzz.
#[derive(Deserialize)]
struct FuzzReport {
    classes: BTreeMap<String, FuzzClass>,
}

#[derive(Deserialize)]
struct FuzzClass {
    tried: u64,
    findings: u64,
}

impl Counts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// One line of cargo test's output: `test result: FAILED. 3 passed; 1 failed; 0 ignored; ...`
    pub fn of_test_line(line: &str) -> Option<Self> {
        let (_, fields) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let number = |word: &str| {
            let mut fields = fields.split("; ");
            let number = fields.find_map(|field| field.strip_suffix(word))?;
            number.trim().parse().ok()
        };
        Some(Self { passed: number("passed")?, failed: number("failed")? })
    }

    /// The results of the runner's JSON report: those that pass, and all others.
    ///
    /// Errors when there are none.
    pub fn of_report(report: &str) -> Result<Self> {
        let report: ParityReport = serde_json::from_str(report).context("no parity report")?;
        ensure!(!report.results.is_empty(), "the report has no results");
        let passed = report.count(Status::Pass);
        Ok(Self { passed: passed as u64, failed: (report.results.len() - passed) as u64 })
    }

    /// The formats of a JSON report of qwen3-fuzz: those without findings, and all others.
    ///
    /// Errors when there are none.
    pub fn of_fuzz(report: &str) -> Result<Self> {
        let report: FuzzReport = serde_json::from_str(report).context("no fuzz report")?;
        ensure!(!report.classes.is_empty(), "the report has no formats");
        let sound = report.classes.values().filter(|class| class.tried > 0 && class.findings == 0).count();
        Ok(Self { passed: sound as u64, failed: (report.classes.len() - sound) as u64 })
    }

    /// A program that ended badly without a failure that it could count is itself one.
    pub fn with_exit(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Counts {
        Counts { passed, failed }
    }

    #[test]
    fn cargo_tests_lines_are_counted() {
        let of = Counts::of_test_line;
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out";
        assert_eq!(of(line), Some(counts(12, 1)));
        assert_eq!(of("test result: ok. 7 passed; 0 failed; 0 ignored"), Some(counts(7, 0)));
        assert_eq!(of("test a_test ... ok"), None);
        assert_eq!(of("test result: "), None);
    }

    #[test]
    fn whatever_is_not_a_pass_is_a_failure() {
        let result = |status: &str| {
            format!(
                r#"{{"case": "c", "kind": "mlp", "backend": "flex", "dtype": "f32", "elapsed_ms": 1.0,
                "status": "{status}"}}"#
            )
        };
        let results = ["pass", "unavailable", "crash", "fail"].map(result).join(",");
        let report = format!(r#"{{"schema": 1, "burn": "0.22.1", "results": [{results}]}}"#);
        assert_eq!(Counts::of_report(&report).unwrap(), counts(1, 3));
        for nothing in [r#"{"schema": 1, "burn": "", "results": []}"#, "{}", ""] {
            assert!(Counts::of_report(nothing).is_err(), "{nothing:?}");
        }
    }

    #[test]
    fn a_format_with_findings_fails() {
        let report = r#"{"classes": {"npz": {"tried": 9, "findings": 0}, "index": {"tried": 9, "findings": 2},
            "flags": {"tried": 0, "findings": 0}}, "findings": []}"#;
        assert_eq!(Counts::of_fuzz(report).unwrap(), counts(1, 2));
        assert!(Counts::of_fuzz(r#"{"classes": {}}"#).is_err());
    }

    #[test]
    fn a_bad_exit_is_never_zero_failures() {
        assert_eq!(counts(3, 0).with_exit(false), counts(3, 1));
        assert_eq!(counts(3, 2).with_exit(false), counts(3, 2));
        assert_eq!(counts(3, 0).with_exit(true), counts(3, 0));
    }
}
