//! What became of a checkpoint's weights: the report of `doctor`.

use serde::{Deserialize, Serialize};

use crate::SCHEMA;

/// How a tensor, or all of a checkpoint, stands to the original. The later ones are the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The same values.
    #[default]
    Same,
    /// The values as another precision has them.
    Precision,
    /// The values in another order, or stored twice, as another engine has them: no damage.
    Layout,
    /// Other values.
    Wrong,
}

impl Health {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Precision => "precision",
            Self::Layout => "layout",
            Self::Wrong => "wrong",
        }
    }
}

/// What happened to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// It is not in the files.
    Missing,
    /// It is in the files, and no model of this config has it.
    Unexpected,
    /// It cannot be read.
    Unreadable,
    /// It has another shape, which no known change explains.
    Shape,
    /// Values are NaN or infinite.
    NotFinite,
    /// All values are zero.
    Zero,
    /// Rows are zero.
    ZeroRows,
    /// It holds another tensor's values, which holds its.
    Exchanged,
    /// It holds another tensor's values, which holds its own, too: it was never written, or written twice.
    Stale,
    /// Rows hold other rows' values, which hold their own, too.
    StaleRows,
    /// Rows are in another order.
    RowsExchanged,
    /// A whole layer holds another's values.
    LayersExchanged,
    /// Rows and columns are exchanged.
    Transposed,
    /// Rows of queries and keys are in the order of interleaved rotary embeddings, as GGUF files of Llama have them.
    InterleavedRope,
    /// Rows of queries and keys were put into the order of halves from one that was this already.
    HalvedRope,
    /// One was taken from the weights of a norm.
    NormMinusOne,
    /// One was added to the weights of a norm.
    NormPlusOne,
    /// All values are multiplied with one number.
    Scaled,
    /// Rows are multiplied with numbers of their own.
    ScaledRows,
    /// Columns are multiplied with numbers of their own.
    ScaledColumns,
    /// The difference is a matrix of low rank: an adapter is merged, or is not.
    LowRank,
    /// Rows differ, and nothing known explains them.
    RowsDiffer,
    /// It differs, and nothing known explains it.
    Differs,
    /// The head is the embedding, where the original has a head of its own.
    TiedHead,
    /// The head is a matrix of its own, where the original's is the embedding.
    UntiedHead,
    /// The configs differ in what a model computes.
    Config,
}

impl Ailment {
    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unexpected => "unexpected",
            Self::Unreadable => "unreadable",
            Self::Shape => "another shape",
            Self::NotFinite => "NaN or infinite",
            Self::Zero => "all zero",
            Self::ZeroRows => "zero rows",
            Self::Exchanged => "exchanged",
            Self::Stale => "stale: holds another tensor's values",
            Self::StaleRows => "stale rows",
            Self::RowsExchanged => "rows exchanged",
            Self::LayersExchanged => "layers exchanged",
            Self::Transposed => "transposed",
            Self::InterleavedRope => "q/k permuted for interleaved RoPE",
            Self::HalvedRope => "q/k permuted back, though nothing was permuted",
            Self::NormMinusOne => "norm minus one",
            Self::NormPlusOne => "norm plus one",
            Self::Scaled => "scaled",
            Self::ScaledRows => "scaled rows",
            Self::ScaledColumns => "scaled columns",
            Self::LowRank => "a low-rank difference",
            Self::RowsDiffer => "rows differ",
            Self::Differs => "differs",
            Self::TiedHead => "head tied",
            Self::UntiedHead => "head untied",
            Self::Config => "another config",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub id: Ailment,
    /// How bad it is.
    pub health: Health,
    /// Whose.
    pub tensors: Vec<String>,
    /// In a sentence, with numbers.
    pub explanation: String,
    /// Whose values they are instead, where it is known; as many as `tensors`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// The rows that it is about, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<usize>,
    /// How many rows, where it is about rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_count: Option<usize>,
    /// The number that values are multiplied with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

/// The precision that values went through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Through {
    /// Its name: `bf16`, `q4_k`.
    pub format: String,
    /// How: every value rounded to nearest, as by that format's own conversion, cut off, or within its bound.
    pub how: Rounding,
    /// The largest error over what the format may be off by.
    pub ratio: f64,
}

/// How values were brought into a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To nearest, every one.
    Nearest,
    /// Towards zero, every one.
    Truncated,
    /// Some other way that stays within the format's bound.
    Within,
}

/// One tensor beside the original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorHealth {
    /// Its key in Hugging Face's checkpoints.
    pub name: String,
    /// How it stands to the original.
    pub health: Health,
    /// How its numbers are stored; nothing where it is missing.
    pub dtype: Option<String>,
    /// How the original's are; nothing where it is unexpected.
    pub original_dtype: Option<String>,
    /// Its shape.
    pub shape: Option<Vec<usize>>,
    /// What of it could be compared: the largest difference.
    pub max_abs: Option<f64>,
    /// The rms of the differences over that of the original.
    pub relative: Option<f64>,
    /// The precision that explains the difference.
    pub through: Option<Through>,
    /// What else happened to it.
    pub findings: Vec<Ailment>,
}

/// The report of `doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// The version of this form.
    pub schema: u32,
    /// The checkpoint that is looked at.
    pub model: String,
    /// Its format: `safetensors`, `record`, `gguf`.
    pub model_format: String,
    /// What it should be.
    pub original: String,
    /// The format of that.
    pub original_format: String,
    /// The worst that was found.
    pub health: Health,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Every tensor, in the order of a model.
    pub tensors: Vec<TensorHealth>,
    /// Values that were compared.
    pub values: usize,
    /// How long it took.
    pub elapsed_ms: f64,
}

impl DoctorReport {
    /// A report of two checkpoints, each with its format, in which nothing was looked at.
    pub fn new(model: (String, &str), original: (String, &str)) -> Self {
        Self {
            schema: SCHEMA,
            model: model.0,
            model_format: model.1.into(),
            original: original.0,
            original_format: original.1.into(),
            health: Health::Same,
            findings: Vec::new(),
            tensors: Vec::new(),
            values: 0,
            elapsed_ms: 0.0,
        }
    }

    /// Puts what was found into order and draws the conclusion.
    pub fn finish(&mut self) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.health));
        let found = self.findings.iter().map(|finding| finding.health);
        let all = self.tensors.iter().map(|tensor| tensor.health).chain(found);
        self.health = all.max().unwrap_or_default();
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    /// 1 when something is wrong, else 0.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.health == Health::Wrong)
    }

    /// The conclusion in a sentence.
    pub fn conclusion(&self) -> String {
        let count = |health| self.tensors.iter().filter(|tensor| tensor.health == health).count();
        let total = self.tensors.len();
        match self.health {
            Health::Same => format!("all {total} tensors hold the original's values"),
            Health::Precision => format!(
                "only precision differs: of {total} tensors {} as another precision has them, {} the same",
                count(Health::Precision),
                count(Health::Same)
            ),
            Health::Layout => format!(
                "no damage: of {total} tensors {} in another order, {} as another precision has them, {} the same",
                count(Health::Layout),
                count(Health::Precision),
                count(Health::Same)
            ),
            Health::Wrong => format!(
                "of {total} tensors {} wrong, {} in another order, {} as another precision has them, {} the same",
                count(Health::Wrong),
                count(Health::Layout),
                count(Health::Precision),
                count(Health::Same)
            ),
        }
    }

    /// Tensors that differ in precision or not at all, by what they were and are: of each kind how many, the largest
    /// error over the bound, and the largest relative one.
    pub fn kinds(&self) -> Vec<KindOfTensors> {
        let mut kinds: Vec<KindOfTensors> = Vec::new();
        for tensor in self.tensors.iter().filter(|tensor| tensor.health != Health::Wrong) {
            let (Some(dtype), Some(original_dtype)) = (&tensor.dtype, &tensor.original_dtype) else {
                continue;
            };
            let through = tensor.through.as_ref().map(|through| (through.format.clone(), through.how));
            let kind = kinds.iter_mut().find(|kind| {
                (&kind.dtype, &kind.original_dtype, &kind.through) == (dtype, original_dtype, &through)
            });
            let kind = match kind {
                Some(kind) => kind,
                None => {
                    kinds.push(KindOfTensors {
                        dtype: dtype.clone(),
                        original_dtype: original_dtype.clone(),
                        through,
                        count: 0,
                        ratio: 0.0,
                        relative: 0.0,
                    });
                    kinds.last_mut().expect("just pushed")
                }
            };
            kind.count += 1;
            kind.ratio = tensor.through.as_ref().map_or(0.0, |through| through.ratio).max(kind.ratio);
            kind.relative = tensor.relative.unwrap_or(0.0).max(kind.relative);
        }
        kinds
    }
}

/// Tensors that were stored alike and came alike.
#[derive(Clone, Debug, PartialEq)]
pub struct KindOfTensors {
    /// How their numbers are stored.
    pub dtype: String,
    /// How the original's are.
    pub original_dtype: String,
    /// The precision that they went through, and how.
    pub through: Option<(String, Rounding)>,
    /// How many.
    pub count: usize,
    /// The largest error over the format's bound.
    pub ratio: f64,
    /// The largest relative error.
    pub relative: f64,
}

impl KindOfTensors {
    /// What happened to them, in a few words.
    pub fn what(&self) -> String {
        match &self.through {
            None => "the same values".into(),
            Some((format, Rounding::Nearest)) => format!("rounded to {format}, every value"),
            Some((format, Rounding::Truncated)) => format!("cut off to {format}, every value"),
            Some((format, Rounding::Within)) => format!("within the bound of {format}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, health: Health) -> TensorHealth {
        let through = Through { format: "bf16".into(), how: Rounding::Nearest, ratio: 1.0 };
        TensorHealth {
            name: name.into(),
            health,
            dtype: Some("bf16".into()),
            original_dtype: Some("f32".into()),
            shape: Some(vec![2]),
            max_abs: Some(0.5),
            relative: Some(0.1),
            through: (health == Health::Precision).then_some(through),
            findings: Vec::new(),
        }
    }

    #[test]
    fn the_worst_decides_and_comes_first() {
        let mut report = DoctorReport::new(("a".into(), "gguf"), ("b".into(), "safetensors"));
        report.tensors =
            vec![tensor("x", Health::Same), tensor("y", Health::Precision), tensor("z", Health::Precision)];
        report.finish();
        assert_eq!((report.health, report.exit_code()), (Health::Precision, 0));
        assert_eq!(report.kinds().iter().map(|kind| kind.count).collect::<Vec<_>>(), [1, 2]);
        let finding = |id, health| Finding {
            id,
            health,
            tensors: vec!["x".into()],
            explanation: String::new(),
            with: Vec::new(),
            rows: Vec::new(),
            row_count: None,
            factor: None,
        };
        report.findings =
            vec![finding(Ailment::UntiedHead, Health::Layout), finding(Ailment::Zero, Health::Wrong)];
        report.finish();
        assert_eq!((report.findings[0].id, report.exit_code()), (Ailment::Zero, 1));
        let again: DoctorReport = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(again, report);
    }
}
