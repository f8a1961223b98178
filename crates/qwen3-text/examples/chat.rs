//! Streams the answer to a message, thoughts in brackets.
//!
//!     cargo run --release -p qwen3-text --features flex --example chat -- FOLDER 'Spell the word cat.'
//!
//! Without arguments it uses the small trained model of this repository.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use burn::tensor::{DType, Device};
use qwen3_text::{
    ChatTemplate, Event, GenerateOptions, Generation, GenerationConfig, Message, RenderOptions, Tokenizer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
    let folder = PathBuf::from(args.next().unwrap_or_else(|| tiny.into()));
    let message = args.next().unwrap_or_else(|| "What is 3 plus 4?".into());

    let model = qwen3_import::load(&folder, &Device::flex(), DType::F32)?;
    let tokenizer = Tokenizer::open(&folder)?;
    let template = ChatTemplate::open(&folder)?;

    let render = RenderOptions { add_generation_prompt: true, ..Default::default() };
    let prompt = template.render(&[Message::user(message)], &render)?;
    let prompt = tokenizer.encode(&prompt)?;

    let config = GenerationConfig::open(&folder)?;
    let mut options = GenerateOptions::recommended(&config, &tokenizer);
    options.sampling.seed = 1;
    options.max_new_tokens = 128;
    for event in Generation::new(&model, &tokenizer, &[prompt], &options)? {
        match event? {
            Event::ThinkingStarted { .. } => print!("["),
            Event::Text { text, .. } => print!("{text}"),
            Event::ThinkingEnded { .. } => print!("]"),
            Event::Finished { reason, .. } => println!("\n({})", reason.name()),
            Event::Prefill { .. } | Event::Token { .. } => {}
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
