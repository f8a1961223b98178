use crate::{GenerationConfig, SamplingOptions, Tokenizer};

/// How text is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate for each prompt.
    pub max_new_tokens: usize,
    /// How tokens are chosen. Sequence `n` of a batch uses `seed + n`.
    pub sampling: SamplingOptions,
    /// Tokens that end the text.
    pub stop_tokens: Vec<u32>,
    /// Strings that end the text and are left out of it.
    pub stop_strings: Vec<String>,
    /// Leave special tokens out of the text.
    pub skip_special: bool,
    /// Prompt tokens read at once.
    pub chunk_size: usize,
}

impl Default for GenerateOptions {
    /// 512 tokens, greedy, ended by nothing.
    fn default() -> Self {
        Self {
            max_new_tokens: 512,
            sampling: SamplingOptions::default(),
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            skip_special: true,
            chunk_size: 256,
        }
    }
}

impl GenerateOptions {
    /// What a checkpoint recommends; where its config names no stop token, the tokenizer's end token.
    pub fn recommended(config: &GenerationConfig, tokenizer: &Tokenizer) -> Self {
        let default = Self::default();
        let stop_tokens = match config.eos_token_ids.is_empty() {
            true => tokenizer.eos_token_id().into_iter().collect(),
            false => config.eos_token_ids.clone(),
        };
        Self {
            max_new_tokens: config.max_new_tokens.unwrap_or(default.max_new_tokens),
            sampling: config.sampling_options(),
            stop_tokens,
            ..default
        }
    }
}
