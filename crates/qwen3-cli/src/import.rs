//! `qwen3 import`: a checkpoint to a record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use qwen3_import::save_record_with_texts;

use crate::device::{Dtype, storage};
use crate::failure::{Blame, bad_input};
use crate::files::{ModelArg, Need, TEXT_FILES, Weights};
use crate::interrupt::Interrupt;
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
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Dtype>,
}

/// Reads, writes and tells.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    if args.out.is_dir() {
        return Err(bad_input(format!("{}: is a folder", args.out.display())));
    }
    let parent = args
        .out
        .parent()
        .filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(std::path::Path::new("."));
    if !parent.is_dir() {
        let text = format!("{}: no such folder", parent.display());
        return Err(bad_input(text));
    }
    let files = args.model.files(Need::Weights)?;
    let dtype = match args.dtype {
        Some(dtype) => dtype,
        None => own_dtype(&files.weights)?,
    };
    let model = model::weights(&files, &storage(dtype)?, dtype.burn())?;

    let mut texts = BTreeMap::new();
    for name in TEXT_FILES {
        let file = files.texts.join(name);
        if file.is_file() {
            let text = std::fs::read_to_string(&file);
            let text = text.with_context(|| file.display().to_string());
            texts.insert(name.to_string(), text.bad_input()?);
        }
    }
    // A folder, so that nothing is left behind whatever ends the command.
    let folder = tempfile::Builder::new()
        .prefix(".qwen3-import-")
        .tempdir_in(parent)
        .with_context(|| format!("{} cannot be written to", parent.display()))?;
    let unfinished = folder.path().join("model.bpk");
    let spinner = progress::spinner("writing");
    interrupt.with_unfinished(folder.path().into(), || -> Result<()> {
        save_record_with_texts(&model, &unfinished, dtype.burn(), &texts)?;
        std::fs::rename(&unfinished, &args.out)
            .with_context(|| format!("{} cannot be written", args.out.display()))
    })?;
    spinner.finish_and_clear();
    let bytes = std::fs::metadata(&args.out)?.len();
    eprintln!(
        "{}: {} parameters in {}, {:.1} MB, with {}",
        args.out.display(),
        model.config.num_parameters(),
        dtype.name(),
        bytes as f64 / 1e6,
        match texts.is_empty() {
            true => "no tokenizer".into(),
            false => texts.into_keys().collect::<Vec<_>>().join(", "),
        }
    );
    Ok(())
}

/// The dtype that most values of the weights are stored in.
fn own_dtype(weights: &Weights) -> Result<Dtype> {
    let entries = crate::inspect::tensors(weights)?;
    let values = |dtype: Dtype| -> usize {
        let of_it = entries.iter().filter(|entry| entry.dtype == dtype.name());
        of_it.map(|entry| entry.values()).sum()
    };
    Ok(Dtype::ALL
        .into_iter()
        .max_by_key(|dtype| values(*dtype))
        .unwrap_or(Dtype::F32))
}
