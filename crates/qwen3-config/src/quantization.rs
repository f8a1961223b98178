//! `quantization_config` of a `config.json`.

use serde_json::{Map, Value};

use crate::error::{ConfigError, invalid, unsupported};

/// Weights stored as `float8_e4m3fn`, each block of a matrix with a scale of its own (`weight_scale_inv`), by which its
/// numbers are multiplied.
///
/// Follows Transformers `FineGrainedFP8Config`. It is about the files alone: how activations are rounded there
/// (`activation_scheme`) is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp8Blocks {
    /// Rows of a block.
    pub rows: usize,
    /// Columns of a block.
    pub columns: usize,
}

impl Fp8Blocks {
    /// What the text of a `config.json` says of how its weights are stored; `None` when they are plain.
    ///
    /// # Errors
    /// When they are quantised in another way, naming the field.
    pub fn from_json(text: &str) -> Result<Option<Self>, ConfigError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            ConfigError::Json { message }
        })?;
        Self::of(&object)
    }

    pub(crate) fn of(config: &Map<String, Value>) -> Result<Option<Self>, ConfigError> {
        const FIELD: &str = "quantization_config";
        let Some(value) = config.get(FIELD).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let path = |key: &str| format!("{FIELD}.{key}");
        let given = |key: &str| value.get(key).filter(|value| !value.is_null());
        if given("quant_method").is_none_or(|method| method != "fp8") {
            return Err(unsupported(FIELD, value, "only `quant_method` \"fp8\" in blocks"));
        }
        for (key, known) in [("fmt", "e4m3"), ("activation_scheme", "dynamic")] {
            if let Some(other) = given(key).filter(|value| *value != known) {
                return Err(unsupported(&path(key), other, format!("only \"{known}\"")));
            }
        }
        let Some(size) = given("weight_block_size") else {
            return Err(ConfigError::Missing { field: path("weight_block_size") });
        };
        let sizes = size.as_array().map(|sizes| sizes.iter().map(block_size).collect::<Vec<_>>());
        match sizes.as_deref() {
            Some([Some(rows), Some(columns)]) => Ok(Some(Self { rows: *rows, columns: *columns })),
            _ => Err(invalid(&path("weight_block_size"), size, "two integers from 1 to 65536")),
        }
    }
}

fn block_size(value: &Value) -> Option<usize> {
    let size = value.as_u64().filter(|size| (1..=1 << 16).contains(size))?;
    size.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<Option<Fp8Blocks>, String> {
        Fp8Blocks::from_json(config).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_are_read() {
        let official = r#"{"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3",
            "modules_to_not_convert": ["lm_head"], "quant_method": "fp8", "weight_block_size": [128, 64]}}"#;
        assert_eq!(read(official), Ok(Some(Fp8Blocks { rows: 128, columns: 64 })));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"quantization_config": null}"#), Ok(None));
    }

    #[test]
    fn other_ways_are_refused_by_name() {
        for (fields, named) in [
            (r#""quant_method": "gptq", "bits": 4"#, "`quantization_config`"),
            (r#""bits": 4"#, "`quantization_config`"),
            (r#""quant_method": "fp8""#, "`quantization_config.weight_block_size`"),
            (
                r#""quant_method": "fp8", "weight_block_size": [128]"#,
                "`quantization_config.weight_block_size`",
            ),
            (
                r#""quant_method": "fp8", "weight_block_size": [0, 1]"#,
                "`quantization_config.weight_block_size`",
            ),
            (r#""quant_method": "fp8", "fmt": "e5m2""#, "`quantization_config.fmt`"),
            (
                r#""quant_method": "fp8", "activation_scheme": "static""#,
                "`quantization_config.activation_scheme`",
            ),
        ] {
            let error = read(&format!("{{\"quantization_config\": {{{fields}}}}}")).unwrap_err();
            assert!(error.contains(named), "{fields}: {error}");
        }
        assert!(read(r#"{"quantization_config": 8}"#).is_err());
    }
}
