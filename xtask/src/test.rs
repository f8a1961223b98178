//! `cargo xtask test`: everything that has to hold before a change lands.

mod bench;
mod counts;
mod sanitizer;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use qwen3_command::Temporary;
use qwen3_trace::Backend;

use self::counts::Counts;
use crate::backend::{self, Backends};
use crate::runner::Plan;
use crate::workspace::{Workspace, env_path};
use crate::{fuzz, libtorch, parity, setup};
use qwen3_command::child;

/// The end of `cargo xtask test --help`.
pub const NOTES: &str = "\
Steps: set-up, fmt, clippy, build, test, the tests of the CPU kernels under the address sanitizer where a nightly
toolchain is installed, parity on ndarray, flex, wgpu and tch, a small benchmark of all four, two minutes of fuzz. A
failed step does not stop the others, but without a build there is none of the later ones.

The last line is `N passed, N failed`: the tests of cargo test, the cases of parity, the rows of the benchmark, the
formats of fuzz, and one failure for each step that failed without a count of its own. A backend that is unavailable
counts as failed, and so does a format with findings.";

/// What one step came to: its counts, or why there are none.
type Outcome = Result<Counts>;

/// Runs every step; returns 0 only if all of them passed.
pub fn run() -> Result<u8> {
    let workspace = Workspace::find()?;
    let mut report = Report::default();

    report.step("set-up", || succeeded(setup::run(&setup::Args::both())?));
    let libtorch = libtorch::find(&workspace.root).ok().flatten().map(|libtorch| libtorch.folder);
    let asked = Backends::from(Backend::ALL);
    let plan = Plan::new(&workspace, &asked, libtorch.as_deref());
    let features = Features::of(&plan.backends);
    let cargo = |words: &[&str]| {
        let mut cargo = workspace.cargo(plan.libtorch.as_deref());
        cargo.args(words);
        cargo
    };

    report.step("fmt", || status(&mut cargo(&["fmt", "--all", "--check"])));
    report.step("clippy", || {
        let mut clippy = cargo(&["clippy", "--workspace", "--all-targets", "--release"]);
        status(clippy.args(features.words()).args(["--", "-D", "warnings"]))
    });
    let test = || {
        let mut test = cargo(&["test", "--workspace", "--release", "--no-fail-fast"]);
        test.args(features.words());
        if let Some(libtorch) = &plan.libtorch {
            // The runner has an rpath; the test programs of the other crates have none.
            test.env(LIBRARY_PATH, library_path(&libtorch.join("lib")));
        }
        test
    };
    let build = || {
        plan.announce();
        let built = status(test().arg("--no-run"))?;
        plan.remember().map(|()| built)
    };
    if report.step("build", build) {
        report.step("test", || count_tests(&mut test()));
        report.step("sanitizer", || match sanitizer::tests(&workspace) {
            Some(mut tests) => count_tests(&mut tests),
            None => {
                println!("left out: no nightly toolchain (rustup toolchain install nightly)");
                Ok(Counts::default())
            }
        });
        report.step("parity", parity);
        report.step("bench", bench::bench);
        report.step("fuzz", fuzz);
    } else {
        println!("\n== test, sanitizer, parity, bench and fuzz: skipped, for the build failed");
    }
    Ok(report.end())
}

/// The features of one build that every step shares, so that nothing is compiled twice.
pub struct Features(String);

impl Features {
    /// Those of the runner, as parity builds it.
    fn of_runner(backends: &Backends) -> Self {
        let runner = backend::features(backends, &backend::switches(&[], &[]));
        let runner = runner.iter().map(|name| format!("fixture-runner/{name}"));
        Self(runner.collect::<Vec<_>>().join(","))
    }

    /// Those of the whole workspace with these backends.
    pub fn of(backends: &Backends) -> Self {
        let Self(runner) = Self::of_runner(backends);
        let of = |package: &str, backend: &Backend| format!("{package}/{}", backend.name());
        let command = backends.iter().map(|backend| of("qwen3-cli", backend));
        // The examples of qwen3-text and qwen3-trace-burn run on flex.
        let text = (backends | &Backends::from([Backend::Flex])).into_iter();
        let text = text.map(|backend| of("qwen3-text", &backend)).chain(["qwen3-text/hub".into()]);
        let written = std::iter::once(of("qwen3-trace-burn", &Backend::Flex));
        Self(std::iter::once(runner).chain(command).chain(text).chain(written).collect::<Vec<_>>().join(","))
    }

    /// Without the default features, as parity builds the runner.
    pub fn words(&self) -> [&str; 3] {
        ["--no-default-features", "--features", &self.0]
    }
}

#[derive(Default)]
struct Report {
    counts: Counts,
    lines: Vec<String>,
}

impl Report {
    /// Runs one step and says what came of it and how long it took; whether it passed.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Outcome) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let (counts, problem) = match work() {
            Ok(counts) => (counts, None),
            Err(error) => (Counts { passed: 0, failed: 1 }, Some(format!(": {error:#}"))),
        };
        self.counts.add(counts);
        let passed = counts.failed == 0;
        let word = if passed { "passed" } else { "FAILED" };
        let line = format!(
            "{name}: {word} in {:.1} s{}",
            start.elapsed().as_secs_f64(),
            problem.unwrap_or_default()
        );
        println!("== {line}");
        self.lines.push(line);
        passed
    }

    fn end(&self) -> u8 {
        println!();
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        u8::from(self.counts.failed > 0)
    }
}

fn succeeded(code: u8) -> Outcome {
    anyhow::ensure!(code == 0, "exit code {code}");
    Ok(Counts::default())
}

fn status(command: &mut Command) -> Outcome {
    let status = child::status(command).context("cargo cannot be started")?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(Counts::default())
}

/// Runs `cargo test`, passes its output on, and adds up what each test program says of itself.
fn count_tests(command: &mut Command) -> Outcome {
    let mut running = child::spawn(command.stdout(Stdio::piped())).context("cargo cannot be started")?;
    let output = running.child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add(Counts::of_test_line(&line).unwrap_or_default());
    }
    Ok(counts.with_exit(running.child.wait()?.success()))
}

fn parity() -> Outcome {
    let folder = Temporary::new()?;
    let json = folder.path().join("report.json");
    let code = parity::run(&parity::Args::every_case(json.clone()))?;
    let report = std::fs::read_to_string(&json).with_context(|| format!("no report; exit code {code}"))?;
    Ok(Counts::of_report(&report)?.with_exit(code == 0))
}

fn fuzz() -> Outcome {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let code = fuzz::run(&fuzz::Args::minutes(2.0, json.clone()))?;
    let report = std::fs::read_to_string(&json).with_context(|| format!("no report; exit code {code}"))?;
    Ok(Counts::of_fuzz(&report)?.with_exit(code == 0))
}

const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

fn library_path(first: &Path) -> std::ffi::OsString {
    let before = env_path(LIBRARY_PATH).unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(first)).chain(std::env::split_paths(&before));
    std::env::join_paths(folders.filter(|folder| !folder.as_os_str().is_empty()))
        .unwrap_or_else(|_| first.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_step_that_fails_counts_and_is_told() {
        let mut report = Report::default();
        assert!(report.step("first", || Ok(Counts { passed: 2, failed: 0 })));
        assert!(!report.step("second", || anyhow::bail!("no")));
        assert_eq!((report.counts, report.end()), (Counts { passed: 2, failed: 1 }, 1));
        assert!(report.lines[1].starts_with("second: FAILED") && report.lines[1].ends_with(": no"));
    }

    #[test]
    fn the_features_are_the_runners_and_the_commands() {
        let features = Features::of(&Backends::from([Backend::Wgpu, Backend::Tch]));
        assert_eq!(
            features.0,
            "fixture-runner/wgpu,fixture-runner/tch,fixture-runner/fusion,qwen3-cli/wgpu,qwen3-cli/tch,\
             qwen3-text/flex,qwen3-text/wgpu,qwen3-text/tch,qwen3-text/hub,qwen3-trace-burn/flex"
        );
    }

    /// What `cargo tree` says of the packages and features of a build.
    fn tree(selection: &[&str], features: &Features) -> BTreeSet<String> {
        let mut cargo = Workspace::find().unwrap().cargo(None);
        cargo.args(["tree", "--offline", "--prefix", "none", "--format", "{p} with {f}"]);
        let output = cargo.args(selection).args(features.words()).output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().map(|line| line.trim_end_matches(" (*)"));
        lines.filter(|line| !line.is_empty()).map(String::from).collect()
    }

    /// The runner alone has no crate with other features than the whole workspace has, so that parity
    /// after the tests, or before, compiles nothing again.
    #[test]
    fn the_runner_shares_every_crate_with_the_workspace() {
        let all = Backends::from(Backend::ALL);
        let runner = ["--package", "fixture-runner", "--edges", "normal,build"];
        let runner = tree(&runner, &Features::of_runner(&all));
        let workspace = ["--workspace", "--edges", "normal,build,dev"];
        let workspace = tree(&workspace, &Features::of(&all));
        assert!(runner.len() > 100);
        let other = runner.difference(&workspace).collect::<Vec<_>>();
        assert!(
            other.is_empty(),
            "give the runner these crates with the features that the workspace gives them: {other:#?}"
        );
    }

    /// Whoever depends on the verifying half, or runs xtask, compiles no Burn.
    #[test]
    fn the_verifying_half_is_without_burn() {
        let mut cargo = Workspace::find().unwrap().cargo(None);
        cargo.args(["tree", "--offline", "--prefix", "none", "--edges", "normal"]);
        for package in
            ["qwen3-checkpoint", "qwen3-trace", "qwen3-blame", "qwen3-report", "qwen3-verify", "xtask"]
        {
            cargo.args(["--package", package]);
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        assert!(tree.contains("qwen3-report") && tree.contains("serde"));
        let burn = |line: &&str| line.starts_with("burn") || line.starts_with("cubecl");
        assert_eq!(tree.lines().find(burn), None);
    }

    #[test]
    fn libtorch_comes_first_on_the_library_path() {
        let path = library_path(Path::new("/cache/libtorch/lib"));
        assert_eq!(std::env::split_paths(&path).next(), Some("/cache/libtorch/lib".into()));
    }
}
