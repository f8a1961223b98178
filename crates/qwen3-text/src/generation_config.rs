use std::path::Path;

use serde_json::{Map, Value};

use crate::files::{bad_key, read_object};
use crate::{SamplingOptions, TextError};

/// What a checkpoint recommends for generation: `generation_config.json`.
///
/// `None` is a key that is absent or null. Keys that are not here are ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end the text; empty when the checkpoint names none.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills up shorter sequences.
    pub pad_token_id: Option<u32>,
    /// Draw tokens at random rather than take the likeliest.
    pub do_sample: Option<bool>,
    /// What logits are divided by; positive where tokens are drawn.
    pub temperature: Option<f64>,
    /// Draw from this many likeliest tokens; 0 for all.
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability.
    pub top_p: Option<f64>,
    /// Draw from tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<f64>,
    /// What the logits of tokens already there are weakened by; 1 for nothing.
    pub repetition_penalty: Option<f64>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Most tokens, prompt included.
    pub max_length: Option<usize>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` of the directory `dir`. When there is none, the end and padding
    /// tokens come from `config.json`, as `GenerationConfig.from_model_config` of Transformers has it,
    /// and when there is neither, nothing is set.
    ///
    /// # Errors
    /// When a file is unreadable or not a JSON object, or a value has the wrong type or is out of
    /// range; the error names the file and the key.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TextError> {
        let own = dir.as_ref().join("generation_config.json");
        if let Some(object) = read_object(&own)? {
            return Self::from_object(&own, &object);
        }
        let model = dir.as_ref().join("config.json");
        let object = read_object(&model)?.unwrap_or_default();
        let keys = Keys { file: &model, object: &object };
        Ok(Self {
            eos_token_ids: keys.ids("eos_token_id")?,
            pad_token_id: keys.id("pad_token_id")?,
            ..Self::default()
        })
    }

    fn from_object(file: &Path, object: &Map<String, Value>) -> Result<Self, TextError> {
        let keys = Keys { file, object };
        let do_sample = keys.get("do_sample", "true or false", |_| true, Value::as_bool)?;
        // Files of greedy models say 0, which drawing cannot divide by.
        let positive = do_sample == Some(true);
        let warm = |t: &f64| *t > 0.0 || (*t == 0.0 && !positive);
        Ok(Self {
            eos_token_ids: keys.ids("eos_token_id")?,
            pad_token_id: keys.id("pad_token_id")?,
            do_sample,
            temperature: keys.get("temperature", "a positive number", warm, float)?,
            top_k: keys.get("top_k", "an integer from 0", |_| true, size)?,
            top_p: keys.get("top_p", "a number from 0 to 1", |p| (0.0..=1.0).contains(p), float)?,
            min_p: keys.get("min_p", "a number from 0 to 1", |p| (0.0..=1.0).contains(p), float)?,
            repetition_penalty: keys.get("repetition_penalty", "a positive number", |p| *p > 0.0, float)?,
            max_new_tokens: keys.get("max_new_tokens", "an integer from 1", |&n| n > 0, size)?,
            max_length: keys.get("max_length", "an integer from 1", |&n| n > 0, size)?,
        })
    }

    /// Options for a [`Sampler`](crate::Sampler), with what `generate` of Transformers 5.23 takes for
    /// what is not set: no drawing, temperature 1, top-k 50, top-p 1, repetition penalty 1.
    pub fn sampling_options(&self) -> SamplingOptions {
        let default = SamplingOptions::default();
        SamplingOptions {
            greedy: !self.do_sample.unwrap_or(false),
            // Of no effect where the file may say 0.
            temperature: self.temperature.filter(|t| *t > 0.0).unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            ..default
        }
    }
}

fn float(value: &Value) -> Option<f64> {
    // What float32 arithmetic takes for infinity is no number either.
    value.as_f64().filter(|value| (*value as f32).is_finite())
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok())
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|value| u32::try_from(value).ok())
}

struct Keys<'a> {
    file: &'a Path,
    object: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// A value that `read` accepts and that is `valid`; `None` when the key is absent or null.
    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        valid: impl Fn(&T) -> bool,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, TextError> {
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match read(value).filter(valid) {
            Some(value) => Ok(Some(value)),
            None => {
                let mut shown = value.to_string();
                if let Some((end, _)) = shown.char_indices().nth(60) {
                    shown.replace_range(end.., "...");
                }
                Err(bad_key(self.file, key, format!("is {shown}, not {expected}")))
            }
        }
    }

    fn id(&self, key: &str) -> Result<Option<u32>, TextError> {
        self.get(key, "a token id", |_| true, token_id)
    }

    /// One id or a list of them.
    fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        let read = |value: &Value| match value {
            Value::Array(ids) => ids.iter().map(token_id).collect(),
            id => token_id(id).map(|id| vec![id]),
        };
        let ids = self.get(key, "a token id or a list of them", |_| true, read)?;
        Ok(ids.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(name: &str, text: &str) -> Result<GenerationConfig, TextError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        GenerationConfig::open(dir.path())
    }

    #[test]
    fn one_id_or_a_list() {
        let config = opened("generation_config.json", r#"{"eos_token_id": [2, 1], "top_k": 20}"#).unwrap();
        assert_eq!((config.eos_token_ids, config.top_k), (vec![2, 1], Some(20)));
        let config = opened("config.json", r#"{"eos_token_id": 7, "top_k": "ignored"}"#).unwrap();
        assert_eq!((config.eos_token_ids, config.top_k), (vec![7], None));
        let config = opened("generation_config.json", r#"{"eos_token_id": null}"#).unwrap();
        assert_eq!(config, GenerationConfig::default());
        assert_eq!(opened("other.json", "").unwrap(), GenerationConfig::default());
    }

    #[test]
    fn what_is_not_set_is_what_generate_takes() {
        let options = GenerationConfig::default().sampling_options();
        assert!(options.greedy);
        assert_eq!((options.top_k, options.top_p, options.min_p), (50, 1.0, None));
    }

    #[test]
    fn wrong_values_are_named() {
        let wrong = [
            ("eos_token_id", "-1"),
            ("eos_token_id", "[1, \"2\"]"),
            ("eos_token_id", "4294967296"),
            ("do_sample", "1"),
            ("temperature", "-0.5"),
            ("temperature", "\"hot\""),
            ("temperature", "1e300"),
            ("top_k", "2.5"),
            ("top_p", "1.5"),
            ("min_p", "-0.1"),
            ("repetition_penalty", "0"),
            ("max_new_tokens", "0"),
            ("max_length", "[]"),
        ];
        for (key, value) in wrong {
            let error = opened("generation_config.json", &format!("{{\"{key}\": {value}}}"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains("generation_config.json") && error.contains(key), "{error}");
        }
        let cold = r#"{"do_sample": true, "temperature": 0.0}"#;
        assert!(opened("generation_config.json", cold).is_err());
        for text in ["", "[]", "{\"a\":", "\u{0}"] {
            assert!(opened("generation_config.json", text).is_err());
        }
    }
}
