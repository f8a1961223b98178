//! What `--model` names: a folder, a record, a GGUF file, or a model on the hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_command::{Temporary, printable};
use qwen3_hub::HubModel;
pub use qwen3_hub::{Need, TEXT_FILES};
use qwen3_import::{Checkpoint, RecordFile, is_gguf, read_config};
use qwen3_model::{Extent, Qwen3Config};

use crate::failure::{Blame, bad_input, note};
use crate::{foreign, hub};

/// The model argument.
#[derive(clap::Args, Debug)]
pub struct ModelArg {
    /// The model: a folder, a record (.bpk), a GGUF file, or a name on the Hugging Face hub (Qwen/Qwen3-0.6B)
    #[arg(long, value_name = "MODEL")]
    pub model: String,
}

/// Where a model's weights are.
#[derive(Debug)]
pub enum Weights {
    /// In a checkpoint's folder, or a GGUF file.
    Checkpoint(PathBuf),
    /// In a record.
    Record(PathBuf),
}

impl Weights {
    /// The architecture that they are of.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config(&self) -> Result<Qwen3Config> {
        match self {
            Self::Checkpoint(folder) => read_config(folder).bad_input(),
            Self::Record(file) => Ok(RecordFile::open(file).bad_input()?.config().clone()),
        }
    }

    /// Checks that they give logits.
    ///
    /// # Errors
    /// When they cannot be read, or have no head.
    pub fn check_head(&self) -> Result<()> {
        match self {
            Self::Checkpoint(folder) => {
                Checkpoint::open(folder).and_then(|open| open.check_head()).bad_input()
            }
            Self::Record(file) => RecordFile::open(file).bad_input()?.check_head().bad_input(),
        }
    }

    /// How much of a model they are: do they give logits, or hidden states alone?
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn extent(&self) -> Result<Extent> {
        let has_head = match self {
            Self::Checkpoint(folder) => Checkpoint::open(folder).bad_input()?.has_head(),
            Self::Record(file) => RecordFile::open(file).bad_input()?.has_head(),
        };
        Ok(Extent::of(has_head))
    }
}

/// A model's files.
pub struct Files {
    /// The weights.
    pub weights: Weights,
    /// The folder of [`TEXT_FILES`], as far as there are any.
    pub texts: PathBuf,
    /// Holds the texts of a record or a GGUF file; removed with this.
    _unpacked: Option<Temporary>,
}

impl ModelArg {
    /// The files that the argument names, downloaded where they have to be.
    ///
    /// # Errors
    /// When there is nothing of that name.
    pub fn files(&self, need: Need) -> Result<Files> {
        let path = Path::new(&self.model);
        let of_folder = |folder: PathBuf| Files {
            texts: folder.clone(),
            weights: Weights::Checkpoint(folder),
            _unpacked: None,
        };
        if path.is_dir() {
            if let Some(what) = foreign::instead_of_weights(path).filter(|_| need == Need::Weights) {
                return Err(bad_input(what));
            }
            return Ok(of_folder(path.into()));
        }
        if is_gguf(path) {
            let texts = Checkpoint::open(path).and_then(|open| open.texts()).bad_input()?;
            return with_texts(Weights::Checkpoint(path.into()), path, &texts);
        }
        if path.exists() {
            if let Some(what) = foreign::named(path).bad_input()? {
                return Err(bad_input(format!("{}: {what}", path.display())));
            }
            return record(path);
        }
        match HubModel::parse(&self.model) {
            Some(model) => Ok(of_folder(hub::folder(&model, need)?)),
            None => Err(bad_input(format!("{}: no such file or folder", self.model))),
        }
    }
}

/// A record's files.
fn record(path: &Path) -> Result<Files> {
    let record = RecordFile::open(path).bad_input()?;
    if !record.has_checksums() {
        note(&format!(
            "note: {}: written without checksums, so damage to its weights is not noticed; import it again",
            printable(&path.display().to_string())
        ));
    }
    let text = |name: &&str| Some((name.to_string(), record.text(name)?.to_string()));
    with_texts(Weights::Record(path.into()), path, &TEXT_FILES.iter().filter_map(text).collect())
}

/// The files of weights that have `texts` inside, which are written to a folder of their own; without a tokenizer among
/// them, those beside the file are taken.
fn with_texts(weights: Weights, path: &Path, texts: &BTreeMap<String, String>) -> Result<Files> {
    let beside = path.parent().unwrap_or(Path::new(".")).into();
    let mut files = Files { weights, texts: beside, _unpacked: None };
    if texts.contains_key("tokenizer.json") {
        let folder = Temporary::new().context("no folder for temporary files")?;
        for (name, text) in texts {
            std::fs::write(folder.path().join(name), text)?;
        }
        files.texts = folder.path().into();
        files._unpacked = Some(folder);
    }
    Ok(files)
}
