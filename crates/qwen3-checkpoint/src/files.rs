use std::fs::{self, File};
use std::path::Path;

use crate::CheckpointError;

/// Opens a regular file; gives it with its length in bytes. Of a pipe or a device no length is known, and
/// opening one may wait for ever.
///
/// # Errors
/// When it is not there, or is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), CheckpointError> {
    let io = |source| CheckpointError::Io {
        file: path.into(),
        source,
    };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(CheckpointError::Malformed {
            file: path.into(),
            reason: "not a regular file".into(),
        });
    }
    let file = File::open(path).map_err(io)?;
    Ok((file, metadata.len()))
}
