//! `qwen3 generate`: a prompt continued.

use std::borrow::Cow;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qwen3_command::printable_text;
use qwen3_model::Extent;
use qwen3_report::peak_rss_mb;
use qwen3_text::{Event, FinishReason, GenerateError, Generation, SamplingOptions, Timing};
use serde::Serialize;

use crate::adapter::AdapterArg;
use crate::failure::{Blame, note};
use crate::files::{ModelArg, Need};
use crate::interrupt::Interrupt;
use crate::model::Texts;
use crate::place::PlaceArgs;
use crate::progress;
use crate::prompt::PromptArgs;
use crate::sampling::SamplingArgs;

/// Arguments of `qwen3 generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    adapter: AdapterArg,
    #[command(flatten)]
    prompt: PromptArgs,
    /// With --messages: ask for an answer without thinking (enable_thinking = false)
    #[arg(long, requires = "messages", conflicts_with_all = ["prompt", "prompt_file"])]
    no_thinking: bool,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    prompt_ids: Vec<u32>,
    generated_ids: Vec<u32>,
    text: String,
    finish_reason: &'static str,
    prefill_tok_per_s: f64,
    decode_tok_per_s: f64,
    load_s: f64,
    peak_rss_mb: Option<f64>,
}

/// Loads, generates and prints.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    // What is quick to check goes first, so that a mistake does not wait for the weights.
    let prompt = args.prompt.read(args.no_thinking)?;
    let plan = args.place.read()?;
    let files = args.model.files(Need::Weights)?;
    let begun = Instant::now();
    let adapter = args.adapter.open(&files)?;
    let texts = Texts::open(&args.model.model, &files)?;
    let options = args.sampling.options(&texts)?;
    let source = prompt.source.clone();
    let prompt_ids = texts.tokenizer.encode(&prompt.text(&files.texts)?).bad_input()?;
    let model = plan.open(&files.weights.config()?, Extent::Whole, options.chunk_size)?.load(&files)?;
    let model = adapter.on(model)?;
    drop(files);
    let load_s = begun.elapsed().as_secs_f64();
    let generation =
        Generation::new(&model, &texts.tokenizer, &[&prompt_ids], &options).context(source).bad_input()?;

    let mut out = stdout().lock();
    let spoken = interrupt.generating(|cancel| {
        let mut generation = generation.with_cancel(cancel);
        follow(&mut generation, |event| match event {
            Event::Text { text, .. } if !args.json => say(&mut out, &shown(text)),
            _ => Ok(()),
        })
    })?;
    let speed = spoken.speed(prompt_ids.len());
    if args.json {
        let report = Report {
            prompt_ids,
            generated_ids: spoken.ids,
            text: spoken.text,
            finish_reason: spoken.reason.name(),
            prefill_tok_per_s: speed.prefill,
            decode_tok_per_s: speed.decode,
            load_s,
            peak_rss_mb: peak_rss_mb(),
        };
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(out.flush()?);
    }
    if out.is_terminal() {
        writeln!(out)?;
    }
    out.flush()?;
    note(&format!(
        "{} tokens read at {:.1} tok/s, {} generated at {:.1} tok/s ({}); loaded in {:.1} s{}{}",
        prompt_ids.len(),
        speed.prefill,
        spoken.ids.len(),
        speed.decode,
        spoken.reason.name(),
        load_s,
        peak_rss_mb().map_or(String::new(), |mb| format!(", {mb:.0} MiB at most")),
        seed(&options.sampling),
    ));
    Ok(())
}

/// The seed, where tokens were drawn.
fn seed(sampling: &SamplingOptions) -> String {
    if sampling.greedy { String::new() } else { format!(", seed {}", sampling.seed) }
}

/// What the model said, as standard output gets it: to the letter where that is a file or a pipe, and on a terminal
/// with everything escaped that it would obey.
pub fn shown(text: &str) -> Cow<'_, str> {
    if stdout().is_terminal() { printable_text(text) } else { text.into() }
}

/// Prints text at once.
pub fn say(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// What one prompt led to.
pub struct Spoken {
    /// The generated tokens.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Why it ended.
    pub reason: FinishReason,
    timing: Timing,
}

/// Tokens per second; 0 where there was none.
pub struct Speed {
    /// Of reading the prompt.
    pub prefill: f64,
    /// Of decoding: every token but the first, which the prompt's logits give.
    pub decode: f64,
}

impl Spoken {
    /// The speed, for a prompt of so many tokens.
    pub fn speed(&self, prompt: usize) -> Speed {
        let rate = |tokens: usize, time: Duration| {
            let rate = tokens as f64 / time.as_secs_f64();
            if rate.is_finite() { rate } else { 0.0 }
        };
        Speed {
            prefill: rate(prompt, self.timing.prefill),
            decode: rate(self.ids.len().saturating_sub(1), self.timing.decode),
        }
    }
}

/// Runs a generation of one prompt, with a progress bar while it is read, showing every event to `show` as
/// it comes.
///
/// # Errors
/// When the model or `show` fails.
pub fn follow(generation: &mut Generation, mut show: impl FnMut(&Event) -> Result<()>) -> Result<Spoken> {
    let bar = progress::bar("reading", 1);
    let mut spoken = Spoken {
        ids: Vec::new(),
        text: String::new(),
        reason: FinishReason::Length,
        timing: Timing::default(),
    };
    for event in generation {
        let event = event.map_err(broken)?;
        if let Event::Prefill { read, total } = event {
            bar.set_length(total as u64);
            bar.set_position(read as u64);
            if read == total {
                bar.finish_and_clear();
            }
        }
        show(&event)?;
        match event {
            Event::Token { id, .. } => spoken.ids.push(id),
            Event::Text { text, .. } => spoken.text += &text,
            Event::Finished { reason, timing, .. } => {
                spoken.reason = reason;
                spoken.timing = timing;
            }
            _ => {}
        }
    }
    bar.finish_and_clear();
    Ok(spoken)
}

/// What goes wrong on the way is the model's fault, not the input's.
fn broken(error: GenerateError) -> anyhow::Error {
    anyhow::Error::new(error).context("generation failed")
}
