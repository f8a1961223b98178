//! The command line, which is that of every peer.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::Failure;
use crate::checkpoint::Checkpoint;

/// The dtype of weights and activations.
#[derive(Clone, Copy, ValueEnum)]
pub enum Dtype {
    /// float32
    F32,
    /// bfloat16
    Bf16,
    /// float16
    F16,
}

/// Numbers separated by commas.
#[derive(Clone)]
pub struct Numbers(pub Vec<usize>);

/// Measures candle's Qwen3 on the CPU.
#[derive(Parser)]
pub struct Options {
    /// Checkpoint directory in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Of weights and activations
    #[arg(long)]
    pub dtype: Dtype,
    /// Threads to compute with
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: usize,
    /// Lengths of the prompts to read, separated by commas
    #[arg(long, value_name = "LIST", default_value = "32,128", value_parser = positives)]
    pub prompt: Numbers,
    /// Tokens to generate in one sample
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    pub r#gen: usize,
    /// Tokens in the cache before generating, separated by commas
    #[arg(long, value_name = "LIST", default_value = "128", value_parser = positives)]
    pub context: Numbers,
    /// Batch sizes to generate with at the first context, separated by commas
    #[arg(long, value_name = "LIST", default_value = "1", value_parser = positives)]
    pub batch: Numbers,
    /// Samples of each measurement
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    pub runs: usize,
    /// Of the random token ids
    #[arg(long, value_name = "N", default_value = "7")]
    pub seed: u64,
    /// Measure nothing, print the --gen greedy ids behind this prompt; more of the same length are a batch
    #[arg(long, value_name = "IDS", value_parser = naturals)]
    pub ids: Vec<Numbers>,
    /// Write the logits and ids of --ids to this .safetensors file, as verify reads them
    #[arg(long, value_name = "FILE", requires = "ids")]
    pub trace: Option<PathBuf>,
}

/// A whole number of at least 1.
fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or(format!("{text:?} is not a positive whole number"))
}

/// `32,128`: each at least 1 and there once.
fn positives(text: &str) -> Result<Numbers, String> {
    let numbers = text.split(',').map(positive).collect::<Result<Vec<_>, _>>()?;
    if numbers.iter().collect::<HashSet<_>>().len() < numbers.len() {
        return Err(format!("{text:?} has a number twice"));
    }
    Ok(Numbers(numbers))
}

/// `0,7,7`.
fn naturals(text: &str) -> Result<Numbers, String> {
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is not a whole number"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
}

impl Options {
    /// The options of the command line; prints help and ends the program when asked to.
    pub fn read() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                error.exit();
            }
            let text = error.to_string();
            let message = text.split("\n\n").next().expect("a first paragraph");
            Failure::Input(message.trim_start_matches("error: ").to_owned())
        })
    }

    /// Fails unless the prompts of `--ids` are a batch that the model can continue.
    pub fn check_ids(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let Some(Numbers(first)) = self.ids.first() else { return Ok(()) };
        if self.ids.iter().any(|Numbers(prompt)| prompt.len() != first.len()) {
            return Err(Failure::Input("the prompts of --ids have different lengths".into()));
        }
        let vocab_size = checkpoint.config.vocab_size;
        if let Some(id) = self.ids.iter().flat_map(|Numbers(prompt)| prompt).find(|&&id| id >= vocab_size) {
            return Err(Failure::Input(format!("--ids: {id} is not below vocab_size {vocab_size}")));
        }
        let (length, limit) = (first.len() + self.r#gen, checkpoint.config.max_position_embeddings);
        if length > limit {
            let message = format!("--ids and --gen: {length} tokens, max_position_embeddings is {limit}");
            return Err(Failure::Input(message));
        }
        Ok(())
    }
}
