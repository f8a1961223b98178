//! `adapter_config.json`, as PEFT writes it.

use std::path::Path;

use qwen3_config::ConfigError;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::TargetModules;
use crate::CheckpointError;
use crate::files::read_json;
use crate::safetensors_file::unique_entries;

/// What an adapter is: how strong, and of which modules.
#[derive(Clone, Debug)]
pub struct AdapterConfig {
    /// How many rows `lora_A` has, PEFT's `r`; at least 1.
    pub rank: usize,
    /// What the scale is made of, PEFT's `lora_alpha`; finite.
    pub alpha: f64,
    /// Is the scale divided by the root of the rank, and not by the rank?
    pub use_rslora: bool,
    /// The modules that it changes.
    pub targets: TargetModules,
    /// Those of them that it does not change after all, PEFT's `exclude_modules`.
    pub excluded: Option<TargetModules>,
    /// The model that it was made for, as whoever made it calls it.
    pub base_model: Option<String>,
}

/// Fields that are read, or say nothing of what is computed: where it came from, how it was trained.
const KNOWN: [&str; 26] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "base_model_name_or_path",
    "bias",
    "init_lora_weights",
    "task_type",
    "auto_mapping",
    "revision",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    // Which part of Megatron, where `megatron_config` says that it is used.
    "megatron_core",
    // The groups of `use_qalora`.
    "qalora_group_size",
    // How the memory of a run is used.
    "runtime_config",
    // What first values were made with, where `init_lora_weights` says so.
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "loftq_config",
    // Which layers there are, where `layers_to_transform` chooses among them.
    "layers_pattern",
    // Of `modules_to_save` and `trainable_token_indices`.
    "ensure_weight_tying",
    // Names for people.
    "library_name",
    "tags",
];

/// Values of `init_lora_weights` that leave the model's own weights as they are.
const HARMLESS_INIT: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl AdapterConfig {
    /// An adapter of this rank and `alpha` on `targets`, as PEFT's `LoraConfig` is without other arguments.
    pub fn new(rank: usize, alpha: f64, targets: TargetModules) -> Self {
        Self { rank, alpha, use_rslora: false, targets, excluded: None, base_model: None }
    }

    /// What the product of the factors is multiplied by: `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Reads an `adapter_config.json`.
    ///
    /// # Errors
    /// When it cannot be read, or asks for anything that changes what is computed and is not LoRA as it is written
    /// here; the field is named.
    pub(crate) fn read(file: &Path) -> Result<Self, CheckpointError> {
        let text = read_json(file)?;
        let in_file = |source| CheckpointError::Config { file: file.into(), source };
        if let Some(found) = python_number(&text, "lora_alpha") {
            return Err(in_file(invalid("lora_alpha", found, "a finite number")));
        }
        let fields = unique_entries::<Box<RawValue>>(&text, file)?;
        let fields = fields.iter().map(|(name, text)| match serde_json::from_str::<Value>(text.get()) {
            Ok(value) => Ok((name.as_str(), value)),
            Err(error) => Err(invalid(name, shortened(text.get()), &format!("a value of JSON: {error}"))),
        });
        let fields = Fields(fields.collect::<Result<_, _>>().map_err(in_file)?);
        Self::from_fields(&fields).map_err(in_file)
    }

    fn from_fields(fields: &Fields) -> Result<Self, ConfigError> {
        let kind = fields.given("peft_type").ok_or_else(|| missing("peft_type"))?;
        if kind.as_str() != Some("LORA") {
            return Err(unsupported("peft_type", kind, "\"LORA\""));
        }
        for (name, value) in &fields.0 {
            if !KNOWN.contains(name) && !is_nothing(value) {
                return Err(unsupported(name, value, "LoRA alone, without it"));
            }
        }
        if let Some(value) = fields.given("bias").filter(|value| value.as_str() != Some("none")) {
            return Err(unsupported("bias", value, "\"none\""));
        }
        if let Some(value) = fields.given("init_lora_weights") {
            let harmless = value.as_str().is_some_and(|init| HARMLESS_INIT.contains(&init));
            if !harmless && !value.is_boolean() {
                return Err(unsupported(
                    "init_lora_weights",
                    value,
                    "true, false, \"gaussian\", \"eva\" and \"orthogonal\", which leave the model's own weights alone",
                ));
            }
        }
        let rank = fields.given("r").ok_or_else(|| missing("r"))?;
        let rank = rank.as_u64().and_then(|rank| usize::try_from(rank).ok()).filter(|rank| *rank > 0);
        let rank = rank.ok_or_else(|| fields.invalid("r", "a positive whole number"))?;
        let alpha = fields.given("lora_alpha").ok_or_else(|| missing("lora_alpha"))?;
        let alpha = alpha.as_f64().filter(|alpha| alpha.is_finite());
        let alpha = alpha.ok_or_else(|| fields.invalid("lora_alpha", "a finite number"))?;
        let use_rslora = fields.given("use_rslora").map_or(Some(false), Value::as_bool);
        Ok(Self {
            rank,
            alpha,
            use_rslora: use_rslora.ok_or_else(|| fields.invalid("use_rslora", "true or false"))?,
            targets: fields.modules("target_modules")?.ok_or_else(|| missing("target_modules"))?,
            excluded: fields.modules("exclude_modules")?,
            base_model: fields.given("base_model_name_or_path").and_then(Value::as_str).map(Into::into),
        })
    }

    /// The `adapter_config.json` of this adapter.
    pub(crate) fn to_json(&self) -> String {
        let names = |modules: &TargetModules| match modules {
            TargetModules::Names(names) => json!(names),
            TargetModules::AllLinear => json!("all-linear"),
            TargetModules::Pattern(pattern) => json!(pattern_text(pattern.as_str())),
        };
        let config = json!({
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "exclude_modules": self.excluded.as_ref().map(names),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self.rank,
            "target_modules": names(&self.targets),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        });
        format!("{config:#}\n")
    }
}

/// The pattern that [`TargetModules::pattern`] was made of.
fn pattern_text(whole: &str) -> &str {
    let text = whole.strip_prefix(r"\A(?:").and_then(|text| text.strip_suffix(r")\z"));
    text.unwrap_or(whole)
}

/// The fields of a config, in the order of the file.
struct Fields<'a>(Vec<(&'a str, Value)>);

impl Fields<'_> {
    /// A field's value; `null` counts as absent.
    fn given(&self, name: &str) -> Option<&Value> {
        let field = self.0.iter().find(|(field, _)| *field == name);
        field.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// What is said of a field that is not what was expected.
    fn invalid(&self, name: &str, expected: &str) -> ConfigError {
        let found = self.given(name).map_or("null".into(), Value::to_string);
        invalid(name, shortened(&found), expected)
    }

    /// Names of modules, or a pattern.
    fn modules(&self, field: &str) -> Result<Option<TargetModules>, ConfigError> {
        let Some(value) = self.given(field) else {
            return Ok(None);
        };
        if let Some(text) = value.as_str() {
            if text.eq_ignore_ascii_case("all-linear") {
                return Ok(Some(TargetModules::AllLinear));
            }
            let pattern = TargetModules::pattern(text);
            return pattern.map(Some).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim();
                unsupported(
                    field,
                    value,
                    &format!("names, or a regular expression without look-around ({reason})"),
                )
            });
        }
        let names = value.as_array().filter(|names| !names.is_empty());
        let names = names.map(|names| names.iter().map(|name| name.as_str().map(String::from)).collect());
        match names {
            Some(Some(names)) => Ok(Some(TargetModules::Names(names))),
            _ => Err(self.invalid(field, "a list of names, or a text")),
        }
    }
}

/// Does a field say that something is not used?
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(_) => false,
    }
}

/// The value of `field` where it is one that Python writes and JSON does not have: NaN, or infinite.
fn python_number<'a>(text: &'a [u8], field: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!("\"{field}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    ["NaN", "Infinity", "-Infinity"].into_iter().find(|number| value.starts_with(number))
}

/// A hostile value must not flood the terminal.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(end, _)| &text[..end])
}

fn missing(field: &str) -> ConfigError {
    ConfigError::Missing { field: field.into() }
}

fn invalid(field: &str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Invalid { field: field.into(), found: found.into(), expected: expected.into() }
}

fn unsupported(field: &str, found: &Value, supported: &str) -> ConfigError {
    ConfigError::Unsupported {
        field: field.into(),
        found: shortened(&found.to_string()).into(),
        supported: supported.into(),
    }
}
