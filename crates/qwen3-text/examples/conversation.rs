//! A conversation of several turns: the session keeps what it has read, and each answer reads only what is new.
//!
//!     cargo run --release -p qwen3-text --features flex --example conversation -- FOLDER 'First message' 'Second' ..
//!
//! Without arguments it uses the small trained model of this repository.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use burn::tensor::{DType, Device};
use qwen3_model::{Session, SessionOptions};
use qwen3_text::{
    ChatTemplate, Event, GenerateOptions, Generation, GenerationConfig, Message, RenderOptions, Tokenizer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
    let folder = PathBuf::from(args.next().unwrap_or_else(|| tiny.into()));
    let mut questions: Vec<String> = args.collect();
    if questions.is_empty() {
        questions = ["What comes after Monday?", "What comes after Friday?"].map(String::from).into();
    }

    let model = qwen3_import::load(&folder, &Device::flex(), DType::F32)?;
    let tokenizer = Tokenizer::open(&folder)?;
    let template = ChatTemplate::open(&folder)?;
    let mut options = GenerateOptions::recommended(&GenerationConfig::open(&folder)?, &tokenizer);
    options.sampling.greedy = true;
    options.max_new_tokens = 128;

    let capacity = model.config.max_tokens().min(1024);
    let mut session = Session::new(&model, SessionOptions { capacity, ..Default::default() })?;
    // The tokens in the session.
    let mut read: Vec<u32> = Vec::new();
    let mut messages = Vec::new();
    for question in questions {
        println!("> {question}");
        messages.push(Message::user(question));
        let render = RenderOptions { add_generation_prompt: true, ..Default::default() };
        let prompt = tokenizer.encode(&template.render(&messages, &render)?)?;
        // As far as they agree: the template takes thoughts out of earlier answers. The last token is read again, for
        // its logits.
        let same = read.iter().zip(&prompt).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
        let same = session.truncate(same);
        let new = &prompt[same..];
        eprintln!("({} of {} tokens are new)", new.len(), prompt.len());
        let mut generation = Generation::in_session(session, &tokenizer, &prompt[..same], &[new], &options)?;
        let (mut answer, mut ids) = (String::new(), Vec::new());
        for event in generation.by_ref() {
            match event? {
                Event::Text { text, .. } => {
                    print!("{text}");
                    std::io::stdout().flush()?;
                    answer += &text;
                }
                Event::Token { id, .. } => ids.push(id),
                _ => {}
            }
        }
        println!();
        session = generation.into_session();
        read = [&prompt[..], &ids].concat();
        read.truncate(session.used());
        messages.push(Message::assistant(answer));
    }
    Ok(())
}
