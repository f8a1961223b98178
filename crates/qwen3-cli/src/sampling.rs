//! How tokens are chosen: options of generate and chat.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use qwen3_text::GenerateOptions;

use crate::failure::Blame;
use crate::model::Texts;

/// What replaces the checkpoint's recommendation.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Sampling (generation_config.json where not given)")]
pub struct SamplingArgs {
    /// Most tokens to generate; without it and without a recommendation, generate ends after 512 and chat
    /// when the conversation is full
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// Always take the likeliest token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    greedy: bool,
    /// Divide logits by this, and draw
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw from this many likeliest tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Draw from tokens with at least this share of the likeliest one's probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Weaken the logits of all tokens so far; 1 for no effect
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: Option<f64>,
    /// Take this off the logits of generated tokens; 0 for no effect
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    presence_penalty: Option<f64>,
    /// Of the random numbers; without it, another one each time, which is printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End at this text, which is left out; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
}

impl SamplingArgs {
    /// The checkpoint's recommendation with what was given in its place.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn options(&self, texts: &Texts) -> Result<GenerateOptions> {
        let mut options = GenerateOptions::recommended(&texts.generation, &texts.tokenizer);
        if let Some(tokens) = self.max_new_tokens {
            options.max_new_tokens = tokens as usize;
            options.max_length = None;
        }
        options.stop_strings = self.stop.clone();
        let sampling = &mut options.sampling;
        let drawing = self.temperature.is_some()
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some();
        sampling.greedy = self.greedy || (sampling.greedy && !drawing);
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.min_p = self.min_p.or(sampling.min_p);
        sampling.repetition_penalty = self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        sampling.presence_penalty = self.presence_penalty.unwrap_or(sampling.presence_penalty);
        sampling.seed = self.seed.unwrap_or_else(any_seed);
        sampling.validate().bad_input()?;
        Ok(options)
    }
}

impl SamplingArgs {
    /// Is the number of tokens left to the command?
    pub fn any_length(&self, texts: &Texts) -> bool {
        let recommended = texts.generation.max_new_tokens.or(texts.generation.max_length);
        self.max_new_tokens.is_none() && recommended.is_none()
    }
}

/// A seed that the next run will not have; short enough to be typed.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs()) % 1_000_000_000
}
