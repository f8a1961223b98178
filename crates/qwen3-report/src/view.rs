//! A verification report read leniently: a field that is missing or of another type is absent, not an error.

use serde_json::Value;

/// The field's text; `None` when it is null, missing or no string.
pub fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The field's number; `None` when it is null (which is how JSON has a non-finite one), missing or no number.
pub fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64()
}

/// The field's elements; none when it is null, missing or no array.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let elements = value.get(key).and_then(Value::as_array);
    elements.map_or(&[], Vec::as_slice)
}

/// The strings among the field's elements.
pub fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    list(value, key).iter().filter_map(Value::as_str).collect()
}

/// The field's elements as `[0, 1, 2]`, a shape or an index per axis; `None` when it is no array.
pub fn axes(value: &Value, key: &str) -> Option<String> {
    let elements = value.get(key)?.as_array()?.iter();
    let elements = elements.map(|element| match element.as_i64() {
        Some(element) => element.to_string(),
        None => "?".into(),
    });
    Some(format!("[{}]", elements.collect::<Vec<_>>().join(", ")))
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every tensor is within its limit.
    Pass,
    /// Something is beyond its limit.
    Fail,
    /// The backend's process died.
    Crash,
    /// The backend is not to be had on this machine.
    Unavailable,
    /// The report does not say, or says something else.
    Unknown,
}

/// One backend in one dtype.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a>(pub &'a Value);

impl<'a> Run<'a> {
    /// Every run of a report, in its order.
    pub fn all(report: &'a Value) -> Vec<Self> {
        list(report, "runs").iter().map(Run).collect()
    }

    /// The backend's name, `?` when the report has none.
    pub fn backend(&self) -> &'a str {
        text(self.0, "backend").unwrap_or("?")
    }

    /// The precision, `?` when the report has none.
    pub fn dtype(&self) -> &'a str {
        text(self.0, "dtype").unwrap_or("?")
    }

    /// The name that `pairwise` and `consensus` call it by, with its variant: `wgpu f32 without fusion`.
    pub fn label(&self) -> String {
        let mut label = format!("{} {}", self.backend(), self.dtype());
        if let Some(variant) = text(self.0, "variant") {
            label += " ";
            label += variant;
        }
        label
    }

    /// How it ended.
    pub fn status(&self) -> Status {
        match text(self.0, "status") {
            Some("pass") => Status::Pass,
            Some("fail") => Status::Fail,
            Some("crash") => Status::Crash,
            Some("unavailable") => Status::Unavailable,
            _ => Status::Unknown,
        }
    }

    /// Every tensor compared, in the order of computation.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> + use<'a> {
        list(self.0, "tensors").iter().map(Tensor)
    }

    /// The tensor that is furthest beyond its limit, or closest to it; the first of equals.
    pub fn worst(&self) -> Option<Tensor<'a>> {
        let severity = |tensor: &Tensor| (!tensor.pass(), tensor.ratio().unwrap_or(-1.0));
        self.tensors().reduce(|worst, tensor| {
            let (failed, ratio) = severity(&tensor);
            let (worst_failed, worst_ratio) = severity(&worst);
            let order = failed.cmp(&worst_failed);
            match order.then(ratio.total_cmp(&worst_ratio)).is_gt() {
                true => tensor,
                false => worst,
            }
        })
    }

    /// The name of the tensor where the run first leaves the reference, from its diagnosis.
    pub fn first_divergence(&self) -> Option<&'a str> {
        text(self.0.get("diagnosis")?.get("first_divergence")?, "tensor")
    }
}

/// One tensor of a run against the reference.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a>(pub &'a Value);

impl<'a> Tensor<'a> {
    /// What the tensor was computed from: `accumulated`, `isolated` or `patched`.
    pub fn mode(&self) -> &'a str {
        text(self.0, "mode").unwrap_or("?")
    }

    /// Its name in the reference.
    pub fn name(&self) -> &'a str {
        text(self.0, "name").unwrap_or("?")
    }

    /// Its layer: the report's own, else the one in its name; `None` for the embedding, the last norm and logits.
    pub fn layer(&self) -> Option<i64> {
        let own = self.0.get("layer").and_then(Value::as_i64);
        own.or_else(|| {
            self.name()
                .strip_prefix("layer_")?
                .split(['.', '_'])
                .next()?
                .parse()
                .ok()
        })
    }

    /// The name a person knows it by: in patched mode with the layer after which the reference was put in.
    pub fn label(&self) -> String {
        match self.layer() {
            Some(layer) if !self.name().starts_with("layer_") => {
                format!("{} after layer {layer}", self.name())
            }
            _ => self.name().into(),
        }
    }

    /// Is it within its limit? Not when the report does not say.
    pub fn pass(&self) -> bool {
        self.0.get("pass").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Its error over its limit: infinite when it is not finite, `None` when it passed and no number says how.
    pub fn ratio(&self) -> Option<f64> {
        let share = |error, limit| match (number(self.0, error)?, number(self.0, limit)?) {
            (error, limit) if limit > 0.0 => Some(error / limit),
            (0.0, _) => Some(0.0),
            _ => Some(f64::INFINITY),
        };
        let computed = || match (share("max_abs", "limit"), share("rms", "limit_rms")) {
            (Some(max), Some(rms)) => Some(max.max(rms)),
            (max, rms) => max.or(rms),
        };
        let failed = || (!self.pass()).then_some(f64::INFINITY);
        number(self.0, "ratio").or_else(computed).or_else(failed)
    }
}

/// One generated token of a run.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a>(pub &'a Value);

impl<'a> Token<'a> {
    /// Every generated token of a run, in its order.
    pub fn all(run: Run<'a>) -> Vec<Self> {
        list(run.0, "tokens").iter().map(Token).collect()
    }

    /// An id or a position; `None` when the report has none.
    pub fn integer(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.as_i64()
    }

    /// Is the observed id the expected one?
    pub fn matches(&self) -> bool {
        self.integer("expected").is_some() && self.integer("expected") == self.integer("observed")
    }

    /// Are the two best ids of the reference too close to tell apart?
    pub fn tie(&self) -> bool {
        self.0.get("tie").and_then(Value::as_bool).unwrap_or(false)
    }
}

/// How many tokens are neither as expected nor a tie.
pub fn wrong(tokens: &[Token]) -> usize {
    let wrong = tokens
        .iter()
        .filter(|token| !token.matches() && !token.tie());
    wrong.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_are_read_from_the_field_and_else_from_the_name() {
        let layer = |value| Tensor(&value).layer();
        assert_eq!(layer(json!({"name": "layer_07.mlp"})), Some(7));
        assert_eq!(
            layer(json!({"name": "layer_107_output", "layer": null})),
            Some(107)
        );
        assert_eq!(layer(json!({"name": "logits", "layer": 3})), Some(3));
        assert_eq!(layer(json!({"name": "logits"})), None);
        assert_eq!(layer(json!(null)), None);
    }

    #[test]
    fn ratios_are_computed_when_the_report_has_none() {
        let ratio = |value| Tensor(&value).ratio();
        assert_eq!(
            ratio(json!({"ratio": 0.5, "max_abs": 9, "limit": 1})),
            Some(0.5)
        );
        let both = json!({"max_abs": 1, "limit": 2, "rms": 3, "limit_rms": 2});
        assert_eq!(ratio(both), Some(1.5));
        assert_eq!(ratio(json!({"max_abs": 0, "limit": 0})), Some(0.0));
        assert_eq!(
            ratio(json!({"max_abs": 1, "limit": 0})),
            Some(f64::INFINITY)
        );
        assert_eq!(
            ratio(json!({"max_abs": null, "limit": 1})),
            Some(f64::INFINITY)
        );
        assert_eq!(ratio(json!({"pass": true})), None);
    }

    #[test]
    fn a_failure_is_worse_than_a_pass_whatever_the_numbers() {
        let run = json!({"tensors": [
            {"name": "a", "pass": true, "ratio": 9},
            {"name": "b", "pass": false, "ratio": 2},
            {"name": "c", "pass": false},
            {"name": "d", "pass": false},
        ]});
        assert_eq!(Run(&run).worst().unwrap().name(), "c");
        let two = json!({"tensors": [{"name": "a", "pass": false, "ratio": 2}, {"name": "b", "pass": true, "ratio": 9}]});
        assert_eq!(Run(&two).worst().unwrap().name(), "a");
        assert!(Run(&json!({})).worst().is_none());
    }

    #[test]
    fn anything_of_another_type_is_absent() {
        let run = json!({"backend": 3, "status": ["pass"], "tensors": {"a": 1}, "tokens": "x"});
        let run = Run(&run);
        assert_eq!(
            (run.label().as_str(), run.status()),
            ("? ?", Status::Unknown)
        );
        assert_eq!((run.tensors().count(), Token::all(run).len()), (0, 0));
        assert_eq!(
            axes(&json!({"shape": [1, "x"]}), "shape").unwrap(),
            "[1, ?]"
        );
    }
}
