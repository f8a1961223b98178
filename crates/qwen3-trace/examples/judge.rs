//! Judges every tensor of observed activations by a reference:
//! `cargo run --release -p qwen3-trace --example judge -- CHECKPOINT REFERENCE.npz MINE.npz`
use qwen3_checkpoint::read_config;
use qwen3_trace::{Judge, Limits, Precision, Reference, Trace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let [checkpoint, reference, observed] = &files[..] else {
        return Err("expected a checkpoint, a reference and observed activations".into());
    };
    let config = read_config(checkpoint)?;
    let reference = Reference::open(reference.as_ref(), &config, true)?;
    let observed = Trace::open(observed.as_ref())?;
    observed.check(&config, &reference.rows)?;
    let limits = Limits::new(&reference, Precision::F32, config.num_hidden_layers)?;
    let judge = Judge::new(&reference, &config, &limits, None);
    for tensor in judge.observed(&observed, None)?.tensors {
        let mark = if tensor.verdict.pass { "ok  " } else { "FAIL" };
        let ratio = tensor.ratio.unwrap_or(f64::INFINITY);
        println!("{mark} {:<36} {ratio:.3} of its limit", tensor.verdict.name);
    }
    Ok(())
}
