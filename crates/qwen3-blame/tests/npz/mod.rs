//! Changed copies of npz files.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zip::write::FileOptions;
use zip::{ZipArchive, ZipWriter};

/// A copy of `npz` in `folder`: the arrays that `edit` wants, under the names and with the bytes that it leaves.
pub fn edited(npz: &Path, folder: &Path, edit: impl Fn(&mut String, &mut Vec<u8>) -> bool) -> PathBuf {
    let path = folder.join("edited.npz");
    let mut from = ZipArchive::new(File::open(npz).unwrap()).unwrap();
    let mut to = ZipWriter::new(File::create(&path).unwrap());
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let mut name = entry.name().strip_suffix(".npy").unwrap().to_string();
        if edit(&mut name, &mut bytes) {
            to.start_file(format!("{name}.npy"), FileOptions::default()).unwrap();
            to.write_all(&bytes).unwrap();
        }
    }
    to.finish().unwrap();
    path
}
