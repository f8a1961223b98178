//! Runs each backend in a process of its own and survives its crash.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use qwen3_report::{CaseResult, Status};
use qwen3_trace::{Backend, Kernels, Precision};

pub use self::worker::Worker;
use crate::backend::switches;
use crate::manifest::Case;

mod worker;

/// Who computes cases: one backend, in one way.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The backend.
    pub backend: Backend,
    /// Whether it has this project's kernels.
    pub kernels: Kernels,
    /// Only this dtype of those asked for: the others are run elsewhere.
    pub share: Option<Precision>,
}

impl Part {
    /// Those of `dtypes` that are its own.
    fn own(&self, dtypes: &[Precision]) -> Vec<Precision> {
        let own = |dtype: &Precision| self.share.is_none_or(|share| share == *dtype);
        dtypes.iter().copied().filter(own).collect()
    }
}

/// Runs `cases` as `part` says in workers of `program`, in `dtypes` or in all that the backend computes in
/// when there are none, and hands every result to `report` as it comes.
///
/// # Errors
/// When a fixture is bad or the worker cannot be started.
pub fn run_part(
    program: &Path,
    part: Part,
    manifest: &Path,
    cases: &[&Case],
    dtypes: &[Precision],
    report: &mut dyn FnMut(CaseResult) -> Result<()>,
) -> Result<()> {
    let Part { backend, kernels, .. } = part;
    let start = || Worker::start(program, backend, kernels, Some(manifest));
    let (mut worker, ready) = start()?;
    let supported = match ready {
        Ok(supported) => supported,
        Err(reason) => return unavailable(part, cases, dtypes, &reason, report),
    };
    let wanted = if dtypes.is_empty() { &supported } else { dtypes };
    for dtype in part.own(wanted) {
        if !supported.contains(&dtype) {
            let reason = format!("{backend} does not compute in {dtype} on this machine");
            unavailable(part, cases, &[dtype], &reason, report)?;
            continue;
        }
        for case in cases {
            if !case.is_judged_in(dtype) {
                // There is nothing to compare with.
                continue;
            }
            let begun = Instant::now();
            let result = match worker.case(case, dtype)? {
                Ok(result) => CaseResult { variant: kernels.variant(), ..result },
                Err(crash) => {
                    worker = start()?.0;
                    CaseResult {
                        elapsed_ms: begun.elapsed().as_secs_f64() * 1e3,
                        ..empty(part, case, dtype, Status::Crash, crash)
                    }
                }
            };
            report(expect(case, result))?;
        }
    }
    Ok(())
}

/// Reports `cases` as unavailable to `part` in its own of `dtypes`; in f32 when there are none.
///
/// # Errors
/// Those of `report`.
pub fn unavailable(
    part: Part,
    cases: &[&Case],
    dtypes: &[Precision],
    reason: &str,
    report: &mut dyn FnMut(CaseResult) -> Result<()>,
) -> Result<()> {
    let dtypes = if dtypes.is_empty() { &[Precision::F32] } else { dtypes };
    for dtype in part.own(dtypes) {
        for case in cases {
            let status = Status::Unavailable;
            report(empty(part, case, dtype, status, reason.into()))?;
        }
    }
    Ok(())
}

fn empty(part: Part, case: &Case, dtype: Precision, status: Status, reason: String) -> CaseResult {
    let Part { backend, kernels, .. } = part;
    CaseResult {
        case: case.id.clone(),
        kind: case.kind(),
        backend,
        dtype,
        variant: kernels.variant(),
        status,
        elapsed_ms: 0.0,
        tensors: Vec::new(),
        reason: Some(reason),
        switches: switches(backend),
    }
}

/// Applies the manifest's expected failures: an expected failure passes, an unexpected pass fails.
fn expect(case: &Case, mut result: CaseResult) -> CaseResult {
    let expected = case
        .expected_failures
        .iter()
        .find(|expected| expected.backend == result.backend.name() && expected.dtype == result.dtype);
    if let Some(expected) = expected {
        let (status, text) = match result.status {
            Status::Fail => (Status::Pass, "fails as expected"),
            Status::Pass => (Status::Fail, "passes, but the manifest expects a failure"),
            other => (other, "expected to fail"),
        };
        let before = result.reason.map_or(String::new(), |reason| format!(" ({reason})"));
        result.status = status;
        result.reason = Some(format!("{text}: {}{before}", expected.reason));
    }
    result
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::manifest::{ExpectedFailure, Subject};
    use crate::protocol::REPLY_PREFIX;

    const DONE: &str = r#"{"case": {"case": "CASE", "kind": "mlp", "backend": "flex", "dtype": "f32",
        "status": "pass", "elapsed_ms": 1.0, "tensors": []}}"#;

    fn case(id: &str) -> Case {
        Case {
            id: id.into(),
            description: String::new(),
            subject: Subject::RecordRoundtrip("tiny".into()),
            expected_failures: Vec::new(),
        }
    }

    /// A worker that is ready for f32, dies at a job with `boom` in it and passes every other.
    fn run(cases: &[Case], dtypes: &[Precision]) -> Vec<CaseResult> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        let done = DONE.replace('\n', " ");
        let script = format!(
            r#"#!/bin/sh
echo noise
echo '{REPLY_PREFIX}{{"ready": ["f32"]}}'
while read -r job; do
  case "$job" in
    *boom*) echo 'out of luck' >&2; kill -SEGV $$ ;;
    *) id=$(echo "$job" | sed 's/.*"case":"\([^"]*\)".*/\1/'); echo '{REPLY_PREFIX}{done}' | sed "s/CASE/$id/" ;;
  esac
done
"#
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test was starting may have the file open for writing until it runs.
        let mut trial = Command::new(&program);
        trial.stdin(Stdio::null()).stdout(Stdio::null());
        while let Err(error) = trial.status() {
            assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy);
        }
        let cases = cases.iter().collect::<Vec<_>>();
        let mut results = Vec::new();
        let mut report = |result| {
            results.push(result);
            Ok(())
        };
        let part = Part { backend: Backend::Flex, kernels: Kernels::On, share: None };
        run_part(&program, part, Path::new("m"), &cases, dtypes, &mut report).unwrap();
        results
    }

    #[test]
    fn a_crash_is_reported_with_its_case_and_the_rest_still_runs() {
        let results = run(&[case("a"), case("boom"), case("b")], &[]);
        let found = results.iter().map(|result| (result.case.as_str(), result.status));
        let expected = [("a", Status::Pass), ("boom", Status::Crash), ("b", Status::Pass)];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let reason = results[1].reason.as_deref().unwrap();
        assert!(reason.contains("signal 11") && reason.contains("out of luck"), "{reason}");
    }

    #[test]
    fn a_dtype_that_the_backend_lacks_is_unavailable_when_asked_for() {
        let results = run(&[case("a")], &[Precision::F32, Precision::BF16]);
        let found = results.iter().map(|result| (result.dtype, result.status));
        let expected = [(Precision::F32, Status::Pass), (Precision::BF16, Status::Unavailable)];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_expected_failure_that_passes_fails() {
        let mut known = case("a");
        known.expected_failures = vec![ExpectedFailure {
            backend: "flex".into(),
            dtype: Precision::F32,
            reason: "upstream bug 1".into(),
        }];
        let results = run(std::slice::from_ref(&known), &[]);
        assert_eq!(results[0].status, Status::Fail);
        assert!(results[0].reason.as_deref().unwrap().contains("upstream bug 1"));

        let failed = CaseResult { status: Status::Fail, ..results[0].clone() };
        assert_eq!(expect(&known, failed.clone()).status, Status::Pass);
        known.expected_failures[0].dtype = Precision::F16;
        assert_eq!(expect(&known, failed).status, Status::Fail);
    }
}
