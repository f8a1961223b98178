use std::fs;

use tempfile::TempDir;

use crate::error::FixtureError as E;
use crate::manifest::tests::{good, read, sha256};

/// The files that `good` lists.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tiny = folder.path().join("fixtures/tiny");
    fs::create_dir_all(&tiny).unwrap();
    fs::write(tiny.join("config.json"), "config").unwrap();
    fs::write(tiny.join("model.safetensors"), "weights").unwrap();
    fs::write(folder.path().join("fixtures/a.safetensors"), "tensors").unwrap();
    fs::write(folder.path().join("fixtures/b.npz"), "reference").unwrap();
    folder
}

#[test]
fn paths_stay_inside() {
    let folder = folder();
    let manifest = read(&folder, &good().to_string()).unwrap();
    let file = manifest.path("fixtures/b.npz").unwrap();
    assert_eq!(file, manifest.root.join("fixtures/b.npz"));
    for bad in [
        "../x",
        "fixtures/../fixtures/b.npz",
        "..",
        "/etc/passwd",
        "",
        ".",
        "./fixtures",
        "fixtures//b.npz",
        "fixtures/",
        "fixtures\\b.npz",
        "C:/x",
        "c:x",
        "a\0b",
    ] {
        assert!(matches!(manifest.path(bad), Err(E::Path { .. })), "{bad}");
    }
    assert!(matches!(manifest.path("fixtures/none"), Err(E::Io { .. })));
}

#[cfg(unix)]
#[test]
fn links_stay_inside() {
    use std::os::unix::fs::symlink;
    let (folder, outside) = (folder(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("b.npz"), "reference").unwrap();
    let manifest = read(&folder, &good().to_string()).unwrap();
    let (fixtures, file) = (manifest.root.join("fixtures"), manifest.root.join("fixtures/b.npz"));
    fs::remove_file(&file).unwrap();
    symlink(outside.path().join("b.npz"), &file).unwrap();
    let message = manifest.verify_file("fixtures/b.npz").unwrap_err().to_string();
    assert!(message.contains("through a link"), "{message}");
    symlink(outside.path(), fixtures.join("out")).unwrap();
    assert!(matches!(manifest.path("fixtures/out/b.npz"), Err(E::Path { .. })));
    symlink(fixtures.join("a.safetensors"), fixtures.join("in")).unwrap();
    assert_eq!(manifest.path("fixtures/in").unwrap(), fixtures.join("a.safetensors"));
}

#[test]
fn files_have_their_hashes() {
    let folder = folder();
    let manifest = read(&folder, &good().to_string()).unwrap();
    let file = manifest.verify_file("fixtures/b.npz").unwrap();
    fs::write(&file, "Reference").unwrap();
    match manifest.verify_file("fixtures/b.npz") {
        Err(E::Hash { file: found, expected, found: hash }) => {
            assert_eq!(found, file);
            assert_eq!((expected, hash), (sha256(b"reference"), sha256(b"Reference")));
        }
        found => panic!("{found:?}"),
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(manifest.verify_file("fixtures/b.npz"), Err(E::Io { .. })));
    let unlisted = manifest.verify_file("fixtures/tiny/config.json").unwrap_err().to_string();
    assert!(unlisted.ends_with("lists no file `fixtures/tiny/config.json`"), "{unlisted}");
}

#[test]
fn checkpoints_have_their_hashes_and_nothing_else() {
    let folder = folder();
    let manifest = read(&folder, &good().to_string()).unwrap();
    let tiny = manifest.verify_checkpoint("tiny").unwrap();
    assert_eq!(tiny, manifest.root.join("fixtures/tiny"));
    assert!(matches!(manifest.verify_checkpoint("big"), Err(E::Unlisted { .. })));
    fs::write(tiny.join("README.md"), "").unwrap();
    fs::write(tiny.join("generation_config.json"), "").unwrap();
    manifest.verify_checkpoint("tiny").unwrap();
    for stray in ["extra.safetensors", "EXTRA.SafeTensors", "model.safetensors.index.json"] {
        fs::write(tiny.join(stray), "").unwrap();
        match manifest.verify_checkpoint("tiny") {
            Err(E::Stray { file, .. }) => assert_eq!(file, tiny.join(stray)),
            found => panic!("{stray}: {found:?}"),
        }
        fs::remove_file(tiny.join(stray)).unwrap();
    }
    fs::write(tiny.join("model.safetensors"), "Weights").unwrap();
    assert!(matches!(manifest.verify_checkpoint("tiny"), Err(E::Hash { .. })));
    fs::remove_file(tiny.join("model.safetensors")).unwrap();
    assert!(matches!(manifest.verify_checkpoint("tiny"), Err(E::Io { .. })));

    let mut only_weights = manifest.clone();
    let files = &mut only_weights.checkpoints.get_mut("tiny").unwrap().files;
    fs::write(tiny.join("model.safetensors"), "weights").unwrap();
    files.remove("config.json");
    assert!(matches!(only_weights.verify_checkpoint("tiny"), Err(E::Stray { .. })));
}
