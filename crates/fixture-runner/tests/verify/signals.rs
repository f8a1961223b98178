use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use qwen3_command::Signal;

use crate::common::{MODEL, REFERENCE, root};

/// A second worker that makes a file and hangs, behind a first one that has written its recordings.
const HANGING: &str = r#"#!/bin/sh
mktemp > /dev/null
echo $$ > "$WORKER_IS"
exec sleep 100
"#;

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

/// No recording, no temporary file, no report, no process.
#[test]
fn a_verification_that_is_ended_leaves_nothing() {
    for signal in Signal::heard() {
        let [work, temporary, out] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let (worker, id) = (work.path().join("worker"), work.path().join("id"));
        // By another process: a program that any process has open for writing cannot be started.
        let mut write = Command::new("/bin/sh");
        write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""]).arg(&worker).arg(HANGING);
        assert!(write.status().unwrap().success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_fixture-runner"));
        command.args(["verify", "--model", MODEL, "--reference", REFERENCE]).current_dir(root());
        command.arg("--json").arg(out.path().join("report.json"));
        command.arg("--variant").arg(format!("hanging={}", worker.display()));
        command.env("TMPDIR", temporary.path()).env("WORKER_IS", &id);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let started = || fs::read_to_string(&id).ok().filter(|id| id.ends_with('\n'));
        while started().is_none() {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(2));
        }
        // The recordings of the first, what is derived of the reference, and the file of the second.
        assert!(count(temporary.path()) > 3, "{}", count(temporary.path()));
        let kill =
            Command::new("kill").args([&format!("-{}", signal.number()), &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(signal.exit_code()), "{signal:?}: {said}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal:?}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{signal:?}");
        let mut alive = Command::new("kill");
        alive.args(["-0", started().unwrap().trim()]).stderr(Stdio::null());
        assert!(!alive.status().unwrap().success(), "{signal:?}: the worker lives");
    }
}
