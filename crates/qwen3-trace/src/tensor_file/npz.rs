#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use npyz::{DType, NpyHeader, Order};
use qwen3_checkpoint::open_regular;
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
        let header_bytes = header_length(&unpacked).map_err(|reason| self.malformed(name, reason))?;
        let (header, data) = unpacked.split_at(header_bytes);
        let header = NpyHeader::from_reader(header).map_err(|error| self.malformed(name, error))?;

        let element = element(&header.dtype()).ok_or_else(|| TraceError::DType {
            file: self.file.clone(),
            tensor: name.into(),
            expected: "<f2, <f4, <f8, <i4 or <i8",
            found: header.dtype().descr(),
        })?;
        let shape: Vec<usize> = header.shape().iter().map(|&dim| dim as usize).collect();
        if count(header.shape(), element, data.len()).is_none() {
            let found = data.len();
            return Err(self.malformed(name, format!("{found} bytes of data do not fit shape {shape:?}")));
        }
        // With one axis longer than 1 the two orders are the same, and NumPy may name either.
        if header.order() == Order::Fortran && shape.iter().filter(|&&dim| dim > 1).count() > 1 {
            return Err(self.malformed(name, "Fortran order; save it in C order"));
        }
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

/// The length of an npy header that npyz can be given.
///
/// npyz multiplies the dimensions without a check, reserves the length that a header claims and parses
/// nested Python literals by recursion; so this refuses headers longer than they need to be, anything
/// nested deeper than a shape in a dict, and shapes whose product overflows.
fn header_length(npy: &[u8]) -> Result<usize, String> {
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

    let number = |wanted: u8| text.iter().filter(|&&byte| byte == wanted).count();
    if number(b'{') != 1 || number(b'(') != 1 || number(b'[') != 0 {
        return Err("the header is not that of a plain array".into());
    }
    let inner = text.iter().skip_while(|&&byte| byte != b'(').skip(1);
    let inner: Vec<u8> = inner.copied().take_while(|&byte| byte != b')').collect();
    let mut product = 1_u64;
    for dim in inner.split(|&byte| byte == b',') {
        let dim = dim.trim_ascii();
        if dim.is_empty() {
            continue;
        }
        let dim = std::str::from_utf8(dim).ok().and_then(|dim| dim.parse::<u64>().ok());
        // A zero must not hide an overflow of the others.
        product = dim
            .and_then(|dim| product.checked_mul(dim.max(1)))
            .ok_or_else(|| "the header has no plain shape".to_string())?;
    }
    Ok(start + length)
}

/// The element of a dtype that is read.
fn element(dtype: &DType) -> Option<Element> {
    let DType::Plain(dtype) = dtype else {
        return None;
    };
    match dtype.to_string().as_str() {
        "<f2" => Some(Element::F16),
        "<f4" => Some(Element::F32),
        "<f8" => Some(Element::F64),
        "<i4" => Some(Element::I32),
        "<i8" => Some(Element::I64),
        _ => None,
    }
}
