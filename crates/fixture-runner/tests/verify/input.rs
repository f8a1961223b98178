use std::fs;

use crate::common::{MODEL, REFERENCE, assert_refused, root, verify};

#[test]
fn bad_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.npz");
    let bytes = fs::read(root().join(REFERENCE)).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let cut = cut.to_str().unwrap();
    assert_refused(&["--model", MODEL, "--reference", cut], &["cut.npz"]);
    assert_refused(&["--model", "nowhere", "--reference", REFERENCE], &["nowhere"]);
    let other = "fixtures/mha-untied/prompt1/reference.npz";
    assert_refused(&["--model", MODEL, "--reference", other], &["reference.npz", "embedding_output"]);
    let absent = ["--model", MODEL, "--reference", REFERENCE, "--json", "/no/folder/x.json"];
    assert_refused(&absent, &["/no/folder/x.json"]);
    assert_refused(&["--model", MODEL, "--observed", REFERENCE], &["--reference"]);
}

/// A report never takes the place of what it is about.
#[test]
fn reports_do_not_overwrite_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("reference.npz");
    fs::copy(root().join(REFERENCE), &copy).unwrap();
    let copy = copy.to_str().unwrap();
    let given = ["--model", MODEL, "--reference", copy, "--html", copy];
    assert_refused(&given, &["reference.npz", "it is an input"]);
    let config = format!("{MODEL}/config.json");
    let given = ["--model", MODEL, "--reference", copy, "--json", &config];
    assert_refused(&given, &["config.json", "it is an input"]);
    let twice = folder.path().join("r").to_str().unwrap().to_string();
    let given = ["--model", MODEL, "--reference", copy, "--json", &twice, "--junit", &twice];
    assert_refused(&given, &["two reports"]);
    assert_eq!(fs::read(copy).unwrap(), fs::read(root().join(REFERENCE)).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Each flag and path is named before anything is run.
#[test]
fn reports_that_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--json", "--junit", "--html"] {
        for (name, reason) in [("new/", "is a folder"), ("", "is a folder"), ("none/x", "there is no folder")]
        {
            let path = folder.path().join(name);
            let path = path.to_str().unwrap();
            assert_refused(&["--model", "nowhere", flag, path], &[flag, path, reason]);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The prompt beside a reference, and the names of files, are shown and not obeyed.
#[test]
fn text_from_files_gives_a_terminal_no_orders() {
    const EVIL: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}";
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(format!("{EVIL}.npz"));
    fs::copy(root().join(REFERENCE), &copy).unwrap();
    let prompt = serde_json::json!({ "prompt": EVIL }).to_string();
    fs::write(copy.with_extension("json"), prompt).unwrap();
    let copy = copy.to_str().unwrap();
    for (arguments, code) in [
        (["--model", MODEL, "--reference", copy, "--observed", copy], 0),
        (["--model", EVIL, "--reference", copy, "--observed", copy], 2),
        (["--model", MODEL, "--reference", copy, "--layers", EVIL], 2),
    ] {
        let output = verify(&arguments);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!text.contains(obeyed) && text.contains("\\u{1b}]0;title\\u{7}"), "{text:?}");
    }
}

/// Logits are compared, and a model without a head has none; its layers can be compared all the same.
#[test]
fn a_model_without_a_head_is_refused() {
    let model = ["--model", "fixtures/checkpoints/embedding-headless"];
    let words = ["model.safetensors", "`lm_head.weight` is missing", "a model without a head"];
    assert_refused(&[&model[..], &["--reference", REFERENCE]].concat(), &words);
    assert_refused(&[&model[..], &["--backend", "ndarray,flex", "--ids", "1,2"]].concat(), &words);
}
