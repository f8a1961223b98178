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
    assert_refused(
        &["--model", "nowhere", "--reference", REFERENCE],
        &["nowhere"],
    );
    let other = "fixtures/mha-untied/prompt1/reference.npz";
    assert_refused(
        &["--model", MODEL, "--reference", other],
        &["reference.npz", "embedding_output"],
    );
    let absent = [
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--json",
        "/no/folder/x.json",
    ];
    assert_refused(&absent, &["/no/folder/x.json"]);
    assert_refused(
        &["--model", MODEL, "--observed", REFERENCE],
        &["--reference"],
    );
}
