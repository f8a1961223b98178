//! `qwen3 embed`: texts to vectors.

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use qwen3_model::Extent;
use qwen3_text::{EmbedOptions, Embedder, RetrievalError, instructed};
use serde::Serialize;

use crate::adapter::AdapterArg;
use crate::failure::{Blame, note};
use crate::files::{ModelArg, Need};
use crate::place::PlaceArgs;
use crate::{lines, model, progress};

const NOTES: &str = "\
A vector is what the model gives for a text's last token, of length 1: the dot product of two is their cosine.
Queries are given with --instruct, documents without, both with the same model and --dimensions:

  qwen3 embed --model Qwen/Qwen3-Embedding-0.6B --json --text 'What is gravity?' \\
    --instruct 'Given a web search query, retrieve relevant passages that answer the query'
  qwen3 embed --model Qwen/Qwen3-Embedding-0.6B --json --file passages.txt

A text that is longer than the model has positions, or than --max-length, is cut at its end, and a note says so.
Any Qwen3 embeds; one that was trained for it, such as Qwen3-Embedding, does so well.";

/// Arguments of `qwen3 embed`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Texts; `--text=-1` for one that begins with a hyphen
    #[arg(long, value_name = "TEXT", num_args = 1.., required_unless_present = "file", conflicts_with = "file")]
    text: Vec<String>,
    /// A file with a text on each line, in place of --text
    #[arg(long, value_name = "LINES")]
    file: Option<PathBuf>,
    /// The texts are queries for this task: each becomes `Instruct: {TASK}\nQuery:{text}`
    #[arg(long, value_name = "TASK", allow_hyphen_values = true)]
    instruct: Option<String>,
    /// The first N values of each vector, of length 1 again (Matryoshka); without it, all: the model's hidden_size
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Most tokens of a text; without it, as many as the model has positions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_length: Option<u32>,
    /// Print one JSON object, {"embeddings": [[..]], "tokens": [..]}, instead of a vector on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    embeddings: Vec<Vec<f32>>,
    tokens: Vec<usize>,
}

/// Loads, embeds and prints.
pub fn run(args: &Args) -> Result<()> {
    // What is quick to check goes first, so that a mistake does not wait for the weights.
    let plan = args.place.read()?;
    let mut texts = lines::texts(&args.text, args.file.as_deref())?;
    if let Some(task) = &args.instruct {
        texts = texts.iter().map(|query| instructed(task, query)).collect();
    }
    let files = args.model.files(Need::Weights)?;
    let options = EmbedOptions {
        dimensions: args.dimensions,
        max_length: args.max_length.map(|length| length as usize),
        ..EmbedOptions::default()
    };
    let config = files.weights.config()?;
    options.validate(&config).context("--dimensions").bad_input()?;
    let adapter = args.adapter.open(&files)?;
    let tokenizer = model::tokenizer(&args.model.model, &files)?;
    let begun = Instant::now();
    let model = adapter.on(plan.open(&config, Extent::Encoder, options.chunk_size)?.load(&files)?)?;
    drop(files);
    let load_s = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let spinner = progress::spinner("embedding");
    let found = Embedder::new(&model, &tokenizer, options).and_then(|embedder| embedder.embed(&texts));
    spinner.finish_and_clear();
    let found = blamed(found)?;
    let embed_s = begun.elapsed().as_secs_f64();
    for (text, embedding) in found.iter().enumerate().filter(|(_, embedding)| embedding.cut) {
        note(&format!("note: text {text} is cut to its first {} tokens", embedding.tokens));
    }
    let tokens: Vec<_> = found.iter().map(|embedding| embedding.tokens).collect();
    let read: usize = tokens.iter().sum();
    let embeddings: Vec<_> = found.into_iter().map(|embedding| embedding.vector).collect();
    let mut out = BufWriter::new(stdout().lock());
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Report { embeddings, tokens })?)?;
        return Ok(out.flush()?);
    }
    for vector in &embeddings {
        for (at, value) in vector.iter().enumerate() {
            write!(out, "{}{value}", if at > 0 { " " } else { "" })?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    note(&format!(
        "{} text{}, {read} tokens read at {:.1} tok/s, vectors of {} values; loaded in {load_s:.1} s",
        embeddings.len(),
        if embeddings.len() == 1 { "" } else { "s" },
        read as f64 / embed_s,
        embeddings.first().map_or(0, Vec::len),
    ));
    Ok(())
}

/// What the model computed is its fault, everything else the input's.
pub fn blamed<T>(found: Result<T, RetrievalError>) -> Result<T> {
    match found {
        Err(error @ RetrievalError::NotFinite { .. }) => Err(error.into()),
        found => found.bad_input(),
    }
}
