//! Files that are no record, and what to do with them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use qwen3_checkpoint::{CheckpointError, open_regular};
use qwen3_hub::{INDEX, WEIGHTS};

/// What a record begins with (burn-pack 0.22, `MAGIC_NUMBER`).
const RECORD: &[u8] = b"NRUB";
/// How much of a file is looked at: a tar archive is known at byte 257.
const HEAD: u64 = 1024;

const FILE: &str = "pass the file itself";
const FOLDER: &str = "pass the folder that it lies in";
const UNPACK: &str = "unpack it and pass the folder with config.json and model.safetensors";
const CONVERT: &str = "pass the folder of the same model as safetensors, with its config.json and tokenizer.json, or a \
                       name on the hub, such as Qwen/Qwen3-0.6B";
const SAVE: &str = "only safetensors are read; load it with Transformers and save it with \
                    save_pretrained(FOLDER, safe_serialization=True)";
const RECORDS: &str =
    "--model is a folder, a record that `qwen3 import` wrote, a GGUF file, or a name on the hub";

/// What a file is that is no record, and what to do; `None` when it begins as a record does.
///
/// # Errors
/// When it is no regular file, or cannot be read.
pub fn named(path: &Path) -> Result<Option<String>, CheckpointError> {
    let (file, length) = open_regular(path)?;
    let head = head(file).map_err(|source| CheckpointError::Io { file: path.into(), source })?;
    if head.starts_with(RECORD) {
        return Ok(None);
    }
    let (what, then) = match length {
        0 => ("an empty file", RECORDS),
        _ => sort(&head).unwrap_or(("no record", RECORDS)),
    };
    Ok(Some(format!("{what}; {then}")))
}

/// What a folder has in place of safetensors, and what to do; `None` when it has them, or nothing of the kind.
pub fn instead_of_weights(folder: &Path) -> Option<String> {
    const OTHERS: [&str; 8] = ["gguf", "bin", "pt", "pth", "ckpt", "onnx", "npz", "h5"];
    if [WEIGHTS, INDEX].iter().any(|name| folder.join(name).exists()) {
        return None;
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let known = |path: &PathBuf| {
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| OTHERS.contains(&end))
    };
    let file = entries.filter(known).min()?;
    let what = named(&file).ok()??;
    Some(format!("{}: no model.safetensors and no index of shards beside it; this is {what}", file.display()))
}

fn head(file: File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// What begins so, and what to do with it.
fn sort(head: &[u8]) -> Option<(&'static str, &'static str)> {
    /// A file of the first tensor or object in a zip archive, by the end of its name.
    const ZIPPED: [(&str, &str, &str); 2] = [
        ("data.pkl", "PyTorch weights (a zip archive with a pickle)", SAVE),
        (".npy", "NumPy arrays (npz)", CONVERT),
    ];
    const MAGIC: [(&[u8], &str, &str); 15] = [
        (b"GGUF", "GGUF weights, as llama.cpp reads them", FILE),
        (b"lmgg", "GGML weights, as an old llama.cpp read them", CONVERT),
        (b"tjgg", "GGML weights, as an old llama.cpp read them", CONVERT),
        (b"\x93NUMPY", "a NumPy array (npy)", CONVERT),
        (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras saves weights", CONVERT),
        (b"PK\x03\x04", "a zip archive", UNPACK),
        (b"\x1f\x8b", "a gzip archive", UNPACK),
        (b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
        (b"\xfd7zXZ\0", "an xz archive", UNPACK),
        (b"BZh", "a bzip2 archive", UNPACK),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
        (
            b"version https://git-lfs.",
            "what Git keeps in place of a large file; `git lfs pull` brings it",
            FOLDER,
        ),
        (b"<!DOCTYPE html", "a web page, not what it links to", RECORDS),
        (b"<!doctype html", "a web page, not what it links to", RECORDS),
        (b"<html", "a web page, not what it links to", RECORDS),
    ];
    if let Some(name) = head.strip_prefix(b"PK\x03\x04").and_then(first_zipped) {
        let zipped = ZIPPED.into_iter().find(|(end, ..)| name.ends_with(end.as_bytes()));
        if let Some((_, what, then)) = zipped {
            return Some((what, then));
        }
    }
    if let Some((_, what, then)) = MAGIC.into_iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Some((what, then));
    }
    let at = |range: std::ops::Range<usize>| head.get(range).unwrap_or_default();
    Some(match head {
        _ if at(257..262) == b"ustar" => ("a tar archive", UNPACK),
        _ if is_safetensors(head) => ("weights alone (safetensors)", FOLDER),
        [0x80, 2..=5, ..] => ("a pickle, as PyTorch saves weights", SAVE),
        _ if is_onnx(head) => ("an ONNX model", CONVERT),
        _ if is_text(head) && head.trim_ascii_start().starts_with(b"{") => ("a JSON file", FOLDER),
        _ if is_text(head) => ("a text", RECORDS),
        _ => return None,
    })
}

/// The name of the first file in a zip archive, from behind its magic number.
fn first_zipped(header: &[u8]) -> Option<&[u8]> {
    let length = header.get(22..24)?;
    let length = u16::from_le_bytes([length[0], length[1]]) as usize;
    header.get(26..26 + length)
}

/// The length of a JSON object, and the object.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((length, json)) = head.split_first_chunk() else {
        return false;
    };
    (2..1 << 32).contains(&u64::from_le_bytes(*length)) && json.starts_with(b"{")
}

/// A protocol buffer that begins with a small `ir_version`, behind which a text or a message comes, as ONNX's
/// `ModelProto` does.
fn is_onnx(head: &[u8]) -> bool {
    const IR_VERSION: u8 = 1 << 3;
    matches!(head, [IR_VERSION, 1..=31, next, ..] if matches!(next >> 3, 2..=8 | 14 | 20) && next & 7 == 2)
}

/// Is it UTF-8, but for a character that is cut, without what no text has?
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(head: &[u8]) -> &'static str {
        sort(head).map_or("", |(what, _)| what)
    }

    #[test]
    fn files_are_known_by_their_beginning() {
        let zip = |name: &str| {
            let mut bytes = b"PK\x03\x04".to_vec();
            bytes.resize(26, 0);
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0, 0]);
            bytes.extend(name.as_bytes());
            bytes
        };
        let mut tar = vec![b'x'; 300];
        tar[100] = 0;
        tar[257..262].copy_from_slice(b"ustar");
        for (head, expected) in [
            (&b"GGUF\x03\0\0\0"[..], "GGUF"),
            (&zip("archive/data.pkl"), "PyTorch"),
            (&zip("logits.npy"), "NumPy arrays"),
            (&zip("readme.txt"), "a zip"),
            (b"PK\x03\x04", "a zip"),
            (&tar, "a tar"),
            (b"\x1f\x8b\x08", "a gzip"),
            (b"\x80\x02\x8a\x0a\x6c", "a pickle"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX"),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", "weights alone"),
            (b"{\"a\": 1}", "a JSON"),
            ("caf\u{e9}, a text\n".as_bytes(), "a text"),
            (&"caf\u{e9}".as_bytes()[..4], "a text"),
            (b"version https://git-lfs.github.com/spec/v1\n", "what Git keeps"),
            (b"\0\x01\x02\x03", ""),
            (b"\xff\xfe", ""),
        ] {
            let found = what(head);
            assert!(
                found.starts_with(expected) && found.is_empty() == expected.is_empty(),
                "{expected}: {found}"
            );
        }
    }
}
