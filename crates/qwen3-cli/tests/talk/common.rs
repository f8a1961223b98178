use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

/// Draws any token, so that a text ends at its length alone.
pub const ANY_TOKEN: [&str; 6] = ["--temperature", "1e6", "--top-k", "0", "--top-p", "1"];

/// A command on the small trained model.
pub fn command(name: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.arg(name).arg("--model").arg(tiny()).args(words);
    command
}

/// Runs it with this on standard input.
pub fn run(name: &str, words: &[&str], input: &[u8]) -> Output {
    let mut command = command(name, words);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that is refused reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What it printed, and what it said.
#[track_caller]
pub fn done(output: Output) -> (String, String) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// One line of error that has all of `parts`, and exit code 2.
#[track_caller]
pub fn assert_refused(output: Output, parts: &[&str]) {
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}
