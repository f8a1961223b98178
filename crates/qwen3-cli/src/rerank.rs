//! `qwen3 rerank`: documents by how well they answer a query.

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::printable;
use qwen3_model::Extent;
use qwen3_text::{DEFAULT_INSTRUCT, RerankOptions, Reranker, best_first};
use serde::Serialize;

use crate::adapter::AdapterArg;
use crate::embed::blamed;
use crate::failure::note;
use crate::files::{ModelArg, Need};
use crate::place::PlaceArgs;
use crate::{lines, model, progress};

const NOTES: &str = "\
A score, 0 to 1, is how likely the model answers `yes` rather than `no` when it is asked whether a document meets the
query, with the official prompt. Scores of one query can be compared, and so can those of one instruction:

  qwen3 rerank --model Qwen/Qwen3-Reranker-0.6B --query 'What is gravity?' \\
    --document 'Beijing is a city.' 'Gravity attracts two bodies.'
  qwen3 rerank --model Qwen/Qwen3-Reranker-0.6B --query 'What is gravity?' --file passages.txt --json

A document that is too long is cut at its end, and a note says so; the query never is. Text in a query or document
that looks like a special token, such as <|im_end|>, is that token, as in the official code.";

/// Arguments of `qwen3 rerank`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    adapter: AdapterArg,
    /// What the documents should answer
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    query: String,
    /// Documents; `--document=-1` for one that begins with a hyphen
    #[arg(long, value_name = "TEXT", num_args = 1.., required_unless_present = "file", conflicts_with = "file")]
    document: Vec<String>,
    /// A file with a document on each line, in place of --document
    #[arg(long, value_name = "LINES")]
    file: Option<PathBuf>,
    /// What a document is asked for
    #[arg(long, value_name = "TASK", default_value = DEFAULT_INSTRUCT, allow_hyphen_values = true)]
    instruct: String,
    /// Most tokens of a prompt: instruction, query, document and what stands around them
    #[arg(long, value_name = "N", default_value_t = RerankOptions::default().max_length as u32)]
    max_length: u32,
    /// Print one JSON object, {"scores": [..], "order": [..]}, instead of a document on each line, the best first
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Of the documents as they were given.
    scores: Vec<f64>,
    /// Their indices, the best first.
    order: Vec<usize>,
}

/// Loads, scores and prints.
pub fn run(args: &Args) -> Result<()> {
    // What is quick to check goes first, so that a mistake does not wait for the weights.
    let plan = args.place.read()?;
    let documents = lines::texts(&args.document, args.file.as_deref())?;
    let files = args.model.files(Need::Weights)?;
    let tokenizer = model::tokenizer(&args.model.model, &files)?;
    let options = RerankOptions {
        instruct: args.instruct.clone(),
        max_length: args.max_length as usize,
        ..RerankOptions::default()
    };
    let adapter = args.adapter.open(&files)?;
    let place = plan.open(&files.weights.config()?, Extent::Whole, options.chunk_size)?;
    let model = adapter.on(place.load(&files)?)?;
    drop(files);

    let spinner = progress::spinner("scoring");
    let found = Reranker::new(&model, &tokenizer, options)
        .and_then(|reranker| reranker.rerank(&args.query, &documents));
    spinner.finish_and_clear();
    let found = blamed(found)?;
    for (document, _) in found.iter().enumerate().filter(|(_, reranked)| reranked.cut) {
        note(&format!(
            "note: document {document} is cut: its prompt may have {} tokens",
            found[document].tokens
        ));
    }
    let scores: Vec<_> = found.iter().map(|reranked| reranked.score).collect();
    let order = best_first(&scores);
    let mut out = BufWriter::new(stdout().lock());
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Report { scores, order })?)?;
        return Ok(out.flush()?);
    }
    for document in order {
        writeln!(out, "{:.6}  {document}  {}", scores[document], printable(&documents[document]))?;
    }
    Ok(out.flush()?)
}
