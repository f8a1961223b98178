use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use qwen3_checkpoint::open_regular;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use super::{check_size, malformed};
use crate::TraceError;

/// The most that deflate makes of a byte: two bits for 258 bytes.
const MOST_UNPACKED: u64 = 4 * 258;

/// An open zip archive, whose entries are unpacked when they are read.
#[derive(Debug)]
pub(super) struct Archive {
    file: PathBuf,
    zip: RefCell<ZipArchive<BufReader<File>>>,
    names: BTreeSet<String>,
}

impl Archive {
    /// Opens a file, which is said to be `what`, and reads its directory.
    pub(super) fn open(path: &Path, what: &str) -> Result<Self, TraceError> {
        let (file, _) = open_regular(path)?;
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|error| TraceError::malformed(path, format!("not {what}: {error}")))?;
        let names = zip.file_names().map(String::from).collect();
        Ok(Self { file: path.into(), zip: RefCell::new(zip), names })
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The names of its entries.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// How many entries it has, of the same name or not.
    pub(super) fn len(&self) -> usize {
        self.zip.borrow().len()
    }

    /// What `read` makes of an entry, which is of tensor `tensor`, and of its size; what is claimed of that has been
    /// checked against the bytes that are there.
    pub(super) fn with<T>(
        &self,
        entry: &str,
        tensor: &str,
        read: impl FnOnce(&mut ZipFile, u64) -> Result<T, TraceError>,
    ) -> Result<T, TraceError> {
        let mut zip = self.zip.borrow_mut();
        let mut entry = zip.by_name(entry).map_err(|error| malformed(&self.file, tensor, error))?;
        let (size, packed) = (entry.size(), entry.compressed_size());
        check_size(&self.file, tensor, size)?;
        let possible = match entry.compression() {
            CompressionMethod::Stored => packed,
            _ => packed.saturating_mul(MOST_UNPACKED),
        };
        if size > possible {
            let reason = format!("the archive claims {size} bytes, but has {packed} packed ones");
            return Err(malformed(&self.file, tensor, reason));
        }
        read(&mut entry, size)
    }
}

/// The rest of what `from` reads, which must be `size` bytes.
pub(super) fn read_rest(
    file: &Path,
    tensor: &str,
    from: &mut impl Read,
    size: u64,
) -> Result<Vec<u8>, TraceError> {
    // Grows with what is there, not with what is claimed; one byte more than claimed is asked for so that the end is
    // reached, where an archive's checksum is compared.
    let mut bytes = Vec::new();
    from.take(size + 1).read_to_end(&mut bytes).map_err(|error| malformed(file, tensor, error))?;
    if bytes.len() as u64 != size {
        let (found, more) = (bytes.len() as u64, bytes.len() as u64 > size);
        let found = if more { "more".into() } else { format!("{found} bytes") };
        let reason = format!("{size} bytes of data are claimed, there are {found}");
        return Err(malformed(file, tensor, reason));
    }
    Ok(bytes)
}
