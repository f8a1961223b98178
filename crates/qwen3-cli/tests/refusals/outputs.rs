use std::fs;

use crate::common::*;

/// Refused before anything is read: the model is not even there.
#[test]
fn a_record_that_cannot_be_written_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("there")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (out, reason) in [
        ("newdir/", "is a folder"),
        ("newdir/.", "is a folder"),
        ("there", "is a folder"),
        ("there/", "is a folder"),
        ("none/model.bpk", "there is no folder"),
        ("file/model.bpk", "is no folder"),
        ("/dev/null", "is no regular file"),
        ("/proc/model.bpk", "cannot be written"),
    ] {
        let path = folder.path().join(out);
        let output = run(&["import", "--model", "no-such-model", "--out", path.to_str().unwrap()]);
        assert_refused(&output, &["--out", out, reason]);
        assert_eq!(listing(folder.path()), ["file", "there"]);
    }
}
