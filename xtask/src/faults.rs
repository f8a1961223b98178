//! `cargo xtask faults`: plants one fault after the other in a copy of the sources and shows that parity, or the tests
//! that the fault names, turn red for each.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwen3_command::Temporary;
use qwen3_report::{ParityReport, Status};
use qwen3_trace::Backend;
use serde::Deserialize;

use crate::backend::Backends;
use crate::workspace::{Workspace, copy_all, root};
use crate::{libtorch, runner};
use qwen3_command::child;

/// The end of `cargo xtask faults --help`.
pub const NOTES: &str = "\
Builds the runner, or the tests that a fault names, once for every fault in xtask/faults.json: a minute each. An edit
whose text is no longer in the sources, or which does not compile, is an error. Exit code 1 when a fault goes
unnoticed.";

/// Arguments of `cargo xtask faults`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the faults with this text in their id.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    id: String,
    file: String,
    /// Texts to find, each exactly once, and what to put in their place.
    edits: Vec<(String, String)>,
    /// The words of `cargo test` for tests that have to turn red, where it is none of parity's to see.
    #[serde(default)]
    test: Vec<String>,
}

/// What became of a fault.
enum Notice {
    /// So many results are not a pass, and this is the first.
    Noticed(usize, String),
    Unnoticed,
    DoesNotCompile,
}

/// Plants, builds, runs and tells.
pub fn run(args: &Args) -> Result<u8> {
    let faults: Vec<Fault> = serde_json::from_str(include_str!("../faults.json"))?;
    let copy = Temporary::new()?;
    // A target directory of its own: cargo tells workspaces apart by relative paths only, and a faulty
    // crate must never be taken for the sound one.
    let there = Workspace { root: copy.path().into(), target: Workspace::find()?.target.join("faults") };
    fs::create_dir_all(&there.target)?;
    for name in ["Cargo.toml", "Cargo.lock", "docs", "crates", "xtask"] {
        copy_all(&root().join(name), &there.root.join(name))?;
    }
    let backends = Backends::from([Backend::Ndarray, Backend::Flex]);
    let libtorch = libtorch::find(&root())?.map(|libtorch| libtorch.folder);
    let json = copy.path().join("report.json");
    println!("{:<28} {:>7}  first to differ", "fault", "failing");
    let (mut unnoticed, mut broken) = (0, Vec::new());
    let wanted = |fault: &&Fault| args.filter.as_deref().is_none_or(|text| fault.id.contains(text));
    for fault in faults.iter().filter(wanted) {
        let file = there.root.join(&fault.file);
        let sound = fs::read_to_string(&file)?;
        fs::write(&file, plant(fault, &sound)?)?;
        let outcome = if fault.test.is_empty() {
            by_parity(&there, &backends, libtorch.as_deref(), &json)
        } else {
            by_tests(&there, &fault.test)
        };
        fs::write(&file, sound)?;
        match outcome? {
            Notice::Noticed(failing, first) => println!("{:<28} {failing:>7}  {first}", fault.id),
            Notice::Unnoticed => {
                println!("{:<28} {:>7}", fault.id, 0);
                unnoticed += 1;
            }
            Notice::DoesNotCompile => {
                println!("{:<28} {:>7}  does not compile", fault.id, "-");
                broken.push(&fault.id[..]);
            }
        }
    }
    ensure!(broken.is_empty(), "these faults do not compile: {}", broken.join(", "));
    println!("{unnoticed} faults unnoticed");
    Ok(u8::from(unnoticed > 0))
}

/// Builds the runner and runs every case.
fn by_parity(there: &Workspace, backends: &Backends, libtorch: Option<&Path>, json: &Path) -> Result<Notice> {
    let Ok(runner) = runner::build(there, backends, &[], libtorch) else {
        return Ok(Notice::DoesNotCompile);
    };
    let mut parity = Command::new(&runner);
    parity.args(["parity", "--backend", "ndarray,flex", "--manifest"]).arg(root().join("manifest.json"));
    let output = child::output(parity.arg("--json").arg(json).stderr(Stdio::null()));
    let output = output.context("the runner cannot be started")?;
    let report: ParityReport = serde_json::from_str(&fs::read_to_string(json)?)?;
    let (failing, first) = verdict(&report);
    let noticed = output.status.code() == Some(1) && failing > 0;
    Ok(if noticed { Notice::Noticed(failing, first) } else { Notice::Unnoticed })
}

/// Builds the tests that `words` of `cargo test` name, and runs them on the sound fixtures.
fn by_tests(there: &Workspace, words: &[String]) -> Result<Notice> {
    let cargo = |more: &[&str]| {
        let mut cargo = there.cargo(None);
        cargo.args(["test", "--release", "--no-fail-fast"]).args(words).args(more);
        cargo.env("QWEN3_FIXTURES", root()).stdin(Stdio::null());
        child::output(&mut cargo).context("cargo cannot be started")
    };
    if !cargo(&["--no-run"])?.status.success() {
        return Ok(Notice::DoesNotCompile);
    }
    let output = cargo(&[])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let failed: Vec<_> = failed.collect();
    Ok(match failed.first() {
        Some(first) => Notice::Noticed(failed.len(), (*first).into()),
        None if output.status.success() => Notice::Unnoticed,
        None => Notice::Noticed(1, "(crash)".into()),
    })
}

/// The source with the fault in it.
fn plant(fault: &Fault, sound: &str) -> Result<String> {
    let mut source = sound.to_string();
    for (find, replace) in &fault.edits {
        let found = source.matches(find.as_str()).count();
        ensure!(found == 1, "{}: `{find}` occurs {found} times in {}", fault.id, fault.file);
        source = source.replace(find, replace);
    }
    Ok(source)
}

/// How many results are not a pass, and the first tensor that differs.
fn verdict(report: &ParityReport) -> (usize, String) {
    let failing = || report.results.iter().filter(|result| result.status != Status::Pass);
    let first = failing().next().map_or(String::new(), |result| {
        let tensor = result.tensors.iter().find(|tensor| !tensor.pass);
        let tensor = tensor.map_or("(crash)", |tensor| &tensor.name);
        format!("{} {} {tensor}", result.label(), result.case)
    });
    (failing().count(), first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every planted fault still fits the sources: its text is there, once.
    #[test]
    fn every_fault_can_be_planted() {
        let faults: Vec<Fault> = serde_json::from_str(include_str!("../faults.json")).unwrap();
        for fault in &faults {
            let sound = fs::read_to_string(root().join(&fault.file)).unwrap();
            assert_ne!(plant(fault, &sound).unwrap(), sound, "{}", fault.id);
        }
    }
}
