//! `cargo xtask support`: writes the support table of docs/backends.md from a parity report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use qwen3_report::{ParityReport, Status, markdown};
use qwen3_trace::{Backend, Precision};

use crate::workspace;

const BEGIN: &str = "<!-- support table: `cargo xtask support REPORT.json` -->";
const END: &str = "<!-- end of support table -->";

/// Arguments of `cargo xtask support`.
#[derive(clap::Args)]
pub struct Args {
    /// A report that `cargo xtask parity --backend all --json` wrote.
    report: PathBuf,
}

/// Replaces the table in docs/backends.md.
pub fn run(args: &Args) -> Result<u8> {
    let file = &args.report;
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let report = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let table = table(&report);
    let page = workspace::root().join("docs/backends.md");
    let text = fs::read_to_string(&page).with_context(|| format!("{}", page.display()))?;
    let text = replace(&text, &table).with_context(|| format!("{}", page.display()))?;
    fs::write(&page, text).with_context(|| format!("{}", page.display()))?;
    print!("{table}");
    Ok(0)
}

/// One row per backend as it is usually run, one column per dtype: cases passed of cases run.
fn table(report: &ParityReport) -> String {
    let mut backends: Vec<Backend> = Vec::new();
    let mut counts: BTreeMap<(Backend, Precision), (usize, usize)> = BTreeMap::new();
    for result in report.results.iter().filter(|result| result.variant.is_none()) {
        if !backends.contains(&result.backend) {
            backends.push(result.backend);
        }
        if result.status != Status::Unavailable {
            let count = counts.entry((result.backend, result.dtype)).or_default();
            count.0 += usize::from(result.status == Status::Pass);
            count.1 += 1;
        }
    }
    let dtypes = Precision::ALL.map(Precision::name).join(" | ");
    let mut table = format!("| backend | {dtypes} |\n|---|---|---|---|\n");
    for backend in backends {
        let cells = Precision::ALL.map(|dtype| match counts.get(&(backend, dtype)) {
            Some((passed, run)) => format!("{passed} of {run} pass"),
            None => "-".into(),
        });
        table += &format!("| {backend} | {} |\n", cells.join(" | "));
    }
    table
}

fn replace(text: &str, table: &str) -> Result<String> {
    markdown::between(text, [BEGIN, END], table).context("no marks around the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_backend_and_dtype_and_replaces_only_the_table() {
        let result = |backend: &str, dtype: &str, status: &str| {
            serde_json::json!({"case": "c", "kind": "mlp", "backend": backend, "dtype": dtype,
                "status": status, "elapsed_ms": 1.0})
        };
        let report = serde_json::json!({"schema": 1, "burn": "0.22.1", "results": [
            result("ndarray", "f32", "pass"), result("ndarray", "f32", "fail"),
            result("ndarray", "bf16", "unavailable"), result("flex", "f16", "crash"),
        ]});
        let table = table(&serde_json::from_value(report).unwrap());
        let rows = table.lines().skip(2).collect::<Vec<_>>();
        assert_eq!(rows, ["| ndarray | 1 of 2 pass | - | - |", "| flex | - | 0 of 1 pass | - |"]);
        let page = format!("before {BEGIN}\nold\n{END} after");
        let expected = format!("before {BEGIN}\n{table}{END} after");
        assert_eq!(replace(&page, &table).unwrap(), expected);
        assert!(replace("no marks", &table).is_err());
    }
}
