#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use qwen3_checkpoint::open_regular;
use serde::Deserialize;
use serde_json::Value;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use super::decode::{Element, count, decode};
use super::{Array, check_size};
use crate::TraceError;

/// A header longer than this is not one of a plain array.
const MAX_NPY_HEADER: usize = 4096;
/// The most that deflate makes of a byte: two bits for 258 bytes.
const MOST_UNPACKED: u64 = 4 * 258;

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

    /// The shape of an array. Unpacks its header alone.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        self.with(name, |entry| Ok(self.head(name, entry)?.shape))
    }

    /// Decodes an array: `<f2`, `<f4`, `<f8`, `<i4` or `<i8` in C order.
    pub(super) fn read(&self, name: &str) -> Result<Array, TraceError> {
        self.with(name, |entry| {
            let Head { element, shape, bytes } = self.head(name, entry)?;
            let data = self.unpack(name, entry, bytes)?;
            decode(&self.file, name, shape, element, &data)
        })
    }

    /// What `read` makes of an array's entry.
    fn with<T>(
        &self,
        name: &str,
        read: impl FnOnce(&mut ZipFile) -> Result<T, TraceError>,
    ) -> Result<T, TraceError> {
        let Some(entry) = self.entry(name) else {
            return Err(TraceError::NoTensor { file: self.file.clone(), tensor: name.into() });
        };
        let mut archive = self.archive.borrow_mut();
        let mut entry = archive.by_name(entry).map_err(|error| self.malformed(name, error))?;
        read(&mut entry)
    }

    /// Reads an entry's header, and checks it against the sizes that the directory claims and has.
    fn head(&self, name: &str, entry: &mut ZipFile) -> Result<Head, TraceError> {
        let (size, packed) = (entry.size(), entry.compressed_size());
        check_size(&self.file, name, size)?;
        let possible = match entry.compression() {
            CompressionMethod::Stored => packed,
            _ => packed.saturating_mul(MOST_UNPACKED),
        };
        if size > possible {
            let reason = format!("the archive claims {size} bytes, but has {packed} packed ones");
            return Err(self.malformed(name, reason));
        }
        let (header, length) = header(entry).map_err(|reason| self.malformed(name, reason))?;
        let element = element(&header.descr).ok_or_else(|| TraceError::DType {
            file: self.file.clone(),
            tensor: name.into(),
            expected: "<f2, <f4, <f8, <i4 or <i8",
            found: header.descr.to_string().replace('"', "'"),
        })?;
        let bytes = size.saturating_sub(length);
        let shape = header.shape;
        if count(&shape, element, bytes).is_none() {
            return Err(self.malformed(name, format!("{bytes} bytes of data do not fit shape {shape:?}")));
        }
        // With one axis longer than 1 the two orders are the same, and NumPy may name either.
        if header.fortran_order && shape.iter().filter(|&&dim| dim > 1).count() > 1 {
            return Err(self.malformed(name, "Fortran order; save it in C order"));
        }
        Ok(Head { element, shape: shape.iter().map(|&dim| dim as usize).collect(), bytes })
    }

    /// The rest of an entry, which must be `size` bytes.
    fn unpack(&self, name: &str, entry: &mut ZipFile, size: u64) -> Result<Vec<u8>, TraceError> {
        // Grows with what is unpacked, not with what the directory claims; one byte more than claimed is
        // asked for so that the end is reached, where the checksum is compared.
        let mut bytes = Vec::new();
        entry.take(size + 1).read_to_end(&mut bytes).map_err(|error| self.malformed(name, error))?;
        if bytes.len() as u64 != size {
            let (found, more) = (bytes.len() as u64, bytes.len() as u64 > size);
            let found = if more { "more".into() } else { format!("{found} bytes") };
            return Err(self.malformed(name, format!("{size} bytes of data are claimed, there are {found}")));
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

/// An array's header, checked against the sizes of its entry.
struct Head {
    element: Element,
    shape: Vec<usize>,
    /// The bytes of its data.
    bytes: u64,
}

/// What stands before the data of an npy array, as `numpy.lib.format` tells it.
#[derive(Deserialize)]
struct Header {
    descr: Value,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The header of an npy array, read to its end, and how many bytes that took.
fn header(npy: &mut impl Read) -> Result<(Header, u64), String> {
    let mut read = |bytes: &mut [u8]| {
        npy.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "too short for an npy array".to_string(),
            _ => error.to_string(),
        })
    };
    let mut magic = [0; 8];
    read(&mut magic)?;
    let field = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0] => 2,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0] => 4,
        _ => return Err("not an npy array of version 1, 2 or 3".into()),
    };
    let mut length = [0; 4];
    read(&mut length[..field])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_NPY_HEADER {
        return Err(format!("a header of {length} bytes, at most {MAX_NPY_HEADER} are read"));
    }
    let mut text = vec![0; length];
    read(&mut text)?;

    // A Python dict of a text, a boolean and a tuple, which is JSON but for the signs. A plain array's has no
    // text with a sign in it; another's is not read.
    let text: String = String::from_utf8_lossy(&text).split_whitespace().collect();
    let json = text.replace('\'', "\"").replace("False", "false").replace("True", "true");
    let json = json.replace('(', "[").replace(')', "]").replace(",]", "]").replace(",}", "}");
    let header = serde_json::from_str(&json)
        .map_err(|error| format!("the header is not that of a plain array: {error}"))?;
    Ok((header, (magic.len() + field + length) as u64))
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
