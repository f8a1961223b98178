#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use qwen3_checkpoint::open_regular;
use serde::Deserialize;
use serde_json::Value;
use zip::ZipArchive;

use super::decode::{Element, count, decode};
use super::{Array, check_size};
use crate::TraceError;

/// A header longer than this is not one of a plain array.
const MAX_NPY_HEADER: usize = 4096;

/// An open npz file. Arrays are unpacked when they are read.
#[derive(Debug)]
pub(super) struct Npz {
    file: PathBuf,
    archive: RefCell<ZipArchive<BufReader<File>>>,
    /// The archive's entry for each array.
    entries: BTreeMap<String, String>,
}

impl Npz {
    /// Opens a file and reads its directory, in which no array may occur twice.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let malformed = |reason: String| TraceError::malformed(path, reason);
        let (file, _) = open_regular(path)?;
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|error| malformed(format!("not an npz file: {error}")))?;
        let entries: BTreeMap<_, _> =
            archive.file_names().map(|entry| (array_name(entry).into(), entry.into())).collect();
        if entries.len() != archive.len() {
            return Err(malformed(format!(
                "{} entries for {} arrays: a name occurs twice",
                archive.len(),
                entries.len()
            )));
        }
        Ok(Self { file: path.into(), entries, archive: RefCell::new(archive) })
    }

    /// Is there an array of this name, with or without `.npy`?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The names of all arrays, without `.npy`.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn entry(&self, name: &str) -> Option<&String> {
        self.entries.get(array_name(name))
    }

    /// Decodes an array: `<f2`, `<f4`, `<f8`, `<i4` or `<i8` in C order.
    pub(super) fn read(&self, name: &str) -> Result<Array, TraceError> {
        let Some(entry) = self.entry(name) else {
            return Err(TraceError::NoTensor { file: self.file.clone(), tensor: name.into() });
        };
        let unpacked = self.unpack(name, entry)?;
        let (header, data) = header(&unpacked).map_err(|reason| self.malformed(name, reason))?;
        let element = element(&header.descr).ok_or_else(|| TraceError::DType {
            file: self.file.clone(),
            tensor: name.into(),
            expected: "<f2, <f4, <f8, <i4 or <i8",
            found: header.descr.to_string().replace('"', "'"),
        })?;
        if count(&header.shape, element, data.len()).is_none() {
            let (found, shape) = (data.len(), &header.shape);
            return Err(self.malformed(name, format!("{found} bytes of data do not fit shape {shape:?}")));
        }
        // With one axis longer than 1 the two orders are the same, and NumPy may name either.
        if header.fortran_order && header.shape.iter().filter(|&&dim| dim > 1).count() > 1 {
            return Err(self.malformed(name, "Fortran order; save it in C order"));
        }
        let shape = header.shape.iter().map(|&dim| dim as usize).collect();
        decode(&self.file, name, shape, element, data)
    }

    /// The bytes of an entry, of which there must be as many as the directory says.
    fn unpack(&self, name: &str, entry: &str) -> Result<Vec<u8>, TraceError> {
        let mut archive = self.archive.borrow_mut();
        let entry = archive.by_name(entry).map_err(|error| self.malformed(name, error))?;
        let size = entry.size();
        check_size(&self.file, name, size)?;
        // Grows with what is unpacked, not with what the directory claims; one byte more than claimed is
        // asked for so that the end is reached, where the checksum is compared.
        let mut bytes = Vec::new();
        entry.take(size + 1).read_to_end(&mut bytes).map_err(|error| self.malformed(name, error))?;
        if bytes.len() as u64 != size {
            return Err(self
                .malformed(name, format!("the archive claims {size} bytes, the entry has another number")));
        }
        Ok(bytes)
    }

    fn malformed(&self, name: &str, reason: impl fmt::Display) -> TraceError {
        TraceError::Tensor { file: self.file.clone(), tensor: name.into(), reason: reason.to_string() }
    }
}

/// The array that an archive's entry holds: `numpy.savez` adds `.npy` to its name.
fn array_name(entry: &str) -> &str {
    entry.strip_suffix(".npy").unwrap_or(entry)
}

/// What stands before the data of an npy array, as `numpy.lib.format` tells it.
#[derive(Deserialize)]
struct Header {
    descr: Value,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The header of an npy array, and the data behind it.
fn header(npy: &[u8]) -> Result<(Header, &[u8]), String> {
    let short = || "too short for an npy array".to_string();
    let start = match npy.get(..8).ok_or_else(short)? {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0] => 10,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0] => 12,
        _ => return Err("not an npy array of version 1, 2 or 3".into()),
    };
    let mut length = [0; 4];
    let field = npy.get(8..start).ok_or_else(short)?;
    length[..field.len()].copy_from_slice(field);
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_NPY_HEADER {
        return Err(format!("a header of {length} bytes, at most {MAX_NPY_HEADER} are read"));
    }
    let text = npy.get(start..start + length).ok_or_else(short)?;

    // A Python dict of a text, a boolean and a tuple, which is JSON but for the signs. A plain array's has no
    // text with a sign in it; another's is not read.
    let text: String = String::from_utf8_lossy(text).split_whitespace().collect();
    let json = text.replace('\'', "\"").replace("False", "false").replace("True", "true");
    let json = json.replace('(', "[").replace(')', "]").replace(",]", "]").replace(",}", "}");
    let header = serde_json::from_str(&json)
        .map_err(|error| format!("the header is not that of a plain array: {error}"))?;
    Ok((header, &npy[start + length..]))
}

/// The element of a dtype that is read.
fn element(descr: &Value) -> Option<Element> {
    match descr.as_str()? {
        "<f2" => Some(Element::F16),
        "<f4" => Some(Element::F32),
        "<f8" => Some(Element::F64),
        "<i4" => Some(Element::I32),
        "<i8" => Some(Element::I64),
        _ => None,
    }
}
