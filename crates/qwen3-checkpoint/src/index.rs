//! `model.safetensors.index.json`, and the shards that it names.

use std::collections::HashMap;
use std::path::{Component, Path};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::files::read_json;
use crate::safetensors_file::unique_entries;
use crate::{CheckpointError, SafetensorsFile};

/// Opens the shards of an index; the keys of the index and of the files must be the same.
pub(crate) fn open_shards(
    dir: &Path,
    index: &Path,
) -> Result<(Vec<SafetensorsFile>, HashMap<String, usize>), CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { file: index.into(), reason };
    let entries = unique_entries::<Box<RawValue>>(&read_json(index)?, index)?;
    let map = entries.iter().find(|(key, _)| key == "weight_map");
    let (_, map) = map.ok_or_else(|| malformed("`weight_map` is missing".into()))?;
    let map = unique_entries::<Value>(map.get().as_bytes(), index)?;

    let mut shards: Vec<SafetensorsFile> = Vec::new();
    let mut opened: HashMap<String, usize> = HashMap::new();
    let mut keys = HashMap::new();
    for (key, target) in map {
        let name = target
            .as_str()
            .ok_or_else(|| malformed(format!("`weight_map.{key}` is {target}, not a file name")))?;
        let shard = match opened.get(name) {
            Some(&shard) => shard,
            None => {
                let mut parts = Path::new(name).components();
                let plain = matches!(
                    (parts.next(), parts.next()),
                    (Some(Component::Normal(part)), None) if part == name
                );
                if !plain || name.contains('\\') {
                    return Err(CheckpointError::OutsideDirectory {
                        file: index.into(),
                        key,
                        target: name.into(),
                    });
                }
                if name.contains(char::is_control) {
                    return Err(malformed(format!("`weight_map.{key}` is {name:?}, not a file name")));
                }
                shards.push(SafetensorsFile::open(&dir.join(name))?);
                opened.insert(name.into(), shards.len() - 1);
                shards.len() - 1
            }
        };
        if shards[shard].info(&key).is_none() {
            return Err(CheckpointError::MissingKey { file: shards[shard].path().into(), key });
        }
        keys.insert(key, shard);
    }
    for (number, shard) in shards.iter().enumerate() {
        let strays = shard.names().filter(|key| keys.get(*key) != Some(&number));
        if let Some(key) = strays.min() {
            let (file, key) = (shard.path().into(), key.to_string());
            return Err(if keys.contains_key(&key) {
                CheckpointError::DuplicateKey { file, key }
            } else {
                CheckpointError::UnusedKey { file, key }
            });
        }
    }
    Ok((shards, keys))
}
