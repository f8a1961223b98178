use std::fs;

use crate::common::{MODEL, REFERENCE, assert_refused, root};

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
