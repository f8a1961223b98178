//! Files that are missing, cut, garbled, or lie about themselves.

use std::fs;

use qwen3_import::{Checkpoint, CheckpointSource};
use serde_json::json;

use crate::common::*;

#[test]
fn a_config_that_is_missing_or_refused() {
    let folder = Folder::plain();
    fs::remove_file(folder.path("config.json")).unwrap();
    folder.refused("Io", "config.json", "No such file");
    for (bytes, kind, detail) in [
        (&b""[..], "Config", "not a JSON object"),
        (b"{", "Config", "not a JSON object"),
        (b"[]", "Config", "not a JSON object"),
        (b"{}", "Config", "`model_type`"),
        (b"{\"model_type\": \"\xff\"}", "Malformed", "utf-8"),
        (b"\xef\xbb\xbf{}", "Config", "not a JSON object"),
    ] {
        let folder = Folder::plain().write("config.json", bytes);
        folder.refused(kind, "config.json", detail);
    }
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("head_dim", json!(5)),
        ("num_hidden_layers", json!(1_u64 << 60)),
        ("rope_scaling", json!({"rope_type": "yarn"})),
        ("model_type", json!("llama")),
    ] {
        let mut config = config(false);
        config[field] = value;
        let folder = Folder::plain().write("config.json", config.to_string());
        folder.refused("Config", "config.json", field);
    }
    let deep = "[".repeat(1 << 20);
    let folder = Folder::plain().write("config.json", deep);
    folder.refused("Config", "config.json", "not a JSON object");
}

#[test]
fn sizes_that_no_file_has_are_refused() {
    let mut config = config(false);
    for field in [
        "num_attention_heads",
        "num_hidden_layers",
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
    ] {
        config[field] = json!(1 << 24);
    }
    let folder = Folder::plain().write("config.json", config.to_string());
    let detail = format!("{EMBEDDING} [11, 8] for [16777216, 16777216]");
    folder.refused("Shape", WEIGHTS, &detail);
    // A single layer, whose shapes overflow when they are multiplied out.
    let checkpoint = Checkpoint::open(folder.dir()).unwrap();
    let config = checkpoint.config().clone();
    let (device, dtype) = (burn::tensor::Device::flex(), burn::tensor::DType::F32);
    let mut source = CheckpointSource::new(&checkpoint, &device, dtype).unwrap();
    let (prefix, reach) = ("model.layers.0.self_attn", qwen3_model::Reach::All);
    let attention = qwen3_model::Attention::build(&mut source, prefix, &config, reach);
    let expected = format!("[{}, {}]", 1_u64 << 48, 1 << 24);
    folder.blames(attention, "Shape", WEIGHTS, &format!("{Q_PROJ} [16, 8] for {expected}"));
}

#[test]
fn a_folder_without_weights() {
    Folder::new(&config(false)).refused("NoWeights", "", "");
    let folder = Folder::new(&config(false)).write("pytorch_model.bin", "");
    folder.refused("NoWeights", "", "");
    let folder = Folder::new(&config(false));
    fs::create_dir(folder.path(WEIGHTS)).unwrap();
    folder.refused("Malformed", WEIGHTS, "not a regular file");
}

/// Opening a pipe would wait for somebody who writes to it, and a device never ends.
#[cfg(unix)]
#[test]
fn a_pipe_and_a_device_are_refused_at_once() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    for name in [WEIGHTS, "config.json"] {
        let folder = Folder::plain();
        fs::remove_file(folder.path(name)).unwrap();
        let made = Command::new("mkfifo").arg(folder.path(name)).status();
        assert!(made.unwrap().success());
        folder.refused("Malformed", name, "not a regular file");
        fs::remove_file(folder.path(name)).unwrap();
        symlink("/dev/zero", folder.path(name)).unwrap();
        folder.refused("Malformed", name, "not a regular file");
    }
}

#[test]
fn a_file_cut_anywhere() {
    let whole = safetensors(&tensors(false));
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (length, detail) in [
        (0, "0 bytes are too few"),
        (7, "7 bytes are too few"),
        (8, "does not fit"),
        (9, "does not fit"),
        (header - 1, "does not fit"),
        (header, "but the file has 0 "),
        (header + 1, "but the file has 1 "),
        (whole.len() - 1, "truncated"),
    ] {
        let folder = Folder::plain().write(WEIGHTS, &whole[..length]);
        folder.refused("Malformed", WEIGHTS, detail);
    }
    let longer = [&whole[..], &[0]].concat();
    let folder = Folder::plain().write(WEIGHTS, longer);
    folder.refused("Malformed", WEIGHTS, "overlong");
}

#[test]
fn a_header_length_that_lies() {
    for length in [1 << 60, u64::MAX, u64::MAX - 7, 1 << 32, 100_000_001, 3] {
        let bytes = [&u64::to_le_bytes(length)[..], b"{}"].concat();
        let folder = Folder::plain().write(WEIGHTS, bytes);
        folder.refused("Malformed", WEIGHTS, &format!("header of {length} bytes"));
    }
}

/// The headers are checked as a whole, so one or two entries show each lie.
#[test]
fn a_header_that_lies() {
    let entry = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let pair = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let one = |a: String| format!(r#"{{"a":{a}}}"#);
    let f32 = |start, end| entry("F32", "[1]", start, end);
    let huge = (1_u64 << 61) - 1;
    let chain = (0..8)
        .map(|n| format!(r#""{n}":{}"#, entry("U8", &format!("[{huge}]"), n * huge, (n + 1) * huge)))
        .chain([format!(r#""8":{}"#, entry("U8", "[7]", 8 * huge, 8 * huge + 7))])
        .collect::<Vec<_>>();
    for (what, header) in [
        ("overlap", pair(f32(0, 4), f32(2, 6))),
        ("same bytes", pair(f32(0, 4), f32(0, 4))),
        ("hole", pair(f32(0, 4), f32(5, 9))),
        ("hole in front", one(f32(4, 8))),
        ("backwards", one(f32(4, 0))),
        ("beyond the end", pair(f32(0, 4), f32(4, 8)).replace("[1]", "[2]")),
        ("shape too large", one(entry("F32", "[3]", 0, 8))),
        ("shape too small", one(entry("F32", "[1]", 0, 8))),
        ("product overflows", one(entry("F32", "[4294967296,4294967296,2]", 0, 8))),
        ("wraps to 8", one(entry("F32", "[4611686018427387906]", 0, 8))),
        ("far end", one(entry("U8", "[1152921504606846976]", 0, 1 << 60))),
        ("end of all numbers", format!("{{{}}}", chain.join(","))),
        ("negative", one(entry("F32", "[-2]", 0, 8))),
        ("fraction", one(entry("F32", "[2.0]", 0, 8))),
        ("unknown dtype", one(entry("F31", "[2]", 0, 8))),
        ("no shape", r#"{"a":{"dtype":"F32","data_offsets":[0,8]}}"#.into()),
        ("no object", r#"{"a":1}"#.into()),
        ("a list", "[]".into()),
        ("nothing", "".into()),
        ("cut", r#"{"a":"#.into()),
        ("two objects", "{}{}".into()),
        ("metadata of numbers", r#"{"__metadata__":{"a":1}}"#.into()),
        ("nested", format!("{{\"a\":{}", "[".repeat(1 << 20))),
    ] {
        println!("{what}");
        let folder = Folder::plain().write(WEIGHTS, raw_safetensors(&header, &[0; 8]));
        folder.refused("Malformed", WEIGHTS, "");
    }
    let folder = Folder::plain().write(WEIGHTS, raw_safetensors("{\"\u{0}", b""));
    folder.refused("Malformed", WEIGHTS, "");
    let folder = Folder::plain().write(WEIGHTS, raw_safetensors("{}", b""));
    folder.refused("MissingKey", WEIGHTS, EMBEDDING);
}
