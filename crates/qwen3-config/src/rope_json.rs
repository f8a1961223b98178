//! `rope_parameters` (Transformers 5) and `rope_scaling` (4) of a `config.json`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Rope;
use crate::checked::{Checked, given};
use crate::error::{ConfigError, contradiction, invalid, unsupported};

/// The default of Transformers' `rope_theta`.
const DEFAULT_THETA: f64 = 10_000.0;
/// The types that there are.
const TYPES: &str = "only \"default\", \"linear\" and \"yarn\"";

/// One of the two objects. `null` counts as absent.
#[derive(Deserialize)]
#[serde(expecting = "an object or null")]
pub(crate) struct RopeJson {
    rope_type: Option<Value>,
    #[serde(rename = "type")]
    old_type: Option<Value>,
    rope_theta: Option<Checked<f64>>,
    factor: Option<Checked<f64>>,
    original_max_position_embeddings: Option<Checked<usize>>,
    attention_factor: Option<Checked<f64>>,
    beta_fast: Option<Checked<f64>>,
    beta_slow: Option<Checked<f64>>,
    truncate: Option<Checked<bool>>,
    partial_rotary_factor: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// How the frequencies of a base are scaled.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Default,
    Linear,
    Yarn,
}

/// What the config's own `rope_theta` and the `objects`, each with the name of its field, say together; `positions` is
/// the config's `max_position_embeddings`.
///
/// Follows Transformers `RotaryEmbeddingConfigMixin`, which takes one of the objects and says nothing of the other;
/// here they must agree.
pub(crate) fn read(
    own_theta: Option<f64>,
    objects: [(&str, &Option<RopeJson>); 2],
    positions: usize,
) -> Result<Rope, ConfigError> {
    let objects = objects.into_iter().filter_map(|(field, object)| Some((field, object.as_ref()?)));
    let objects: Vec<_> = objects.collect();
    let mut thetas = Vec::from_iter(own_theta.map(|theta| ("rope_theta".to_string(), theta)));
    for (field, object) in &objects {
        thetas.extend(given(&object.rope_theta).map(|theta| (format!("{field}.rope_theta"), theta)));
    }
    let theta = thetas.first().map_or(DEFAULT_THETA, |(_, theta)| *theta);
    if let Some((second, other)) = thetas.iter().find(|(_, other)| *other != theta) {
        return Err(contradiction(&thetas[0].0, second, format!("{theta} and {other}")));
    }
    let mut ropes = Vec::new();
    for (field, object) in objects {
        ropes.push((field, object.rope(field, theta, positions)?));
    }
    match ropes[..] {
        [] => Ok(Rope::Default { theta }),
        [(first, one), (second, other)] if one != other => {
            Err(contradiction(first, second, "they give other frequencies".into()))
        }
        [(_, rope), ..] => Ok(rope),
    }
}

impl RopeJson {
    fn kind(&self, field: &str) -> Result<Kind, ConfigError> {
        let mut kinds = Vec::new();
        for (key, kind) in [("rope_type", &self.rope_type), ("type", &self.old_type)] {
            let Some(value) = kind else { continue };
            kinds.push(match value.as_str() {
                Some("default") => Kind::Default,
                Some("linear") => Kind::Linear,
                Some("yarn") => Kind::Yarn,
                _ => return Err(unsupported(&format!("{field}.{key}"), value, TYPES)),
            });
        }
        match kinds[..] {
            [one, other] if one != other => {
                let [first, second] = ["rope_type", "type"].map(|key| format!("{field}.{key}"));
                Err(contradiction(&first, &second, "two types".into()))
            }
            _ => Ok(kinds.first().copied().unwrap_or(Kind::Default)),
        }
    }

    /// What it says; nothing in it is left unread.
    fn rope(&self, field: &str, theta: f64, positions: usize) -> Result<Rope, ConfigError> {
        let kind = self.kind(field)?;
        let path = |key: &str| format!("{field}.{key}");
        if let Some(value) = &self.partial_rotary_factor
            && value.as_f64() != Some(1.0)
        {
            return Err(unsupported(&path("partial_rotary_factor"), value, "only 1.0"));
        }
        if let Some((key, value)) = self.rest.iter().find(|(_, value)| !value.is_null()) {
            return Err(unsupported(&path(key), value, "no such setting is known"));
        }
        self.check_unused(kind, field)?;
        if kind == Kind::Default {
            return Ok(Rope::Default { theta });
        }
        let factor = given(&self.factor).ok_or_else(|| ConfigError::Missing { field: path("factor") })?;
        if factor < 1.0 {
            return Err(invalid(&path("factor"), &factor.into(), "a number of at least 1"));
        }
        if kind == Kind::Linear {
            return Ok(Rope::Linear { theta, factor });
        }
        if theta <= 1.0 {
            return Err(invalid(
                "rope_theta",
                &theta.into(),
                "a number above 1, because YaRN divides by its logarithm",
            ));
        }
        Ok(Rope::Yarn {
            theta,
            factor,
            original: given(&self.original_max_position_embeddings).unwrap_or(positions),
            attention_factor: given(&self.attention_factor).unwrap_or(0.1 * factor.ln() + 1.0),
            beta_fast: given(&self.beta_fast).unwrap_or(32.0),
            beta_slow: given(&self.beta_slow).unwrap_or(1.0),
            truncate: given(&self.truncate).unwrap_or(true),
        })
    }

    /// A setting that the type does not look at was meant for something.
    fn check_unused(&self, kind: Kind, field: &str) -> Result<(), ConfigError> {
        let number = |value: &Option<Checked<f64>>| given(value).map(Value::from);
        let original = given(&self.original_max_position_embeddings).map(Value::from);
        let of_yarn = [
            ("original_max_position_embeddings", original),
            ("attention_factor", number(&self.attention_factor)),
            ("beta_fast", number(&self.beta_fast)),
            ("beta_slow", number(&self.beta_slow)),
            ("truncate", given(&self.truncate).map(Value::from)),
        ];
        let unused = match kind {
            Kind::Yarn => None,
            Kind::Linear => of_yarn.into_iter().find(|(_, value)| value.is_some()),
            Kind::Default => [("factor", number(&self.factor))]
                .into_iter()
                .chain(of_yarn)
                .find(|(_, value)| value.is_some()),
        };
        match unused {
            Some((key, Some(value))) => {
                let supported = "only with a `rope_type` that it belongs to";
                Err(unsupported(&format!("{field}.{key}"), &value, supported))
            }
            _ => Ok(()),
        }
    }
}
