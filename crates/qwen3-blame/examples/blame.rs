//! Names what is wrong with activations that some implementation of Qwen3 gave:
//! `cargo run --release -p qwen3-blame --example blame -- CHECKPOINT REFERENCE.npz MINE.npz`
use qwen3_blame::{ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Precision, Reference, Trace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let [checkpoint, reference, observed] = &files[..] else {
        return Err("expected a checkpoint, a reference and observed activations".into());
    };
    let checkpoint = Checkpoint::open(checkpoint)?;
    let reference = Reference::open(reference.as_ref(), checkpoint.config(), true)?;
    let observed = Trace::open(observed.as_ref())?;
    let progress = &mut |what: &str| eprintln!("{what}");
    let options = ExamineOptions::new(Precision::F32, progress);
    let found = examine(&checkpoint, &reference, &observed, options)?;
    match &found.diagnosis.first_divergence {
        Some(first) => println!("first divergence: {}", first.tensor),
        None => println!("{} tensors, all within their limits", found.verdicts.tensors.len()),
    }
    for cause in &found.diagnosis.causes {
        println!("{}: {}", cause.id, cause.explanation);
    }
    Ok(())
}
