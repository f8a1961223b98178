use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::*;

const EVIL: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}";

/// Nothing on either stream that a terminal would obey.
#[track_caller]
fn assert_plain(output: &Output, shows: &str) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(text.contains(shows), "no {shows:?} in {text:?}");
}

fn copy_of_tiny(folder: &Path) {
    for entry in fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn names_of_files_give_no_orders() {
    let folder = tempfile::tempdir().unwrap();
    let evil = folder.path().join(EVIL);
    assert_plain(&run(&["inspect", "--model", evil.to_str().unwrap()]), "\\u{1b}");
    fs::create_dir(&evil).unwrap();
    copy_of_tiny(&evil);
    let output = run(&["inspect", "--model", evil.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_plain(&output, "\\u{1b}]0;title\\u{7}");
    let record = folder.path().join(format!("{EVIL}.bpk"));
    let output = run(&["import", "--model", evil.to_str().unwrap(), "--out", record.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_plain(&output, "\\u{1b}]0;title\\u{7}");
}

#[test]
fn what_a_checkpoint_says_gives_no_orders() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_tiny(folder.path());
    let model = folder.path().to_str().unwrap();
    let file = |name: &str| folder.path().join(name);

    // A tensor's name.
    let bytes = fs::read(file("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let norm = header.as_object_mut().unwrap().remove("model.norm.weight").unwrap();
    header[format!("norm{EVIL}")] = norm;
    let header = header.to_string();
    let parts = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]];
    fs::write(file("model.safetensors"), parts.concat()).unwrap();
    for words in [["inspect", "--model", model, "--json"], ["generate", "--model", model, "--prompt=a"]] {
        let output = run(&words);
        assert_eq!(output.status.code(), Some(2));
        assert_plain(&output, "error: ");
    }

    // A key's value, and a key.
    let config = fs::read_to_string(file("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["hidden_act"] = EVIL.into();
    config[EVIL] = EVIL.into();
    fs::write(file("config.json"), config.to_string()).unwrap();
    let output = run(&["inspect", "--model", model]);
    assert_eq!(output.status.code(), Some(2));
    assert_plain(&output, "config.json");

    // A message's role, in the template's own error.
    let template = "{{ raise_exception('no ' + messages[0].role) }}";
    let tokenizer = serde_json::json!({"chat_template": template}).to_string();
    fs::write(file("tokenizer_config.json"), tokenizer).unwrap();
    let messages = serde_json::json!([{"role": EVIL, "content": EVIL}]).to_string();
    fs::write(file("messages.json"), messages).unwrap();
    let messages = file("messages.json");
    let output = run(&["render", "--model", model, "--messages", messages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_plain(&output, "messages.json");
}
