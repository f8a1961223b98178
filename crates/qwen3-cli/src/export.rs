//! `qwen3 export`: a model to a checkpoint in Hugging Face's layout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_command::{Temporary, printable};
use qwen3_import::{check_vacant, save_checkpoint_with_texts};
use qwen3_model::{DeviceMap, Precision, burn_dtype};

use crate::adapter::AdapterArg;
use crate::device::storage;
use crate::failure::{Blame, note};
use crate::files::{ModelArg, Need};
use crate::stored::{own_dtype, texts};
use crate::{model, progress};

const NOTES: &str = "\
The folder holds config.json, model.safetensors (or shards of 5 GB with an index) and what the model came with of
tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja. Transformers, and everything
that reads its checkpoints, reads it: a model that was trained with Burn leaves Burn again.

  qwen3 export --model qwen3.bpk --out my-qwen3
  qwen3 export --model DIR --adapter LORA --dtype bf16 --out merged";

/// Arguments of `qwen3 export`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    adapter: AdapterArg,
    /// The folder to write, which is not there yet, or empty; an adapter is merged into the weights
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The dtype of the weights there; without it, the one that most of its values are in now
    #[arg(long, value_name = "DTYPE", value_parser = qwen3_command::dtype())]
    dtype: Option<Precision>,
}

/// Reads, writes and tells.
pub fn run(args: &Args) -> Result<()> {
    check_vacant(&args.out).context("--out").bad_input()?;
    let files = args.model.files(Need::Weights)?;
    let adapter = args.adapter.open(&files)?;
    let texts = texts(&files)?;
    let dtype = args.dtype.map_or_else(|| own_dtype(&files.weights), Ok)?;
    let device = storage(dtype)?;
    let beside = match args.out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A folder, so that a command that is ended leaves nothing behind.
    let folder = std::fs::create_dir_all(beside).and_then(|()| Temporary::inside(beside, ".qwen3-export-"));
    let folder = folder.with_context(|| format!("{} cannot be written to", beside.display()))?;
    let unfinished = folder.path().join("model");
    let extent = files.weights.extent()?;
    let map = DeviceMap::whole(device, files.weights.config()?.num_hidden_layers);
    let model = adapter.on(model::weights(&files, extent, &map, burn_dtype(dtype))?)?;
    let spinner = progress::spinner("writing");
    save_checkpoint_with_texts(&model, &unfinished, burn_dtype(dtype), &texts)?;
    let bytes = size(&unfinished);
    let _: std::io::Result<()> = std::fs::remove_dir(&args.out);
    std::fs::rename(&unfinished, &args.out)
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    spinner.finish_and_clear();
    drop(folder);
    note(&format!(
        "{}: {} parameters in {dtype}, {:.1} MB, with {}",
        printable(&args.out.display().to_string()),
        extent.parameters(&model.config),
        bytes as f64 / 1e6,
        if texts.contains_key("tokenizer.json") { "its tokenizer" } else { "no tokenizer" },
    ));
    Ok(())
}

/// Bytes of the files in `folder`.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
