//! The hostile input of `fixtures/hostile`, given to the program.
#![cfg(unix)]

use std::path::Path;

use qwen3_fuzz::campaign::replay;
use qwen3_fuzz::program::Programs;

#[test]
fn hostile_input_is_refused_with_a_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let programs =
        Programs { qwen3_verify: Some(env!("CARGO_BIN_EXE_qwen3-verify").into()), ..Programs::default() };
    let report = replay(&root, &programs).unwrap();
    let findings: String = report.findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{findings}");
    assert!(report.classes["corpus"].tried > 10);
}
