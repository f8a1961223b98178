//! Reads both kinds of report into the same shape; what a comparison needs must be there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Change;

/// A report: its kind, what it was about, and its runs.
pub struct Report {
    /// `verify` or `parity`.
    pub kind: &'static str,
    /// What the whole holds for, by name: the model, the reference.
    pub facts: BTreeMap<&'static str, String>,
    /// The runs of a verification, the results of a parity report.
    pub runs: Vec<Run>,
}

/// A run, or a case on a backend in a dtype.
pub struct Run {
    name: String,
    /// The backend, dtype and variant.
    pub place: String,
    /// The case of a parity report.
    pub case: Option<String>,
    /// `pass`, `fail`, `crash` or `unavailable`.
    pub status: String,
    /// Wall time in milliseconds.
    pub elapsed_ms: Option<f64>,
    /// `fusion on, autotune off`; empty where the backend has none.
    pub switches: String,
    /// Where it first leaves the reference.
    pub first: Option<Divergence>,
    /// Its tensors, in the order of computation.
    pub tensors: Vec<Tensor>,
    /// Its generated tokens by row and step.
    pub tokens: BTreeMap<(i64, i64), Token>,
}

/// A tensor that was compared.
pub struct Tensor {
    /// Unique within its run unless the report has it twice: with the mode, and in patched mode the layer.
    pub name: String,
    /// The reference's name for it.
    pub tensor: String,
    /// The error over its limit, the worse of largest and rms; infinite when it is not finite.
    pub ratio: Option<f64>,
    /// Is it within its limit?
    pub pass: bool,
}

/// A generated token.
pub struct Token {
    /// The reference's id, as text; `none` when the report has none.
    pub expected: String,
    /// The run's id.
    pub observed: String,
    /// Are the reference's two best too close to tell apart?
    pub tie: bool,
}

/// Where a run first leaves the reference.
#[derive(Debug, PartialEq, Eq)]
pub struct Divergence {
    layer: Option<i64>,
    /// The tensor's name.
    pub tensor: String,
}

impl Divergence {
    /// The layer; before all of them the embedding, behind them the last norm and the logits.
    pub fn depth(&self) -> i64 {
        let layer = || {
            self.tensor
                .strip_prefix("layer_")?
                .split(['.', '_'])
                .next()?
                .parse()
                .ok()
        };
        match self.layer.or_else(layer) {
            Some(layer) => layer,
            None if self.tensor.starts_with("embedding") => -1,
            None => i64::MAX,
        }
    }
}

impl Run {
    /// The backend, dtype and variant, and for parity the case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A change of this run.
    pub fn change(&self, what: String) -> Change {
        Change {
            place: self.name.clone(),
            what,
        }
    }
}

impl Token {
    /// Is it the reference's?
    pub fn right(&self) -> bool {
        self.observed == self.expected
    }
}

impl Tensor {
    /// Its unique name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Report {
    /// Reads a report; `which` names it in errors.
    ///
    /// # Errors
    /// When it has another schema, is of neither kind, or a run lacks its name, status or tensors.
    pub fn read(report: &Value, which: &str) -> Result<Self> {
        match report.get("schema").and_then(Value::as_u64) {
            Some(1) => {}
            Some(schema) => bail!("{which} has schema {schema}, not 1"),
            None => bail!("{which} is no report: it has no `schema`"),
        }
        let runs = |key: &str| report.get(key).and_then(Value::as_array);
        let (kind, key, elements) = match (runs("runs"), runs("results")) {
            (Some(runs), None) => ("verify", "runs", runs),
            (None, Some(results)) => ("parity", "results", results),
            _ => bail!("{which} is no report: it needs either `runs` or `results`"),
        };
        let mut facts = BTreeMap::new();
        for key in [
            "burn",
            "limits",
            "model_path",
            "observed",
            "preset",
            "reference",
            "test_input",
        ] {
            facts.insert(key, text(report, key).unwrap_or("none".into()));
        }
        let outlier = report
            .get("consensus")
            .and_then(|consensus| text(consensus, "outlier"));
        facts.insert("outlier", outlier.unwrap_or("none".into()));
        let run = |(index, value)| run(value).with_context(|| format!("{which}: {key}[{index}]"));
        let runs = elements
            .iter()
            .enumerate()
            .map(run)
            .collect::<Result<_>>()?;
        Ok(Self { kind, facts, runs })
    }
}

fn run(value: &Value) -> Result<Run> {
    let field = |key| text(value, key).with_context(|| format!("no `{key}`"));
    let status = field("status")?;
    if !["pass", "fail", "crash", "unavailable"].contains(&status.as_str()) {
        bail!("unknown status `{status}`");
    }
    let mut place = format!("{} {}", field("backend")?, field("dtype")?);
    if let Some(variant) = text(value, "variant") {
        place = format!("{place} {variant}");
    }
    let case = text(value, "case");
    let name = match &case {
        Some(case) => format!("{case} on {place}"),
        None => place.clone(),
    };
    let first = value
        .get("diagnosis")
        .and_then(|diagnosis| diagnosis.get("first_divergence"));
    let first = first.and_then(|first| {
        let layer = first.get("layer").and_then(Value::as_i64);
        Some(Divergence {
            layer,
            tensor: text(first, "tensor")?,
        })
    });
    let tensors = match value.get("tensors") {
        Some(Value::Array(tensors)) => tensors.iter().map(tensor).collect::<Result<_>>()?,
        // A run that came to nothing may have none.
        None | Some(Value::Null) => Vec::new(),
        Some(_) => bail!("`tensors` is no list"),
    };
    let tokens = value.get("tokens").and_then(Value::as_array);
    Ok(Run {
        name,
        place,
        case,
        status,
        elapsed_ms: value.get("elapsed_ms").and_then(Value::as_f64),
        switches: switches(value.get("switches").unwrap_or(&Value::Null)),
        first,
        tensors,
        tokens: tokens
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(token)
            .collect(),
    })
}

fn tensor(value: &Value) -> Result<Tensor> {
    let tensor = text(value, "name").context("a tensor without `name`")?;
    let pass = value.get("pass").and_then(Value::as_bool);
    let pass = pass.with_context(|| format!("tensor {tensor} without `pass`"))?;
    let mut name = tensor.clone();
    if let Some(mode) = text(value, "mode") {
        name = format!("{mode} {name}");
    }
    let layer = value.get("layer").and_then(Value::as_i64);
    if let Some(layer) = layer.filter(|_| !tensor.starts_with("layer_")) {
        name = format!("{name} after layer {layer}");
    }
    Ok(Tensor {
        name,
        ratio: ratio(value, pass),
        tensor,
        pass,
    })
}

fn ratio(value: &Value, pass: bool) -> Option<f64> {
    let number = |key| value.get(key).and_then(Value::as_f64);
    let share = |error, limit| match (number(error)?, number(limit)?) {
        (error, limit) if limit > 0.0 => Some(error / limit),
        (0.0, _) => Some(0.0),
        _ => Some(f64::INFINITY),
    };
    let computed = || match (share("max_abs", "limit"), share("rms", "limit_rms")) {
        (Some(max), Some(rms)) => Some(max.max(rms)),
        (max, rms) => max.or(rms),
    };
    // Null is how JSON has a number that is not finite.
    number("ratio")
        .or_else(computed)
        .or((!pass).then_some(f64::INFINITY))
}

fn token(value: &Value) -> ((i64, i64), Token) {
    let integer = |key| value.get(key).and_then(Value::as_i64);
    let id = |key| integer(key).map_or("none".into(), |id| id.to_string());
    let token = Token {
        expected: id("expected"),
        observed: id("observed"),
        tie: value.get("tie").and_then(Value::as_bool).unwrap_or(false),
    };
    (
        (integer("row").unwrap_or(0), integer("step").unwrap_or(0)),
        token,
    )
}

fn switches(value: &Value) -> String {
    let on = |name: &str| Some((name.to_owned(), value.get(name)?.as_bool()?));
    let shown = ["fusion", "autotune"].into_iter().filter_map(on);
    let shown = shown.map(|(name, on)| format!("{name} {}", if on { "on" } else { "off" }));
    match shown.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none".into(),
        shown => shown,
    }
}

/// A field's text, without what would move a terminal's cursor.
fn text(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key)?.as_str()?;
    Some(text.replace(char::is_control, "\u{fffd}"))
}

/// An error over its limit for a person.
pub fn shown(ratio: Option<f64>) -> String {
    match ratio {
        None => "unknown".into(),
        Some(ratio) if !ratio.is_finite() => "not finite".into(),
        Some(0.0) => "0".into(),
        Some(ratio) if (0.001..1000.0).contains(&ratio) => format!("{ratio:.3}"),
        Some(ratio) => format!("{ratio:.2e}"),
    }
}
