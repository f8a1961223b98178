use std::path::Path;
use std::process::{Output, Stdio};
use std::{fs, thread, time::Duration};

use crate::common::*;
use crate::server::{Hub, Lie, NAME, SHA};

fn tokenize(hub: &Hub, home: &Path) -> Output {
    let mut command = command(&["tokenize", "--model", NAME, "--text", "a"]);
    command.env("HF_HOME", home).env("HF_ENDPOINT", &hub.endpoint).output().unwrap()
}

/// What is in the cache of the model.
fn cached(home: &Path) -> Vec<String> {
    listing(&home.join("hub"))
}

fn snapshot(file: &str) -> String {
    format!("models--owner--model/snapshots/{SHA}/{file}")
}

#[test]
fn a_model_is_downloaded_once() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::new("", None);
    for _ in 0..2 {
        let output = tokenize(&hub, home.path());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!((hub.asked("tokenizer.json"), hub.asked("config.json")), (1, 1));
    let cached = cached(home.path());
    assert!(
        cached.contains(&snapshot("tokenizer.json")) && cached.contains(&snapshot("config.json")),
        "{cached:?}"
    );
    let file = home.path().join("hub").join(snapshot("tokenizer.json"));
    assert!(file.is_symlink());
    assert_eq!(fs::read(file).unwrap(), fs::read(tiny().join("tokenizer.json")).unwrap());
    // Blobs, one a file, and nothing of the way there.
    let blobs = cached.iter().filter(|name| name.contains("/blobs/")).count();
    assert_eq!(blobs, cached.iter().filter(|name| name.contains(&snapshot(""))).count());
    assert!(
        !cached
            .iter()
            .any(|name| name.contains(".lock") || name.contains(".part") || name.contains(".qwen3"))
    );
}

#[test]
fn what_comes_right_the_second_time_is_taken() {
    for lie in [Lie::Short, Lie::Cut, Lie::Flipped] {
        for file in ["tokenizer.json", "config.json"] {
            let home = tempfile::tempdir().unwrap();
            let hub = Hub::new(file, Some((lie, 1)));
            let output = tokenize(&hub, home.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{lie:?} {file}: {said}");
            assert_eq!(hub.asked(file), 2, "{lie:?} {file}");
            let file = (home.path().join("hub").join(snapshot(file)), tiny().join(file));
            assert_eq!(fs::read(file.0).unwrap(), fs::read(file.1).unwrap());
        }
    }
}

/// Damaged twice: one line that names the file, and nothing of it in the cache.
#[test]
fn what_stays_wrong_is_named_and_not_kept() {
    for (lie, file, reason) in [
        (Lie::Short, "tokenizer.json", "bytes, the hub says"),
        (Lie::Flipped, "tokenizer.json", "its SHA-256 is"),
        (Lie::Flipped, "config.json", "its Git's hash is"),
        (Lie::Size, "tokenizer.json", "bytes, the hub says"),
        (Lie::Size, "config.json", "bytes, the hub says"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::new(file, Some((lie, usize::MAX)));
        let output = tokenize(&hub, home.path());
        assert_refused(&output, &[NAME, file, reason, "damaged each time"]);
        assert_eq!(hub.asked(file), 2, "{lie:?} {file}");
        assert_nothing_of(file, home.path());
    }
}

/// A hub that breaks off, or lacks a file that it lists: told with what to do without one.
#[test]
fn a_hub_that_fails_leaves_nothing() {
    for (lie, file) in
        [(Lie::Cut, "tokenizer.json"), (Lie::Absent, "config.json"), (Lie::Etag, "config.json")]
    {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::new(file, Some((lie, usize::MAX)));
        let output = tokenize(&hub, home.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{lie:?}: {said}");
        let error = said.lines().last().unwrap();
        assert!(error.contains("cannot be downloaded") && error.contains(file), "{lie:?}: {said}");
        assert_nothing_of(file, home.path());
    }
}

#[track_caller]
fn assert_nothing_of(file: &str, home: &Path) {
    let cached = cached(home);
    assert!(!cached.contains(&snapshot(file)), "{cached:?}");
    let blobs = cached.iter().filter(|name| name.contains("/blobs/")).count();
    let files = cached.iter().filter(|name| name.contains(&snapshot(""))).count();
    assert_eq!(blobs, files, "{cached:?}");
    assert!(!cached.iter().any(|name| name.contains(".part") || name.contains(".qwen3")), "{cached:?}");
}

#[test]
fn a_signal_leaves_nothing_of_a_download() {
    for signal in qwen3_command::Signal::heard() {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::new("tokenizer.json", Some((Lie::Stalled, usize::MAX)));
        let mut command = command(&["tokenize", "--model", NAME, "--text", "a"]);
        command.env("HF_HOME", home.path()).env("HF_ENDPOINT", &hub.endpoint);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_until(&mut child, || hub.asked("tokenizer.json") > 0);
        thread::sleep(Duration::from_millis(20));
        assert!(cached(home.path()).iter().any(|name| name.contains(".part")));
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(signal.exit_code()), "{signal:?}");
        assert_nothing_of("tokenizer.json", home.path());
    }
}
