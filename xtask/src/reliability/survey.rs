//! Runs of Transformers on checkpoints that `oracle.py wild` made, judged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use qwen3_blame::{Examination, ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Mode, Precision, Reference, Trace};
use zip::{ZipArchive, ZipWriter};

/// How long causes are looked for in an accused honest run.
const DIAGNOSE_FOR: Duration = Duration::from_secs(5);

/// An honest run.
pub struct Honest {
    /// What made the checkpoint wild.
    pub kind: String,
    /// Whose run.
    pub engine: String,
    /// In which dtype.
    pub dtype: Precision,
    /// Had the reference noise floors of Transformers in it?
    pub stored: bool,
    /// What did not pass, and where.
    pub accused: Option<String>,
    /// The causes that were named.
    pub causes: Vec<String>,
    /// The worst error over its limit of whole runs.
    pub ratio: f64,
}

/// A run with a mistake of a size.
pub struct Sized {
    /// Which mistake.
    pub mistake: String,
    /// Its share of what is right.
    pub size: String,
    /// In which dtype.
    pub dtype: Precision,
    /// Was it seen?
    pub seen: bool,
    /// Was the first tensor to differ that of the mistaken layer?
    pub placed: bool,
}

/// All runs that were judged.
#[derive(Default)]
pub struct Survey {
    pub honest: Vec<Honest>,
    pub sized: Vec<Sized>,
    /// How many checkpoints there are.
    pub checkpoints: usize,
}

impl Survey {
    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.honest.extend(other.honest);
        self.sized.extend(other.sized);
        self.checkpoints += other.checkpoints;
        self
    }

    /// Judges the runs of Transformers in `folder`: honest ones by the reference as it is and without its noise
    /// floors, mistaken ones by the reference as it is.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn transformers(&mut self, folder: &Path, temporary: &Path) -> Result<()> {
        self.checkpoints += 1;
        let checkpoint = Checkpoint::open(folder)?;
        let stored = folder.join("reference.npz");
        let bare = without_floors(&stored, temporary)?;
        let open = |file: &Path| Reference::open(file, checkpoint.config(), true);
        let references = [(true, open(&stored)?), (false, open(&bare)?)];
        for (file, name) in npz_files(folder)? {
            let mut parts = name.split('-');
            let (what, dtype) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let Some(dtype) = Precision::ALL.into_iter().find(|known| known.name() == dtype) else {
                continue;
            };
            let rest = parts.collect::<Vec<_>>().join("-");
            match what {
                "honest" => {
                    for (stored, reference) in &references {
                        let found = judged(&checkpoint, reference, &file, dtype, DIAGNOSE_FOR)?;
                        self.honest.push(Honest {
                            kind: kind(folder),
                            engine: format!("Transformers, {rest}"),
                            dtype,
                            stored: *stored,
                            accused: (!found.verdicts.pass()).then(|| failing(folder, &found.verdicts)),
                            causes: found.diagnosis.causes.into_iter().map(|cause| cause.id).collect(),
                            ratio: worst(&found.verdicts),
                        });
                    }
                }
                "sized" => {
                    let found = judged(&checkpoint, &references[0].1, &file, dtype, Duration::ZERO)?;
                    let layer = checkpoint.config().num_hidden_layers / 2;
                    let first = found.diagnosis.first_divergence;
                    let (mistake, size) = sized(&rest).with_context(|| format!("{}", file.display()))?;
                    self.sized.push(Sized {
                        mistake,
                        size,
                        dtype,
                        seen: !found.verdicts.pass(),
                        placed: first.is_some_and(|first| first.layer == Some(layer)),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The worst error over its limit of a whole run.
pub fn worst(verdicts: &qwen3_trace::Verdicts) -> f64 {
    verdicts.of(Mode::Accumulated).filter_map(|tensor| tensor.ratio).fold(0.0, f64::max)
}

/// The first thing of a run that did not pass, and the checkpoint.
pub fn failing(folder: &Path, verdicts: &qwen3_trace::Verdicts) -> String {
    let tensor = verdicts.tensors.iter().find(|tensor| !tensor.verdict.pass);
    let what = match tensor {
        Some(tensor) => {
            let ratio = tensor.ratio.map_or("not finite".into(), |ratio| format!("{ratio:.2} of its limit"));
            format!("{} {} {ratio}", tensor.mode, tensor.verdict.name)
        }
        None => "a generated token".into(),
    };
    format!("{}: {what}", name(folder))
}

/// The name of a checkpoint.
pub fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into()
}

/// What makes the checkpoint in `folder` wild: `003-outliers`.
pub fn kind(folder: &Path) -> String {
    let name = name(folder);
    name.split_once('-').map_or(name.clone(), |(_, kind)| kind.into())
}

fn judged(
    checkpoint: &Checkpoint,
    reference: &Reference,
    observed: &Path,
    dtype: Precision,
    diagnose_for: Duration,
) -> Result<Examination> {
    let observed = Trace::open(observed)?;
    let mut quiet = |_: &str| {};
    let options = ExamineOptions { diagnose_for, ..ExamineOptions::new(dtype, &mut quiet) };
    Ok(examine(checkpoint, reference, &observed, options)?)
}

/// `down_proj-row-1e-02` in two.
fn sized(name: &str) -> Option<(String, String)> {
    let at = name.rfind("-1e-")?;
    Some((name[..at].into(), name[at + 1..].into()))
}

/// The files and the names, in order.
fn npz_files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let npz = paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "npz"));
    let mut files: Vec<_> = npz
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_string();
            Some((path, name))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// A copy of a reference without its noise floors.
fn without_floors(reference: &Path, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("bare.npz");
    let mut from = ZipArchive::new(File::open(reference)?)?;
    let mut to = ZipWriter::new(File::create(&path)?);
    for index in 0..from.len() {
        let entry = from.by_index_raw(index)?;
        if !entry.name().starts_with("noise_floor") {
            to.raw_copy_file(entry)?;
        }
    }
    to.finish()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_folders_are_read() {
        assert_eq!(sized("down_proj-row-1e-02"), Some(("down_proj-row".into(), "1e-02".into())));
        assert_eq!(sized("down_proj-row"), None);
        assert_eq!(kind(Path::new("a/013-head-norms-50")), "head-norms-50");
    }
}
