use crate::{GenerationConfig, SamplingOptions, Tokenizer};

/// How text is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate for each prompt.
    pub max_new_tokens: usize,
    /// Most tokens of prompt and text together.
    pub max_length: Option<usize>,
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
            max_length: None,
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
        let stop_tokens = if config.eos_token_ids.is_empty() {
            tokenizer.eos_token_id().into_iter().collect()
        } else {
            config.eos_token_ids.clone()
        };
        // As in Transformers, `max_length` counts where there is no `max_new_tokens`.
        let (max_new_tokens, max_length) = match (config.max_new_tokens, config.max_length) {
            (Some(tokens), _) => (tokens, None),
            (None, Some(length)) => (usize::MAX, Some(length)),
            (None, None) => (default.max_new_tokens, None),
        };
        Self { max_new_tokens, max_length, sampling: config.sampling_options(), stop_tokens, ..default }
    }

    /// Most tokens behind a prompt of so many.
    pub(super) fn new_tokens(&self, prompt: usize) -> usize {
        let left = self.max_length.map(|length| length.saturating_sub(prompt));
        self.max_new_tokens.min(left.unwrap_or(usize::MAX))
    }
}
