//! Prints the folder of a model on the Hugging Face hub, downloaded first where it has to be: for programs that should
//! not wait for a client of the hub to be compiled when nobody asks for a name.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use qwen3_hub::{Event, Hub, HubModel, Need};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(name), None) = (words.next(), words.next()) else {
        eprintln!("usage: qwen3-hub OWNER/MODEL");
        return ExitCode::from(2);
    };
    let Some(model) = HubModel::parse(&name) else {
        eprintln!("error: {name:?} is no name on the hub: OWNER/MODEL");
        return ExitCode::from(2);
    };
    let hub = Hub::from_env();
    match hub.folder(&model, Need::Weights, &mut tell) {
        Ok(folder) => {
            println!("{}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", hub.by_hand(&model));
            eprint!("error: {model} is not in the cache, and cannot be downloaded: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::from(2)
        }
    }
}

/// Says how far a download is: over and over on a terminal, once a file elsewhere.
fn tell(event: Event<'_>) {
    match event {
        Event::Waiting => eprintln!("another process downloads this model; it is waited for"),
        Event::Read { file, done, total } if stderr().is_terminal() => {
            eprint!("\r{file}: {} of {} MB ", done / 1_000_000, total / 1_000_000);
        }
        Event::Read { .. } => {}
        Event::Ended { file } => eprintln!("{}{file}: done", if stderr().is_terminal() { "\r" } else { "" }),
        Event::Unhashed { file } => eprintln!("the hub names no hash of {file}; its size alone is compared"),
    }
}
