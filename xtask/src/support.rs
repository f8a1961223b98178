//! `cargo xtask support`: writes the README's support table from a parity report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace;

const BEGIN: &str = "<!-- support table: `cargo xtask support REPORT.json` -->";
const END: &str = "<!-- end of support table -->";
const DTYPES: [&str; 3] = ["f32", "f16", "bf16"];

/// Arguments of `cargo xtask support`.
#[derive(clap::Args)]
pub struct Args {
    /// A report that `cargo xtask parity --backend all --json` wrote.
    report: PathBuf,
}

/// Replaces the table in README.md.
pub fn run(args: &Args) -> Result<u8> {
    let file = &args.report;
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let report = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let table = table(&report).with_context(|| format!("{}", file.display()))?;
    let readme = workspace::root().join("README.md");
    let text = fs::read_to_string(&readme).with_context(|| format!("{}", readme.display()))?;
    let text = replace(&text, &table).with_context(|| format!("{}", readme.display()))?;
    fs::write(&readme, text).with_context(|| format!("{}", readme.display()))?;
    print!("{table}");
    Ok(0)
}

/// One row per backend, one column per dtype: cases passed of cases run.
fn table(report: &Value) -> Result<String> {
    let results = report["results"].as_array().context("no `results`")?;
    let mut backends: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for result in results {
        let field = |name: &str| {
            result[name]
                .as_str()
                .with_context(|| format!("no `{name}`"))
        };
        let (backend, dtype, status) = (field("backend")?, field("dtype")?, field("status")?);
        if !backends.contains(&backend) {
            backends.push(backend);
        }
        if status != "unavailable" {
            let count = counts.entry((backend, dtype)).or_default();
            count.0 += usize::from(status == "pass");
            count.1 += 1;
        }
    }
    let mut table = format!("| backend | {} |\n|---|---|---|---|\n", DTYPES.join(" | "));
    for backend in backends {
        let cells = DTYPES.map(|dtype| match counts.get(&(backend, dtype)) {
            Some((passed, run)) => format!("{passed} of {run} pass"),
            None => "-".into(),
        });
        table += &format!("| {backend} | {} |\n", cells.join(" | "));
    }
    Ok(table)
}

fn replace(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("no mark before the table")?;
    let (_, after) = rest.split_once(END).context("no mark after the table")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_backend_and_dtype_and_replaces_only_the_table() {
        let result = |backend: &str, dtype: &str, status: &str| serde_json::json!({"backend": backend, "dtype": dtype, "status": status});
        let report = serde_json::json!({"results": [
            result("ndarray", "f32", "pass"), result("ndarray", "f32", "fail"),
            result("ndarray", "bf16", "unavailable"), result("flex", "f16", "crash"),
        ]});
        let table = table(&report).unwrap();
        let rows = table.lines().skip(2).collect::<Vec<_>>();
        assert_eq!(
            rows,
            [
                "| ndarray | 1 of 2 pass | - | - |",
                "| flex | - | 0 of 1 pass | - |"
            ]
        );
        let readme = format!("before {BEGIN}\nold\n{END} after");
        let expected = format!("before {BEGIN}\n{table}{END} after");
        assert_eq!(replace(&readme, &table).unwrap(), expected);
        assert!(replace("no marks", &table).is_err());
    }
}
