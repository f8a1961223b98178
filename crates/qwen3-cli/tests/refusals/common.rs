use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.args(words).stdin(Stdio::null()).env_remove("HF_TOKEN").env_remove("HF_HUB_CACHE");
    command.env("HF_HOME", "/nonexistent/huggingface").env("HF_ENDPOINT", "http://127.0.0.1:9");
    command
}

pub fn run(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// One line of error that has all of `parts`, and exit code 2.
#[track_caller]
pub fn assert_refused(output: &Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(!error.contains("internal"), "{error}");
}

/// The names in a folder and those inside it, relative to it.
pub fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_string());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    names.sort();
    names
}

/// Waits until `there` holds, which it must before the command ends.
#[track_caller]
pub fn wait_until(child: &mut Child, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended too soon");
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to it");
        sleep(Duration::from_millis(1));
    }
}

pub fn send(signal: qwen3_command::Signal, child: &Child) {
    let kill =
        Command::new("kill").args([&format!("-{}", signal.number()), &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
}
