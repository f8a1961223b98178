//! The benchmark on a small model: does it measure everything that it is asked for?

use std::path::Path;

use anyhow::{Result, ensure};
use qwen3_command::Temporary;
use qwen3_report::bench::Phase;
use qwen3_report::{AnyReport, BenchReport, diff};
use qwen3_trace::{Backend, Precision};

use super::counts::Counts;
use crate::bench;

/// Every backend, and every phase of each: a row that is missing, or wrong, has failed.
pub fn bench() -> Result<Counts> {
    let folder = Temporary::new()?;
    let [json, html] = ["bench.json", "bench.html"].map(|name| folder.path().join(name));
    let code = bench::run(&bench::Args::small(json.clone(), html.clone()))?;
    let AnyReport::Bench(report) = AnyReport::read(&json)? else {
        anyhow::bail!("bench wrote a report of another command");
    };
    let counts = counts(&report).with_exit(code == 0);
    let same = diff::compare_files(&json, &json)?;
    ensure!(same.exit_code() == 0, "a benchmark is worse than itself: {same}");
    ensure!(is_page(&html)?, "{} is no page", html.display());
    Ok(counts)
}

fn is_page(file: &Path) -> Result<bool> {
    let page = std::fs::read_to_string(file)?;
    Ok(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"))
}

fn counts(report: &BenchReport) -> Counts {
    let mut counts = Counts::default();
    for backend in Backend::ALL {
        for phase in Phase::ALL {
            let good = report.rows.iter().any(|row| {
                let figures = &row.figures;
                let told =
                    figures.accuracy.is_some_and(|accuracy| accuracy.cases > 0 && accuracy.failed == 0);
                let limited = figures.tok_per_s.is_none() || figures.limit_tok_per_s.is_some();
                let here = row.backend == backend.name() && figures.dtype == Precision::F32;
                here && figures.workload.phase == phase && told && limited
            });
            if !good {
                println!("no good row of {backend} f32 {phase}");
            }
            counts.add(Counts { passed: good.into(), failed: (!good).into() });
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_failed() {
        let found = counts(&BenchReport::default());
        assert_eq!(found, Counts { passed: 0, failed: 16 });
    }
}
