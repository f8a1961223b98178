use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::CheckpointError;

/// A `config.json` or an index larger than this is not one.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Opens a regular file; gives it with its length in bytes. Of a pipe or a device no length is known, and
/// opening one may wait for ever.
///
/// # Errors
/// When it is not there, or is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), CheckpointError> {
    let io = |source| CheckpointError::Io { file: path.into(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        let reason = qwen3_config::not_regular(&metadata);
        return Err(CheckpointError::Malformed { file: path.into(), reason });
    }
    let file = File::open(path).map_err(io)?;
    Ok((file, metadata.len()))
}

/// A JSON file of a sane size.
pub(crate) fn read_json(file: &Path) -> Result<Vec<u8>, CheckpointError> {
    let (opened, length) = open_regular(file)?;
    if length > MAX_JSON_BYTES {
        return Err(CheckpointError::Malformed {
            file: file.into(),
            reason: format!("{length} bytes, at most {MAX_JSON_BYTES} are read"),
        });
    }
    let mut bytes = Vec::new();
    match opened.take(MAX_JSON_BYTES).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(CheckpointError::Io { file: file.into(), source }),
    }
}
