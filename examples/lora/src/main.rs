//! `cargo run --release --manifest-path examples/lora/Cargo.toml -- OUT [EPOCHS]`

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let out = PathBuf::from(
        words.next().ok_or("expected a folder for the adapter, and perhaps a number of epochs")?,
    );
    let epochs = match words.next() {
        Some(word) => word.to_str().ok_or("not a number of epochs")?.parse()?,
        None => 10,
    };
    let outcome = lora_example::train(&out, epochs)?;
    println!(
        "loss of what was held out: {:.3} before, {:.3} with the adapter in {}",
        outcome.before,
        outcome.after,
        out.display()
    );
    Ok(())
}
