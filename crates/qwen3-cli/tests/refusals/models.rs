//! What is no model: it is said what it is, and what to do.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::common::*;

#[test]
fn a_file_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    let pytorch = [&b"PK\x03\x04"[..], &[0; 22], &[16, 0, 0, 0], b"archive/data.pkl"].concat();
    let npz = [&b"PK\x03\x04"[..], &[0; 22], &[5, 0, 0, 0], b"a.npy"].concat();
    for (name, bytes, parts) in [
        ("model.gguf", &b"GGUF\x03\0\0\0"[..], &["no sound GGUF file"][..]),
        ("model.safetensors", &weights, &["safetensors", "pass the folder"]),
        ("pytorch_model.bin", &pytorch, &["PyTorch", "save_pretrained"]),
        ("old.bin", b"\x80\x02\x8a\x0a", &["pickle", "save_pretrained"]),
        ("model.onnx", b"\x08\x08\x12\x07pytorch", &["ONNX"]),
        ("model.npz", &npz, &["NumPy"]),
        ("model.tar.gz", b"\x1f\x8b\x08\0", &["gzip", "unpack"]),
        ("notes.txt", b"my notes\n", &["a text"]),
        ("config.json", b"{}", &["JSON", "pass the folder"]),
        ("empty.bpk", b"", &["an empty file"]),
        ("noise.bpk", b"\0\x01\x02\x03", &["no record"]),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let output = run(&["inspect", "--model", file.to_str().unwrap()]);
        assert_refused(&output, &[&[name], parts].concat());
    }
}

/// A folder whose weights are in another format.
#[test]
fn weights_that_are_not_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
    }
    let words = ["generate", "--model", folder.path().to_str().unwrap(), "--prompt", "a"];
    assert_refused(&run(&words), &["no model.safetensors and no model.safetensors.index.json"]);
    fs::write(folder.path().join("model-q4.gguf"), b"GGUF\x03\0\0\0").unwrap();
    assert_refused(&run(&words), &["model-q4.gguf", "no model.safetensors", "GGUF"]);
}

#[test]
fn what_is_no_file_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let _socket = UnixListener::bind(path("socket")).unwrap();
    for (name, what) in
        [(path("pipe"), "a pipe"), (path("socket"), "a socket"), ("/dev/null".into(), "a device")]
    {
        assert_refused(&run(&["inspect", "--model", &name]), &[&name, what, "not a regular file"]);
    }
    fs::create_dir(path("tokenizer.json")).unwrap();
    let output = run(&["tokenize", "--model", folder.path().to_str().unwrap(), "--text", "a"]);
    assert_refused(&output, &["tokenizer.json", "a folder, not a regular file"]);
}

#[test]
fn a_tokenizer_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
    }
    let words = ["generate", "--model", folder.path().to_str().unwrap(), "--prompt", "a"];
    assert_refused(&run(&words), &["tokenizer.json", "no such file", "beside the weights"]);
    fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    assert_refused(&run(&words), &["tokenizer.json", "no such file", "save_pretrained"]);
}

/// The command to run is the whole one, for a shell.
#[cfg(not(feature = "wgpu"))]
#[test]
fn a_backend_that_was_not_built_comes_with_the_command() {
    let words = ["generate", "--model", "a model", "--prompt", "it's", "--backend", "wgpu"];
    let parts = [
        "built without wgpu",
        r"cargo run --release -p qwen3-cli --features wgpu",
        r"-- generate --model 'a model' --prompt 'it'\''s' --backend wgpu",
    ];
    let output = run(&words);
    assert_refused(&output, if cfg!(feature = "remote") { &parts[..1] } else { &parts });
}
