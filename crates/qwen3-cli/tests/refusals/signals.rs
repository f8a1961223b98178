use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qwen3_command::Signal;
use serde_json::Value;

use crate::common::*;

/// The small trained model with so many tokens that reading and writing it takes a while. Its weights are zeros, which
/// take no room.
fn large(folder: &Path) {
    const TOKENS: u64 = 1_200_000;
    let config = fs::read_to_string(tiny().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    let before = config["vocab_size"].as_u64().unwrap();
    config["vocab_size"] = TOKENS.into();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(tiny().join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut end = 0;
    for (_, tensor) in header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__")
    {
        for dim in tensor["shape"].as_array_mut().unwrap() {
            if dim.as_u64() == Some(before) {
                *dim = TOKENS.into();
            }
        }
        let values: u64 =
            tensor["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).product();
        let start = end;
        end += 2 * values;
        tensor["data_offsets"] = vec![start, end].into();
    }
    let header = header.to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

#[test]
fn an_import_that_is_ended_leaves_nothing() {
    let model = tempfile::tempdir().unwrap();
    large(model.path());
    for signal in Signal::heard() {
        let (out, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record = out.path().join("model.bpk");
        let words = ["import", "--model", model.path().to_str().unwrap(), "--out", record.to_str().unwrap()];
        let mut command = command(&words);
        command.env("TMPDIR", temporary.path()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Once while it reads, and then while it writes.
        let at = if signal == Signal::Terminate { "model.bpk" } else { ".qwen3-import-" };
        wait_until(&mut child, || listing(out.path()).iter().any(|name| name.contains(at)));
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(signal.exit_code()), "{signal:?}: {said}");
        assert!(!said.contains("error"), "{signal:?}: {said}");
        assert_eq!((listing(out.path()), listing(temporary.path())), (vec![], vec![]), "{signal:?}");
    }
}

/// A record of the small model, whose texts are unpacked when it is used: that can be seen from outside.
fn tiny_record(folder: &Path) -> PathBuf {
    let record = folder.join("tiny.bpk");
    assert!(
        run(&["import", "--model", tiny().to_str().unwrap(), "--out", record.to_str().unwrap()])
            .status
            .success()
    );
    record
}

#[test]
fn the_texts_of_a_record_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let record = tiny_record(folder.path());
    for signal in Signal::heard() {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = command(&["tokenize", "--model", record.to_str().unwrap()]);
        let mut child = command.env("TMPDIR", temporary.path()).stdin(Stdio::piped()).spawn().unwrap();
        // Open for as long as the command is to wait for it.
        let _input = child.stdin.take();
        wait_until(&mut child, || {
            listing(temporary.path()).iter().any(|name| name.ends_with("tokenizer.json"))
        });
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(signal.exit_code()), "{signal:?}");
        assert_eq!(listing(temporary.path()), [""; 0], "{signal:?}");
    }
}

/// `nohup qwen3 ...` goes on when the terminal is gone.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let record = tiny_record(folder.path());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"trap "" HUP; exec "$0" tokenize --model "$1""#, env!("CARGO_BIN_EXE_qwen3")]);
    let mut child = shell.arg(record).env("TMPDIR", temporary.path()).stdin(Stdio::piped()).spawn().unwrap();
    let _input = child.stdin.take();
    wait_until(&mut child, || listing(temporary.path()).iter().any(|name| name.ends_with("tokenizer.json")));
    send(Signal::HangUp, &child);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none());
    send(Signal::Terminate, &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
