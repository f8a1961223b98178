//! What became of a checkpoint's weights: the report of `doctor`.

mod ailment;

use serde::{Deserialize, Serialize};

use crate::SCHEMA;

pub use self::ailment::{Ailment, Health};

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
