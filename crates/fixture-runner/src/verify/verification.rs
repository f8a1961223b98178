//! From the arguments to the report: opens what is given, runs or reads, judges, explains.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qwen3_import::Checkpoint;
use qwen3_model::Qwen3Config;

use super::job::{Job, Mode, parse_layers};
use super::judge::Judge;
use super::logits::TokenResult;
use super::memory::Memory;
use super::reference::Reference;
use super::report::{Run, RunStatus, VerifyReport};
use super::run::Outcome;
use super::{Activations, Args, Limits, consensus, logits, memory, run, subject, text};
use crate::backend::Backend;
use crate::blame::{self, Blame, Diagnosis};
use crate::tensors::{TAPS, layer_of, output_key, tap_key};

/// An open checkpoint and reference, and what is to be done with them.
pub struct Verification<'a> {
    args: &'a Args,
    checkpoint: Checkpoint,
    reference: Reference,
    reference_file: PathBuf,
    limits: Limits,
    /// Of layers that are given the reference's input.
    isolated: Limits,
    backends: Vec<Backend>,
    /// The backends asked for by name.
    pub named: Vec<Backend>,
    layers: Range<usize>,
    /// Where the processes write.
    folder: tempfile::TempDir,
}

impl<'a> Verification<'a> {
    /// Opens and checks everything that is given.
    ///
    /// # Errors
    /// Bad input.
    pub fn open(args: &'a Args) -> Result<Self> {
        let (backends, named) = crate::parse_backends(&args.backend)?;
        let checkpoint = Checkpoint::open(&args.model)?;
        let config = checkpoint.config().clone();
        let count = config.num_hidden_layers;
        let norm = |layer: usize| format!("model.layers.{layer}.input_layernorm.weight");
        for (layer, there) in [(count - 1, true), (count, false)] {
            ensure!(
                checkpoint.contains(&norm(layer)) == there,
                "{}: num_hidden_layers is {count}, but the checkpoint has {} `{}`",
                args.model.join("config.json").display(),
                if there { "no" } else { "a" },
                norm(layer)
            );
        }
        let layers = match &args.layers {
            Some(text) => parse_layers(text, count)?,
            None => 0..count,
        };
        ensure!(
            args.reference.is_some() || backends.len() + args.variant.len() > 1,
            "without --reference, backends are compared with each other: name two with --backend"
        );
        ensure!(
            layers.end == count || args.mode != [Mode::Patched],
            "--mode patched compares logits, and --layers ends at {} of {count}",
            layers.end
        );
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let reference_file = match &args.reference {
            Some(file) => file.clone(),
            None => subject::prompt_only(&args.ids, &config, folder.path())?,
        };
        let reference = Reference::open(&reference_file, &config, args.reference.is_some())?;
        if layers.start > 0 {
            let key = output_key(layers.start, count);
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
            isolated: limits.behind(1),
            limits,
            backends,
            named,
            layers,
            folder,
        })
    }

    /// Runs the backends, or reads what was observed, and compares.
    ///
    /// # Errors
    /// Bad input, or a process that cannot be started.
    pub fn run(&mut self) -> Result<VerifyReport> {
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
            let run = self.check_observed(file)?;
            report.runs.push(run);
        } else {
            self.run_backends(&mut report)?;
        }
        report.finish(&config);
        Ok(report)
    }

    /// Is it about the whole model?
    fn whole(&self) -> bool {
        self.layers == (0..self.checkpoint.config().num_hidden_layers)
    }

    /// Is tensor `key` in the layers asked for, or at an end of the model that they reach?
    fn asked_for(&self, key: &str) -> bool {
        match (layer_of(key), key) {
            (Some(layer), _) => self.layers.contains(&layer),
            (None, "embedding_output") => self.layers.start == 0,
            (None, _) => self.layers.end == self.checkpoint.config().num_hidden_layers,
        }
    }

    /// Checks somebody else's activations.
    fn check_observed(&mut self, file: &Path) -> Result<Run> {
        let start = Instant::now();
        let config = self.checkpoint.config().clone();
        let observed = Activations::open(file)?;
        let found = observed.check(&config, &self.reference.tokens)?;
        self.reference.check_same_prompt(&observed)?;
        // Taps that the reference does not have.
        let unknown = |layer: &usize| {
            let taps = TAPS.iter().map(|tap| tap_key(*layer, tap));
            let mut unknown = taps.filter(|key| !self.reference.keys.contains(key));
            unknown.any(|key| found.contains(&key))
        };
        let layers: Vec<usize> = self.layers.clone().filter(unknown).collect();
        let derived = (!layers.is_empty()).then(|| self.derive(layers));
        let derived = derived.transpose()?;
        let judge = self.judge(&config);
        let derived = derived.as_ref();
        let mut tensors = judge.tensors(Mode::Accumulated, &observed, derived)?;
        tensors.retain(|tensor| self.asked_for(&tensor.result.name));
        let mut run = Run::new("observed", self.args.dtype, None);
        run.tensors = tensors;
        if self.whole() {
            run.tokens = judge.observed_tokens(&observed)?;
            let differs = |token: &TokenResult| i64::from(token.expected) != token.observed;
            if !run.tokens.iter().any(differs) {
                run.tensors.extend(judge.step_logits(&observed)?);
            }
            if !run.tokens.iter().all(TokenResult::passes) {
                self.look_closer(&mut run.tokens)?;
            }
        }
        ensure!(
            run.compares_something(),
            "{}: none of its {} tensors is in the reference and in the layers asked for",
            file.display(),
            observed.names().len()
        );
        run.judge();
        if run.status == RunStatus::Fail {
            run.diagnosis = self.diagnose(&observed, derived, &run, Mode::Accumulated)?;
        }
        run.elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
        run.peak_rss_mb = memory::peak_rss_mb();
        Ok(run)
    }

    /// Judges ids that differ by how near to the best they are, which the reference did not tell.
    fn look_closer(&mut self, tokens: &mut [TokenResult]) -> Result<()> {
        let ids = self.reference.flat_ids();
        let generated = self.reference.generated.iter();
        let followed = generated.map(|row| row.iter().map(|id| *id as usize).collect());
        let followed: Vec<Vec<usize>> = followed.collect();
        let positions = &self.reference.tokens;
        let right = blame::right_logits(&mut self.checkpoint, positions, &ids, &followed)?;
        logits::with_right_logits(tokens, &right, followed[0].len(), &self.limits);
        Ok(())
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
        let isolated = self.args.mode.contains(&Mode::Isolated) && self.args.reference.is_some();
        let derived = isolated.then(|| self.derive(self.layers.clone()));
        let derived = derived.transpose()?;
        let mut finished = Vec::new();
        for (index, (backend, variant, program)) in programs.into_iter().enumerate() {
            let out = self.folder.path().join(index.to_string());
            let run = self.run_backend(backend, variant, &program, derived.as_ref(), &out)?;
            if run.compared() {
                let label = (run.label(), run.variant.is_none());
                finished.push((label, Activations::recorded(&out, "accumulated/")));
            }
            report.runs.push(run);
        }
        let runs = finished
            .iter()
            .map(|((label, votes), activations)| consensus::Run {
                label: label.clone(),
                dtype: self.args.dtype,
                votes: *votes,
                activations,
            });
        let runs: Vec<_> = runs.collect();
        let layers = self.checkpoint.config().num_hidden_layers;
        report.pairwise = consensus::pairs(&runs, layers)?;
        report.consensus = consensus::consensus(&report.pairwise, &runs);
        Ok(())
    }

    fn run_backend(
        &mut self,
        backend: Backend,
        variant: Option<String>,
        program: &Path,
        derived: Option<&Activations>,
        out: &Path,
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
        let mode = |mode: Mode| Activations::recorded(out, &format!("{}/", mode.name()));
        let (accumulated, isolated) = (mode(Mode::Accumulated), mode(Mode::Isolated));
        run.tensors = judge.tensors(Mode::Accumulated, &accumulated, None)?;
        run.tensors.extend(judge.step_logits(&accumulated)?);
        run.tensors
            .extend(judge.tensors(Mode::Isolated, &isolated, derived)?);
        run.tensors.extend(judge.patched(&mode(Mode::Patched))?);
        run.tokens = judge.tokens(&accumulated)?;
        ensure!(
            run.compares_something() || self.args.reference.is_none(),
            "{}: it has none of the tensors that these layers and modes give",
            self.reference_file.display()
        );
        run.judge();
        if run.status == RunStatus::Fail {
            let fails = |mode: Mode| {
                let mut tensors = run.tensors.iter();
                tensors.any(|tensor| tensor.mode == mode && !tensor.result.pass)
            };
            let tokens = run.tokens.iter().any(|token| !token.passes());
            run.diagnosis = match fails(Mode::Accumulated) || tokens {
                true => self.diagnose(&accumulated, None, &run, Mode::Accumulated)?,
                false => self.diagnose(&isolated, derived, &run, Mode::Isolated)?,
            };
        }
        Ok(run)
    }

    fn judge<'s>(&'s self, config: &'s Qwen3Config) -> Judge<'s> {
        Judge {
            reference: &self.reference,
            config,
            limits: &self.limits,
            isolated: &self.isolated,
            preset: self.args.preset,
        }
    }

    /// What passes through the reference's layers, as far as it does not say so itself.
    fn derive(&mut self, layers: impl IntoIterator<Item = usize>) -> Result<Activations> {
        let folder = self.folder.path().join("derived");
        subject::derived(&mut self.checkpoint, &self.reference, layers, &folder)
    }

    /// Where and why `observed`, made in `mode`, goes wrong.
    fn diagnose(
        &mut self,
        observed: &Activations,
        derived: Option<&Activations>,
        run: &Run,
        mode: Mode,
    ) -> Result<Diagnosis> {
        let ids = self.reference.flat_ids();
        let label = run.label();
        let isolated = mode == Mode::Isolated;
        let mut diagnosis = blame::diagnose(Blame {
            checkpoint: &mut self.checkpoint,
            tokens: &self.reference.tokens,
            ids: &ids,
            reference: &self.reference.activations,
            derived,
            observed,
            limits: if isolated {
                &self.isolated
            } else {
                &self.limits
            },
            range: self.layers.clone(),
            isolated,
            progress: &mut |what| text::progress(&label, what),
        })?;
        run.complete(&mut diagnosis, self.args.preset.is_some());
        Ok(diagnosis)
    }
}
