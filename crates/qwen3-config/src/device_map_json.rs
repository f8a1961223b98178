//! A device map in a file.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{invalid, unsupported};
use crate::{ConfigError, DeviceMap, DeviceMapError, Extent, Footprint, Precision, Qwen3Config};

/// A device map as a file has it, before there is a model to hold it against.
///
/// Either each device has its layers, first and last:
///
/// ```json
/// {"devices": [{"device": "flex", "layers": [0, 13]}, {"device": "remote:10.0.0.2:3000", "layers": [14, 27]}]}
/// ```
///
/// or each has its memory in bytes, to be filled in their order, and the tokens that caches have room for are told:
///
/// ```json
/// {"context": 4096, "devices": [{"device": "cuda:0", "memory": 8000000000}, {"device": "flex", "memory": 16000000000}]}
/// ```
///
/// Names of devices are the caller's: whatever it can open.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use qwen3_config::{DeviceMapFile, Extent, ModelPart, Precision, Qwen3Config};
/// let text = r#"{"devices": [{"device": "a", "layers": [0, 1]}, {"device": "b", "layers": [2, 2]}]}"#;
/// let map = DeviceMapFile::from_json(text)?.place(&Qwen3Config::tiny(), Extent::Whole, Precision::F32, 1, 256)?;
/// assert_eq!(map.device(ModelPart::Layer(1)).name, "a");
/// assert_eq!(map.device(ModelPart::End).name, "b");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMapFile {
    devices: Devices,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Devices {
    /// Layers by their device.
    Layers(Vec<(RangeInclusive<usize>, DeviceName)>),
    /// Bytes by their device.
    Memory { context: usize, budgets: Vec<(DeviceName, u64)> },
}

impl DeviceMapFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names the key that is missing, unknown or malformed, as in `devices[1].layers`.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            ConfigError::Json { message }
        })?;
        known(&object, "", &["devices", "context"])?;
        let devices = object.get("devices").ok_or_else(|| missing("devices".into()))?;
        let entries = devices.as_array().filter(|entries| !entries.is_empty());
        let entries = entries.ok_or_else(|| invalid("devices", devices, "a list of devices"))?;
        let by_memory = entries[0].get("memory").is_some();
        let context = object.get("context");
        let entry = |(index, value)| Entry::read(index, value);
        if by_memory {
            let context = context.ok_or_else(|| missing("context".into()))?;
            let tokens = context.as_u64().filter(|tokens| (1..=1 << 24).contains(tokens));
            let tokens = tokens.and_then(|tokens| usize::try_from(tokens).ok());
            let context =
                tokens.ok_or_else(|| invalid("context", context, "a number of tokens from 1 to 16777216"))?;
            let budgets = entries.iter().enumerate().map(|each| entry(each)?.memory());
            let budgets = budgets.collect::<Result<_, _>>()?;
            return Ok(Self { devices: Devices::Memory { context, budgets } });
        }
        if let Some(context) = context {
            return Err(unsupported("context", context, "only where devices have `memory`"));
        }
        let layers = entries.iter().enumerate().map(|each| entry(each)?.layers());
        Ok(Self { devices: Devices::Layers(layers.collect::<Result<_, _>>()?) })
    }

    /// Holds it against so much of a model of `config`, whose weights and caches are in `dtype`, with `batch` sequences side by
    /// side of which at most `chunk` tokens are read at a time.
    ///
    /// # Errors
    /// Those of [`DeviceMap::of_ranges`] and [`DeviceMap::fill`].
    pub fn place(
        self,
        config: &Qwen3Config,
        extent: Extent,
        dtype: Precision,
        batch: usize,
        chunk: usize,
    ) -> Result<DeviceMap<DeviceName>, DeviceMapError> {
        match self.devices {
            Devices::Layers(ranges) => DeviceMap::of_ranges(ranges, config.num_hidden_layers),
            Devices::Memory { context, budgets } => {
                DeviceMap::fill(config, Footprint { extent, dtype, batch, context, chunk }, budgets)
            }
        }
    }
}

/// What a file calls a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    /// Where it says so, as in `devices[1].device`.
    pub field: String,
    /// The name.
    pub name: String,
}

/// An entry of `devices`.
struct Entry<'a> {
    path: String,
    device: &'a str,
    object: &'a Map<String, Value>,
}

impl<'a> Entry<'a> {
    fn read(index: usize, value: &'a Value) -> Result<Self, ConfigError> {
        let path = format!("devices[{index}]");
        let object = value.as_object();
        let object = object.ok_or_else(|| invalid(&path, value, "an object with `device` and `layers`"))?;
        known(object, &format!("{path}."), &["device", "layers", "memory"])?;
        let field = format!("{path}.device");
        let device = object.get("device").ok_or_else(|| missing(field.clone()))?;
        let device = device.as_str().ok_or_else(|| invalid(&field, device, "the name of a device"))?;
        Ok(Self { path, device, object })
    }

    /// The value of `key`; there is none of `other`.
    fn value(&self, key: &str, other: &str) -> Result<(String, &'a Value), ConfigError> {
        if let Some(value) = self.object.get(other) {
            let supported =
                format!("either all devices have `layers` or all have `memory`, and the first has `{key}`");
            return Err(unsupported(&format!("{}.{other}", self.path), value, supported));
        }
        let field = format!("{}.{key}", self.path);
        let value = self.object.get(key).ok_or_else(|| missing(field.clone()))?;
        Ok((field, value))
    }

    fn named(&self) -> DeviceName {
        DeviceName { field: format!("{}.device", self.path), name: self.device.into() }
    }

    fn layers(self) -> Result<(RangeInclusive<usize>, DeviceName), ConfigError> {
        let (field, value) = self.value("layers", "memory")?;
        let layer = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|layer| *layer < 1 << 24);
        let ends = value.as_array().map(|ends| ends.iter().map(layer).collect::<Vec<_>>());
        match ends.as_deref() {
            Some([Some(first), Some(last)]) => Ok((*first..=*last, self.named())),
            _ => Err(invalid(&field, value, "the numbers of its first layer and its last")),
        }
    }

    fn memory(self) -> Result<(DeviceName, u64), ConfigError> {
        let (field, value) = self.value("memory", "layers")?;
        let bytes = value.as_u64().ok_or_else(|| invalid(&field, value, "a number of bytes"))?;
        Ok((self.named(), bytes))
    }
}

fn missing(field: String) -> ConfigError {
    ConfigError::Missing { field }
}

/// Are all keys of the object at `path` among `keys`?
fn known(object: &Map<String, Value>, path: &str, keys: &[&str]) -> Result<(), ConfigError> {
    match object.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, value)) => {
            let supported = format!("the keys here are `{}`", keys.join("`, `"));
            Err(unsupported(&format!("{path}{key}"), value, supported))
        }
    }
}
