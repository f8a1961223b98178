//! Loads a model and continues a prompt.
//!
//!     cargo run --release -p qwen3-text --features flex --example generate -- FOLDER 'What is 2 + 2?'
//!
//! Without arguments it uses the small trained model of this repository.

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::{DType, Device};
use qwen3_text::{GenerateOptions, Generation, GenerationConfig, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
    let folder = PathBuf::from(args.next().unwrap_or_else(|| tiny.into()));
    let prompt = args.next().unwrap_or_else(|| "Question: What is 3 plus 4?\nAnswer:".into());

    let model = qwen3_import::load(&folder, &Device::flex(), DType::F32)?;
    let tokenizer = Tokenizer::open(&folder)?;
    let config = GenerationConfig::open(&folder)?;

    let mut options = GenerateOptions::recommended(&config, &tokenizer);
    options.sampling.greedy = true;
    options.max_new_tokens = 64;
    let prompt = tokenizer.encode(&prompt)?;
    for result in Generation::new(&model, &tokenizer, &[prompt], &options)?.finish()? {
        println!("{}", result.text);
        eprintln!("{} tokens, {}", result.generated_ids.len(), result.reason.name());
    }
    Ok(())
}
