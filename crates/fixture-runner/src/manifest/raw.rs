use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use qwen3_report::Kind;
use qwen3_trace::{Floor, Precision};

use super::{
    AttentionSizes, Case, CheckpointFiles, Data, ExpectedFailure, Norm, Place, SameDType, Subject, TensorList,
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
    #[serde(default)]
    pub(super) random: Vec<RawRandom>,
}

/// An archive of random models with their logits. The tests of `qwen3-import` read it; no parity case does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRandom {
    pub(super) file: String,
    #[serde(rename = "description")]
    _description: String,
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

/// The fields of a case, taken one by one by what its kind needs.
struct Fields {
    kind: Kind,
    case: RawCase,
}

impl Fields {
    fn need<T>(
        &mut self,
        field: &'static str,
        take: fn(&mut RawCase) -> &mut Option<T>,
    ) -> Result<T, String> {
        let taken = take(&mut self.case).take();
        taken.ok_or_else(|| format!("kind {} needs `{field}`", self.kind))
    }

    fn checkpoint(&mut self) -> Result<String, String> {
        self.need("checkpoint", |case| &mut case.checkpoint)
    }

    fn place(&mut self) -> Result<Place, String> {
        Ok(Place { checkpoint: self.checkpoint()?, layer: self.need("layer", |case| &mut case.layer)? })
    }

    fn norm(&mut self) -> Result<Norm, String> {
        let module = self.need("module", |case| &mut case.module)?;
        let known = Norm::ALL.into_iter().find(|norm| norm.name() == module);
        let [first, second] = Norm::ALL.map(Norm::name);
        known.ok_or_else(|| format!("module `{module}` is neither {first} nor {second}"))
    }

    fn data(&mut self) -> Result<Data, String> {
        Ok(Data {
            inputs: self.need("inputs", |case| &mut case.inputs)?,
            expected: self.need("expected", |case| &mut case.expected)?,
            noise_floors: std::mem::take(&mut self.case.noise_floors).into_maps(),
        })
    }

    /// That nothing is left which the kind does not have.
    fn finish(&self) -> Result<(), String> {
        let case = &self.case;
        let left = [
            ("checkpoint", case.checkpoint.is_some()),
            ("attention", case.attention.is_some()),
            ("chunk_size", case.chunk_size.is_some()),
            ("layer", case.layer.is_some()),
            ("module", case.module.is_some()),
            ("inputs", case.inputs.is_some()),
            ("expected", case.expected.is_some()),
            ("noise_floors", !case.noise_floors.0.is_empty()),
            ("same_dtype", !case.same_dtype.0.is_empty()),
        ];
        match left.into_iter().find(|(_, left)| *left) {
            Some((field, _)) => Err(format!("kind {} has no `{field}`", self.kind)),
            None => Ok(()),
        }
    }
}

impl RawCase {
    /// The case as its `kind` has it.
    ///
    /// # Errors
    /// A field that the kind needs and the case lacks, or the other way round.
    pub(super) fn into_case(self, kind: Kind) -> Result<Case, String> {
        let (id, description) = (self.id.clone(), self.description.clone());
        let expected_failures = self.expected_failures.clone();
        let mut fields = Fields { kind, case: self };
        let subject = match kind {
            Kind::RmsNorm => Subject::RmsNorm {
                place: fields.place()?,
                norm: fields.norm()?,
                data: fields.data()?,
                same_dtype: std::mem::take(&mut fields.case.same_dtype).into_maps(),
            },
            Kind::Mlp => Subject::Mlp(fields.place()?, fields.data()?),
            Kind::Attention => Subject::Attention(fields.place()?, fields.data()?),
            Kind::DecoderLayer => Subject::DecoderLayer(fields.place()?, fields.data()?),
            Kind::FullModel => Subject::FullModel(fields.checkpoint()?, fields.data()?),
            Kind::Prefill => Subject::Prefill {
                checkpoint: fields.checkpoint()?,
                chunk_size: fields.need("chunk_size", |case| &mut case.chunk_size)?,
                data: fields.data()?,
            },
            Kind::ScaledDotProductAttention => {
                let sizes = fields.need("attention", |case| &mut case.attention)?;
                Subject::ScaledDotProductAttention(sizes, fields.data()?)
            }
            Kind::Gradients => Subject::Gradients(fields.checkpoint()?, fields.data()?),
            Kind::Greedy => Subject::Greedy(fields.checkpoint()?, fields.data()?),
            Kind::RecordRoundtrip => Subject::RecordRoundtrip(fields.checkpoint()?),
        };
        fields.finish()?;
        Ok(Case { id, description, subject, expected_failures })
    }
}

/// Something for each tensor and dtype.
pub(super) type PerTensor<V> = Unique<String, Unique<Precision, V>>;

/// A JSON object in which no key occurs twice; JSON libraries keep the last in silence.
pub(super) struct Unique<K: Ord, V>(pub(super) BTreeMap<K, V>);

impl<K: Ord, V> Default for Unique<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> PerTensor<V> {
    /// The same as plain maps.
    pub(super) fn into_maps(self) -> BTreeMap<String, BTreeMap<Precision, V>> {
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
