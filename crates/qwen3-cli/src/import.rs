//! `qwen3 import`: a checkpoint or a GGUF file to a record.

use std::path::PathBuf;

use anyhow::{Context, Result};
use qwen3_command::{OutputFile, Temporary, printable};
use qwen3_import::save_record_with_texts;
use qwen3_model::{DeviceMap, Extent, Precision, burn_dtype};

use crate::device::storage;
use crate::failure::{Blame, note};
use crate::files::{ModelArg, Need, Weights};
use crate::stored::{own_dtype, texts};
use crate::{model, progress};

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
    let extent = files.weights.extent()?;
    let map = DeviceMap::whole(device, files.weights.config()?.num_hidden_layers);
    let model = model::weights(&files, extent, &map, burn_dtype(dtype))?;
    let spinner = progress::spinner("writing");
    save_record_with_texts(&model, &unfinished, burn_dtype(dtype), &texts)?;
    std::fs::rename(&unfinished, out.path())
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    spinner.finish_and_clear();
    drop(folder);
    let parameters = extent.parameters(&model.config);
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
        match extent {
            Extent::Whole => "",
            Extent::Encoder => ", and no head: it embeds texts only",
        },
    ));
    Ok(())
}

/// What the record is made from, whose place it must not take; a record beside a checkpoint's files may be made
/// again.
fn inputs(weights: &Weights) -> Vec<PathBuf> {
    match weights {
        Weights::Record(file) => vec![file.clone()],
        Weights::Checkpoint(file) if file.is_file() => vec![file.clone()],
        Weights::Checkpoint(folder) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let files = entries.map(|entry| entry.path());
            files.filter(|file| file.extension().is_none_or(|end| end != "bpk")).collect()
        }
    }
}
