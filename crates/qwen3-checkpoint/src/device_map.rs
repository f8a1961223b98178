use std::path::Path;

use qwen3_config::DeviceMapFile;

use crate::CheckpointError;
use crate::files::read_json;

/// The device map in `file`; see [`DeviceMapFile`] for its form.
///
/// # Errors
/// When the file is missing, unreadable or no device map, naming the key.
pub fn read_device_map(file: impl AsRef<Path>) -> Result<DeviceMapFile, CheckpointError> {
    let file = file.as_ref();
    let text = String::from_utf8(read_json(file)?)
        .map_err(|error| CheckpointError::Malformed { file: file.into(), reason: error.to_string() })?;
    DeviceMapFile::from_json(&text).map_err(|source| CheckpointError::Config { file: file.into(), source })
}
