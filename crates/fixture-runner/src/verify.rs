//! `verify`: a checkpoint on some backends, or somebody's activations, against a reference, layer by layer.

mod activations;
mod consensus;
mod html;
mod judge;
mod junit;
mod limits;
mod logits;
mod memory;
pub mod observe;
mod reference;
mod report;
mod run;
#[cfg(test)]
mod sample;
mod subject;
mod text;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use qwen3_import::Checkpoint;

pub use activations::{Activations, keys, layer_of};
pub use limits::Limits;

use crate::backend::Backend;
use crate::blame::{self, Blame, Diagnosis};
use crate::manifest::TestDType;
use crate::report::JsonFile;
use judge::{Derived, Judge};
use limits::Preset;
use memory::Memory;
use observe::{Job, Mode, parse_layers};
use reference::Reference;
use report::{Run, RunStatus, VerifyReport};
use run::Outcome;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a directory in Hugging Face's layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What should come out: an npz as tools/extract_reference.py writes it. Without one, the backends
    /// are compared with each other.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Activations to check instead of ours, npz or safetensors, under the reference's keys, any subset.
    #[arg(long, value_name = "FILE", requires = "reference")]
    observed: Option<PathBuf>,
    /// ndarray, flex, wgpu, tch, cuda, several with commas, or all (the first four).
    #[arg(long, value_delimiter = ',', default_value = "ndarray")]
    backend: Vec<String>,
    /// The dtype to run in; with --observed, the one that the activations were made in.
    #[arg(long, default_value = "f32")]
    dtype: TestDType,
    /// How layers get their input: accumulated, isolated, patched, or several with commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "accumulated,isolated,patched"
    )]
    mode: Vec<Mode>,
    /// Only these layers: 3..7, 3..=6, 3.. or 3. Without the first, the reference's input is used; without
    /// the last, there are no logits.
    #[arg(long, value_name = "A..B")]
    layers: Option<String>,
    /// Fixed thresholds instead of calibrated limits.
    #[arg(long)]
    preset: Option<Preset>,
    /// Without a reference: the prompt's token ids, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ID",
        conflicts_with = "reference"
    )]
    ids: Vec<u32>,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report for people to this file, with nothing to load from elsewhere.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Report a backend as unavailable without trying it: NAME=REASON.
    #[arg(long, hide = true, value_parser = crate::name_and_reason)]
    unavailable: Vec<(Backend, String)>,
    /// Run wgpu once more in another build of this program: LABEL=PROGRAM.
    #[arg(long, hide = true, value_parser = label_and_program)]
    variant: Vec<(String, PathBuf)>,
}

fn label_and_program(text: &str) -> Result<(String, PathBuf), String> {
    let (label, program) = text.split_once('=').ok_or("expected LABEL=PROGRAM")?;
    Ok((label.into(), program.into()))
}

/// Verifies and reports; gives the exit code.
///
/// # Errors
/// Bad input, or a report that cannot be written.
pub fn verify(args: &Args) -> Result<ExitCode> {
    let outputs = [&args.json, &args.junit, &args.html].map(|file| file.as_deref());
    let outputs = outputs.map(|file| file.map(JsonFile::create).transpose());
    let [json, junit, html] = outputs;
    let (json, junit, html) = (json?, junit?, html?);

    let mut verification = Verification::open(args)?;
    let report = verification.run()?;
    text::print(&report)?;
    let value = serde_json::to_value(&report)?;
    if let Some(file) = json {
        file.finish(&(serde_json::to_string_pretty(&value)? + "\n"))?;
    }
    if let Some(file) = junit {
        file.finish(&junit::render(&value))?;
    }
    if let Some(file) = html {
        file.finish(&html::render(&value))?;
    }
    Ok(ExitCode::from(report.exit_code(&verification.named)))
}

/// An open checkpoint and reference, and what is to be done with them.
struct Verification<'a> {
    args: &'a Args,
    checkpoint: Checkpoint,
    reference: Reference,
    reference_file: PathBuf,
    limits: Limits,
    backends: Vec<Backend>,
    /// The backends asked for by name.
    named: Vec<Backend>,
    layers: std::ops::Range<usize>,
    /// Where the processes write.
    folder: tempfile::TempDir,
}

impl<'a> Verification<'a> {
    fn open(args: &'a Args) -> Result<Self> {
        let (backends, named) = crate::parse_backends(&args.backend)?;
        let checkpoint = Checkpoint::open(&args.model)?;
        let config = checkpoint.config().clone();
        let count = config.num_hidden_layers;
        let layers = match &args.layers {
            Some(text) => parse_layers(text, count)?,
            None => 0..count,
        };
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let reference_file = match &args.reference {
            Some(file) => file.clone(),
            None => subject::prompt_only(&args.ids, &config, folder.path())?,
        };
        let reference = Reference::open(&reference_file, &config, args.reference.is_some())?;
        if layers.start > 0 && args.observed.is_none() {
            let key = format!("layer_{:02}_output", layers.start - 1);
            ensure!(
                reference.keys.contains(&key),
                "--layers begins at {}, but the reference has no `{key}`",
                layers.start
            );
        }
        let limits = Limits::new(&reference.activations, args.dtype, count)?;
        Ok(Self {
            args,
            checkpoint,
            reference,
            reference_file,
            limits,
            backends,
            named,
            layers,
            folder,
        })
    }

    fn run(&mut self) -> Result<VerifyReport> {
        let config = self.checkpoint.config().clone();
        let mut report = VerifyReport::new(
            &self.args.model,
            self.args.reference.as_deref(),
            self.args.observed.as_deref(),
            &self.reference,
            self.args.preset,
            self.limits.source(),
            Memory::of(&config, self.args.dtype),
        );
        if let Some(file) = &self.args.observed {
            let run = self.check_observed(&file.clone())?;
            report.runs.push(run);
        } else {
            self.run_backends(&mut report)?;
        }
        report.finish(&config);
        Ok(report)
    }

    /// Checks somebody else's activations.
    fn check_observed(&mut self, file: &std::path::Path) -> Result<Run> {
        let start = std::time::Instant::now();
        let config = self.checkpoint.config().clone();
        let observed = Activations::open(file, "")?;
        let keys = observed.check(&config, &self.reference.tokens)?;
        let judge = self.judge(&config);
        let tensors = judge.tensors(Mode::Accumulated, &observed, &Derived::new())?;
        let tokens = judge.observed_tokens(&observed)?;
        ensure!(
            !tensors.is_empty() || !tokens.is_empty(),
            "{}: none of its {} tensors is in the reference",
            file.display(),
            keys.len().max(observed.file().names().len())
        );
        let mut run = Run::new("observed", self.args.dtype, None);
        run.tensors = tensors;
        if tokens
            .iter()
            .all(|token| i64::from(token.expected) == token.observed)
        {
            run.tensors
                .extend(self.judge(&config).step_logits(&observed)?);
        }
        run.tokens = tokens;
        run.judge();
        if run.status == RunStatus::Fail {
            run.diagnosis = self.diagnose(&observed, &run)?;
        }
        run.elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
        run.peak_rss_mb = memory::peak_rss_mb();
        Ok(run)
    }

    fn run_backends(&mut self, report: &mut VerifyReport) -> Result<()> {
        let program = std::env::current_exe().context("this program's own path")?;
        let mut programs: Vec<_> = self
            .backends
            .iter()
            .map(|b| (*b, None, program.clone()))
            .collect();
        for (label, program) in &self.args.variant {
            programs.push((Backend::Wgpu, Some(label.clone()), program.clone()));
        }
        let derived = match self.args.mode.contains(&Mode::Isolated) {
            true => subject::derived(&mut self.checkpoint, &self.reference, self.layers.clone())?,
            false => Derived::new(),
        };
        let mut finished = Vec::new();
        for (index, (backend, variant, program)) in programs.into_iter().enumerate() {
            let out = self.folder.path().join(format!("{index}.safetensors"));
            let run = self.run_backend(backend, variant, &program, &derived, &out)?;
            if run.compared() {
                finished.push((run.label(), self.args.dtype, out));
            }
            report.runs.push(run);
        }
        let open = |(label, dtype, file): &(String, TestDType, PathBuf)| {
            anyhow::Ok((
                label.clone(),
                *dtype,
                Activations::open(file, "accumulated/")?,
            ))
        };
        let finished = finished.iter().map(open).collect::<Result<Vec<_>>>()?;
        let runs: Vec<consensus::Run> = finished
            .iter()
            .map(|(label, dtype, run)| (label.clone(), *dtype, run))
            .collect();
        let layers = self.checkpoint.config().num_hidden_layers;
        report.pairwise = consensus::pairs(&runs, layers)?;
        report.consensus = consensus::consensus(&report.pairwise, &runs);
        Ok(())
    }

    fn run_backend(
        &mut self,
        backend: Backend,
        variant: Option<String>,
        program: &std::path::Path,
        derived: &Derived,
        out: &std::path::Path,
    ) -> Result<Run> {
        let mut run = Run::new(backend.name(), self.args.dtype, variant);
        let given = self
            .args
            .unavailable
            .iter()
            .find(|(name, _)| *name == backend);
        if let Some((_, reason)) = given {
            run.fail_to_run(RunStatus::Unavailable, reason.clone());
            return Ok(run);
        }
        let job = Job {
            model: self.args.model.clone(),
            reference: self.reference_file.clone(),
            backend,
            dtype: self.args.dtype,
            mode: self.args.mode.clone(),
            first: self.layers.start,
            end: self.layers.end,
            out: out.into(),
        };
        let label = run.label();
        let done = match run::run(program, &job, &mut |what| text::progress(&label, what))? {
            Outcome::Done(done) => done,
            Outcome::Unavailable(reason) => {
                run.fail_to_run(RunStatus::Unavailable, reason);
                return Ok(run);
            }
            Outcome::Crash(reason) => {
                run.fail_to_run(RunStatus::Crash, reason);
                return Ok(run);
            }
        };
        run.elapsed_ms = done.elapsed_ms;
        run.peak_rss_mb = done.peak_rss_mb;
        run.switches = done.switches;
        run.timings = done.timings;
        let config = self.checkpoint.config().clone();
        let judge = self.judge(&config);
        let [accumulated, isolated, patched] =
            ["accumulated/", "isolated/", "patched/"].map(|prefix| Activations::open(out, prefix));
        let (accumulated, isolated, patched) = (accumulated?, isolated?, patched?);
        run.tensors = judge.tensors(Mode::Accumulated, &accumulated, &Derived::new())?;
        run.tensors.extend(judge.step_logits(&accumulated)?);
        run.tensors
            .extend(judge.tensors(Mode::Isolated, &isolated, derived)?);
        run.tensors.extend(judge.patched(&patched)?);
        run.tokens = judge.tokens(&accumulated)?;
        run.judge();
        if run.status == RunStatus::Fail && self.args.mode.contains(&Mode::Accumulated) {
            run.diagnosis = self.diagnose(&accumulated, &run)?;
        }
        Ok(run)
    }

    fn judge<'s>(&'s self, config: &'s qwen3_model::Qwen3Config) -> Judge<'s> {
        Judge {
            reference: &self.reference,
            config,
            limits: &self.limits,
            preset: self.args.preset,
        }
    }

    fn diagnose(&mut self, observed: &Activations, run: &Run) -> Result<Diagnosis> {
        let ids = self.reference.flat_ids();
        let label = run.label();
        let mut diagnosis = blame::diagnose(Blame {
            checkpoint: &mut self.checkpoint,
            tokens: &self.reference.tokens,
            ids: &ids,
            reference: &self.reference.activations,
            observed,
            limits: &self.limits,
            progress: &mut |what| text::progress(&label, what),
        })?;
        run.complete(&mut diagnosis);
        Ok(diagnosis)
    }
}
