//! `qwen3 download`, from a hub on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{thread, time::Duration};

use crate::common::*;
use crate::server::{Hub, Lie, NAME, SHA};

const WEIGHTS: &str = "model.safetensors";

fn download(hub: &Hub, home: &Path, more: &[&str]) -> Command {
    let mut command = command(&[&["download", NAME], more].concat());
    command.env("HF_HOME", home).env("HF_ENDPOINT", &hub.endpoint);
    command
}

/// The folder that was printed.
#[track_caller]
fn folder(output: &Output) -> PathBuf {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout.clone()).unwrap().strip_suffix('\n').unwrap())
}

/// It is the small trained model, and nothing is left of the way there.
#[track_caller]
fn assert_whole(folder: &Path, home: &Path) {
    for file in [WEIGHTS, "config.json", "tokenizer.json"] {
        assert_eq!(fs::read(folder.join(file)).unwrap(), fs::read(tiny().join(file)).unwrap(), "{file}");
    }
    assert_eq!(parts(home), [""; 0]);
}

/// What there is of files that were not downloaded to their end.
fn parts(home: &Path) -> Vec<String> {
    let mut names = listing(home);
    names.retain(|name| name.ends_with(".part"));
    names
}

/// A download of the weights that a signal ends half way.
fn ended(hub: &Hub, home: &Path) -> PathBuf {
    let mut child = download(hub, home, &[]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&mut child, || hub.asked(WEIGHTS) > 0);
    let half = fs::metadata(tiny().join(WEIGHTS)).unwrap().len() / 2;
    let length = || parts(home).iter().map(|part| fs::metadata(home.join(part)).unwrap().len()).sum::<u64>();
    wait_until(&mut child, || length() == half);
    thread::sleep(Duration::from_millis(20));
    let signal = qwen3_command::Signal::heard().next().unwrap();
    send(signal, &child);
    assert_eq!(child.wait().unwrap().code(), Some(signal.exit_code()));
    let parts = parts(home);
    assert_eq!(parts.len(), 1, "{parts:?}");
    home.join(&parts[0])
}

#[test]
fn the_folder_is_printed_and_nothing_comes_twice() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::new("", None);
    let first = folder(&download(&hub, home.path(), &[]).output().unwrap());
    assert_whole(&first, home.path());
    assert!(first.ends_with(format!("models--owner--model/snapshots/{SHA}")));
    assert_eq!(folder(&download(&hub, home.path(), &[]).output().unwrap()), first);
    assert_eq!((hub.asked(WEIGHTS), hub.asked("config.json")), (1, 1));
    // Another name for the same state: nothing is downloaded for it but what the cache cannot know.
    let named = folder(&download(&hub, home.path(), &["--revision", "refs/pr/1"]).output().unwrap());
    assert_eq!(named, first);
    let reference = home.path().join("hub/models--owner--model/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), SHA);
    // Without a hub, the cache has it.
    let mut offline = download(&hub, home.path(), &[]);
    let output = offline.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("HF_HUB_OFFLINE"));
    assert_eq!(folder(&output), first);
    let loaded = command(&["inspect", "--model", first.to_str().unwrap()]).output().unwrap();
    assert_eq!(loaded.status.code(), Some(0));
}

#[test]
fn what_a_signal_left_is_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::new(WEIGHTS, Some((Lie::Stalled, 1)));
    let part = ended(&hub, home.path());
    let half = fs::metadata(&part).unwrap().len();
    let output = download(&hub, home.path(), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{WEIGHTS}: {half} of ")), "{said}");
    assert_whole(&folder(&output), home.path());
    assert_eq!((hub.asked(WEIGHTS), hub.asked_from(WEIGHTS) as u64), (2, half));
}

/// A part that is no part of the file is thrown away, and so is one that is as long as the whole.
#[test]
fn what_was_left_damaged_is_asked_for_anew() {
    for change in [|bytes: &mut Vec<u8>| bytes[7] ^= 1, |bytes: &mut Vec<u8>| bytes.extend(bytes.clone())] {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::new(WEIGHTS, Some((Lie::Stalled, 1)));
        let part = ended(&hub, home.path());
        let mut bytes = fs::read(&part).unwrap();
        change(&mut bytes);
        fs::write(&part, bytes).unwrap();
        assert_whole(&folder(&download(&hub, home.path(), &[]).output().unwrap()), home.path());
        assert_eq!(hub.asked_from(WEIGHTS), 0);
    }
}

#[test]
fn what_breaks_off_is_gone_on_with_at_once() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::new(WEIGHTS, Some((Lie::Cut, 1)));
    assert_whole(&folder(&download(&hub, home.path(), &[]).output().unwrap()), home.path());
    let half = fs::metadata(tiny().join(WEIGHTS)).unwrap().len() / 2;
    assert_eq!((hub.asked(WEIGHTS), hub.asked_from(WEIGHTS) as u64), (2, half));
}

#[test]
fn what_cannot_be_downloaded_is_said() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::new(WEIGHTS, Some((Lie::Flipped, usize::MAX)));
    let output = download(&hub, home.path(), &[]).output().unwrap();
    assert_refused(&output, &[NAME, WEIGHTS, "its SHA-256 is", "damaged each time"]);
    assert_eq!(parts(home.path()), [""; 0]);
    assert_refused(
        &download(&hub, home.path(), &["--revision", "../main"]).output().unwrap(),
        &["--revision", "../main"],
    );
    assert_refused(&run(&["download", "a-folder"]), &["a-folder", "OWNER/MODEL"]);
    let nowhere = run(&["download", NAME]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert_eq!(nowhere.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--model FOLDER") && said.lines().last().unwrap().contains("cannot list"),
        "{said}"
    );
}
