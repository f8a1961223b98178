use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{
    AttentionSizes, CheckpointFiles, ExpectedFailure, Floor, SameDType, TensorList, TestDType,
};

/// The one field that is read whatever the schema.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) schema: serde_json::Value,
}

/// The manifest as JSON has it, before its references are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    #[serde(rename = "schema")]
    _schema: serde_json::Value,
    pub(super) generator: serde_json::Map<String, serde_json::Value>,
    pub(super) checkpoints: Unique<String, CheckpointFiles>,
    pub(super) files: Unique<String, String>,
    pub(super) cases: Vec<RawCase>,
    #[serde(default)]
    pub(super) observed: Vec<RawObserved>,
    #[serde(default)]
    pub(super) text: Vec<RawText>,
}

/// A fixture about text. The tests of `qwen3-text` read it; no parity case does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawText {
    pub(super) id: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) checkpoint: String,
    pub(super) file: String,
    pub(super) parameters: Option<String>,
    #[serde(rename = "description")]
    _description: String,
}

/// Activations of an implementation with known mistakes, as `verify --observed` takes them. No parity
/// case reads them; the tests of `verify` do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawObserved {
    pub(super) id: String,
    pub(super) checkpoint: String,
    pub(super) reference: String,
    pub(super) file: String,
    #[serde(rename = "description")]
    _description: String,
    #[serde(rename = "causes")]
    _causes: Vec<String>,
    #[serde(rename = "first_divergence")]
    _first_divergence: serde_json::Value,
}

/// A case as JSON has it. The kind is text, so that an unknown one can be reported with the case's id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCase {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) description: String,
    pub(super) checkpoint: Option<String>,
    pub(super) layer: Option<usize>,
    pub(super) module: Option<String>,
    pub(super) attention: Option<AttentionSizes>,
    pub(super) chunk_size: Option<usize>,
    pub(super) inputs: Option<TensorList>,
    pub(super) expected: Option<TensorList>,
    #[serde(default)]
    pub(super) noise_floors: PerTensor<Floor>,
    #[serde(default)]
    pub(super) same_dtype: PerTensor<SameDType>,
    #[serde(default)]
    pub(super) expected_failures: Vec<ExpectedFailure>,
}

/// Something for each tensor and dtype.
pub(super) type PerTensor<V> = Unique<String, Unique<TestDType, V>>;

/// A JSON object in which no key occurs twice; JSON libraries keep the last in silence.
pub(super) struct Unique<K: Ord, V>(pub(super) BTreeMap<K, V>);

impl<K: Ord, V> Default for Unique<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> PerTensor<V> {
    /// The same as plain maps.
    pub(super) fn into_maps(self) -> BTreeMap<String, BTreeMap<TestDType, V>> {
        let entries = self.0.into_iter();
        entries.map(|(tensor, values)| (tensor, values.0)).collect()
    }
}

/// For `deserialize_with` on a plain map.
pub(super) fn unique<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    Unique::deserialize(deserializer).map(|unique| unique.0)
}

impl<'de, K, V> Deserialize<'de> for Unique<K, V>
where
    K: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K, V> Visitor<'de> for Entries<K, V>
        where
            K: Deserialize<'de> + Ord + fmt::Display,
            V: Deserialize<'de>,
        {
            type Value = BTreeMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<K>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format!("duplicate key `{key}`")));
                    }
                    entries.insert(key, map.next_value()?);
                }
                Ok(entries)
            }
        }

        let entries = deserializer.deserialize_map(Entries(PhantomData))?;
        Ok(Self(entries))
    }
}
