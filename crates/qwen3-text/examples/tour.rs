//! All of it in one file: loads, streams, batches, observes, fine-tunes, exports.
//!
//!     cargo run --release -p qwen3-text --features flex --example tour -- OUT
//!
//! OUT is a folder that is not there yet; without it the fine-tuned model is thrown away.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_nn::loss::CrossEntropyLossConfig;
use burn_optim::{AdamConfig, GradientsParams};
use qwen3_import::save_checkpoint_with_texts;
use qwen3_model::{Logits, Observed, Qwen3, Session, SessionOptions, Site, Taps};
use qwen3_text::{Event, FromPretrained, GenerateOptions, Generation, GenerationConfig, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny"));
    let device = Device::flex();
    let model = Qwen3::from_pretrained(&folder, &device, DType::F32)?;
    let tokenizer = Tokenizer::open(&folder)?;

    // Streamed.
    let mut options = GenerateOptions::recommended(&GenerationConfig::open(&folder)?, &tokenizer);
    (options.sampling.greedy, options.max_new_tokens) = (true, 24);
    for event in Generation::new(&model, &tokenizer, &[tokenizer.encode("1 2 3 4")?], &options)? {
        if let Event::Text { text, .. } = event? {
            print!("{text}");
            std::io::stdout().flush()?;
        }
    }
    println!();

    // A batch of unequal prompts.
    let prompts = [tokenizer.encode("Monday Tuesday")?, tokenizer.encode("10 11 12 13 14")?];
    for answer in Generation::new(&model, &tokenizer, &prompts, &options)?.finish()? {
        println!("{:?}, {}", answer.text, answer.reason.name());
    }

    // What passes through the layers, of a prompt and of a cached step.
    let mut session = Session::new(&model, SessionOptions { capacity: 64, ..Default::default() })?;
    let mut largest = BTreeMap::new();
    let mut look = |site: Site, value: Observed| {
        if let Observed::Rank3(tensor) = value {
            largest.insert(site.to_string(), tensor.abs().max().into_scalar::<f32>());
        }
    };
    session.prefill_with(&prompts[..1], Logits::Last, &mut Taps::new(&mut look))?;
    session.step_with(&prompts[1][..1], &mut Taps::new(&mut look))?;
    println!("largest value behind layer 0: {}", largest["layer_00_output"]);

    // Fine-tuned: every weight learns a sentence by heart.
    let device = device.autodiff();
    let mut model = Qwen3::from_pretrained(&folder, &device, DType::F32)?;
    let ids = |ids: &[i64]| Tensor::<1, Int>::from_data(ids, &device);
    let sentence: Vec<i64> = tokenizer.encode("1 2 3 5 8 13 21 34")?.into_iter().map(i64::from).collect();
    let (inputs, targets) = (&sentence[..sentence.len() - 1], &sentence[1..]);
    let (loss, mut optimizer) = (CrossEntropyLossConfig::new().init(&device), AdamConfig::new().init());
    for step in 0..=30 {
        let logits = model.forward(ids(inputs).unsqueeze()).squeeze_dim(0); // [seq, vocab_size]
        let loss = loss.forward(logits, ids(targets));
        if step % 10 == 0 {
            println!("step {step:2}: loss {:.3}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, gradients);
    }

    // Exported: Transformers loads the folder.
    let scratch = tempfile::tempdir()?;
    let out = std::env::args().nth(1).map_or_else(|| scratch.path().join("tuned"), PathBuf::from);
    let tokenizer_json = std::fs::read_to_string(folder.join("tokenizer.json"))?;
    let texts = [("tokenizer.json".to_string(), tokenizer_json)].into();
    save_checkpoint_with_texts(&model, &out, DType::BF16, &texts)?;
    println!("{} holds the fine-tuned model", out.display());
    Ok(())
}
