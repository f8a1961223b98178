//! `qwen3 import`: a checkpoint to a record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use qwen3_command::{OutputFile, Temporary, printable};
use qwen3_import::save_record_with_texts;
use qwen3_model::{Precision, burn_dtype};
use qwen3_text::Tokenizer;

use crate::device::storage;
use crate::failure::{Blame, bad_input, note};
use crate::files::{Files, ModelArg, Need, TEXT_FILES, Weights};
use crate::inspect::{self, Entry};
use crate::{model, progress};

/// A record with more text than this could not be opened again.
const MAX_TEXT_BYTES: u64 = 90 << 20;

/// Arguments of `qwen3 import`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// The record to write; one that is there is replaced when the new one is complete
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The dtype of the weights in the record; without it, the checkpoint's own
    #[arg(long, value_name = "DTYPE", value_parser = qwen3_command::dtype())]
    dtype: Option<Precision>,
}

/// Reads, writes and tells.
pub fn run(args: &Args) -> Result<()> {
    let out = OutputFile::regular("--out", &args.out, []).bad_input()?;
    let files = args.model.files(Need::Weights)?;
    out.check_inputs(inputs(&files.weights).iter().map(PathBuf::as_path)).bad_input()?;
    let texts = texts(&files)?;
    let dtype = args.dtype.map_or_else(|| own_dtype(&files.weights), Ok)?;
    let device = storage(dtype)?;
    // A folder, so that a command that is ended leaves nothing behind.
    let folder = Temporary::inside(out.folder(), ".qwen3-import-")
        .with_context(|| format!("{} cannot be written to", out.folder().display()))?;
    let unfinished = folder.path().join("model.bpk");
    let has_head = files.weights.have_head()?;
    let load = if has_head { model::weights } else { model::encoder };
    let model = load(&files, &device, burn_dtype(dtype))?;
    let spinner = progress::spinner("writing");
    save_record_with_texts(&model, &unfinished, burn_dtype(dtype), &texts)?;
    std::fs::rename(&unfinished, out.path())
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    spinner.finish_and_clear();
    drop(folder);
    let parameters = inspect::parameters(&model.config, has_head);
    let bytes = std::fs::metadata(out.path())?.len();
    let inside = if texts.contains_key("tokenizer.json") {
        texts.into_keys().collect::<Vec<_>>().join(", ")
    } else {
        "no tokenizer".into()
    };
    note(&format!(
        "{}: {parameters} parameters in {dtype}, {:.1} MB, with {inside}{}",
        printable(&args.out.display().to_string()),
        bytes as f64 / 1e6,
        if has_head { "" } else { ", and no head: it embeds texts only" },
    ));
    Ok(())
}

/// What the record is made from, whose place it must not take; a record beside a checkpoint's files may be made
/// again.
fn inputs(weights: &Weights) -> Vec<PathBuf> {
    match weights {
        Weights::Record(file) => vec![file.clone()],
        Weights::Checkpoint(folder) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let files = entries.map(|entry| entry.path());
            files.filter(|file| file.extension().is_none_or(|end| end != "bpk")).collect()
        }
    }
}

/// The files that go into the record with the weights, each sound.
fn texts(files: &Files) -> Result<BTreeMap<String, String>> {
    if files.texts.join("tokenizer.json").is_file() {
        Tokenizer::open(&files.texts).bad_input()?;
    }
    let mut texts = BTreeMap::new();
    let mut bytes = 0;
    for name in TEXT_FILES {
        let file = files.texts.join(name);
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        if !metadata.is_file() {
            return Err(bad_input(format!("{}: is no file", file.display())));
        }
        bytes += metadata.len();
        if bytes > MAX_TEXT_BYTES {
            let text = format!("{}: too large for a record", file.display());
            return Err(bad_input(text));
        }
        let text = std::fs::read_to_string(&file);
        let text = text.with_context(|| file.display().to_string());
        texts.insert(name.to_string(), text.bad_input()?);
    }
    Ok(texts)
}

/// The dtype that most values of the weights are stored in.
fn own_dtype(weights: &Weights) -> Result<Precision> {
    let entries = inspect::tensors(weights).bad_input()?;
    let values = |dtype: &Precision| -> usize {
        let of_it = entries.iter().filter(|entry| entry.dtype == dtype.name());
        of_it.map(Entry::values).sum()
    };
    let most = Precision::ALL.into_iter().max_by_key(values);
    Ok(most.expect("a list of dtypes"))
}
