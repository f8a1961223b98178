//! From the arguments to the report: opens what is given, runs or reads, has it judged and explained.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qwen3_blame::{Blame, ExamineOptions, calibrate, diagnose, examine, missing_embedding};
use qwen3_checkpoint::Checkpoint;
use qwen3_command::{VerifyArgs, backends, named};
use qwen3_config::{Site, layer_key};
use qwen3_report::{Label, RunResult, Status, VerifyReport, peak_rss_mb};
use qwen3_trace::consensus::{self, Voter};
use qwen3_trace::{Backend, Judge, Kernels, Limits, Mode, Reference, Scope, Trace, Verdicts};

use super::{Args, prompt};
use crate::progress::progress;
use crate::protocol::Observe;
use crate::supervise::Worker;

/// An open checkpoint and reference, and what is to be done with them.
pub struct Verification<'a> {
    args: &'a Args,
    checkpoint: Checkpoint,
    reference: Reference,
    reference_file: PathBuf,
    limits: Limits,
    /// The backends asked for by name.
    pub named: Vec<Backend>,
    scope: Scope,
    /// Where the workers write.
    folder: tempfile::TempDir,
}

impl<'a> Verification<'a> {
    /// Opens and checks everything that is given.
    ///
    /// # Errors
    /// Bad input.
    pub fn open(args: &'a Args) -> Result<Self> {
        let VerifyArgs { model, adapter, reference, backend, ids, mode, layers, .. } = &args.shared;
        let checkpoint = Checkpoint::open(model)?;
        let checkpoint = match adapter {
            Some(folder) => checkpoint.with_adapter(folder)?,
            None => checkpoint,
        };
        let config = checkpoint.config();
        let count = config.num_hidden_layers;
        for (layer, there) in [(count - 1, true), (count, false)] {
            let norm = layer_key(layer, "input_layernorm.weight");
            ensure!(
                checkpoint.contains(&norm) == there,
                "{}: num_hidden_layers is {count}, but the checkpoint has {} `{norm}`",
                model.join("config.json").display(),
                if there { "no" } else { "a" },
            );
        }
        let scope = match layers {
            Some(text) => Scope::parse(text, count).with_context(|| {
                format!("--layers {text}: not a range of layers within 0..{count}, as in 3..7")
            })?,
            None => Scope::whole(count),
        };
        if scope.has_end() {
            checkpoint.check_head()?;
        }
        ensure!(
            reference.is_some() || backends(backend).len() + args.variant.len() > 1,
            "without --reference, backends are compared with each other: name two with --backend"
        );
        ensure!(
            scope.has_end() || mode[..] != [Mode::Patched],
            "--mode patched compares logits, and --layers ends at {} of {count}",
            scope.layers.end
        );
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let reference_file = match reference {
            Some(file) => file.clone(),
            None => prompt::prompt_only(ids, config, folder.path())?,
        };
        let reference = Reference::open(&reference_file, config, reference.is_some())?;
        let first = Site::output(scope.layers.start, count);
        ensure!(
            scope.layers.start == 0 || reference.has(first),
            "--layers begins at {}, but the reference has no `{first}`",
            scope.layers.start
        );
        let limits = Limits::new(&reference, args.shared.dtype, count)?;
        Ok(Self { named: named(backend), args, checkpoint, reference, reference_file, limits, scope, folder })
    }

    /// Runs the backends, or reads what was observed, and compares.
    ///
    /// # Errors
    /// Bad input, or a process that cannot be started.
    pub fn run(&self) -> Result<VerifyReport> {
        let shared = &self.args.shared;
        let name = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let mut report = VerifyReport {
            model_path: shared.model.display().to_string(),
            adapter: name(&shared.adapter),
            reference: name(&shared.reference),
            observed: name(&shared.observed),
            test_input: self.reference.test_input.clone(),
            preset: shared.preset,
            limits: match (shared.preset, &shared.reference) {
                (Some(preset), _) => format!("preset {}", preset.name()),
                (None, Some(_)) => self.limits.source(),
                (None, None) => {
                    "none: there is no reference, the backends are compared with each other".into()
                }
            },
            ..VerifyReport::new(self.checkpoint.config(), shared.dtype)
        };
        match &shared.observed {
            Some(file) => report.runs.push(self.check_observed(file)?),
            None => self.run_backends(&mut report)?,
        }
        report.finish(self.checkpoint.config());
        Ok(report)
    }

    /// Checks somebody else's activations.
    fn check_observed(&self, file: &Path) -> Result<RunResult> {
        let start = Instant::now();
        let label = Label::new("observed", self.args.shared.dtype);
        let say = label.to_string();
        let options = ExamineOptions {
            dtype: self.args.shared.dtype,
            scope: Some(self.scope.clone()),
            preset: self.args.shared.preset,
            diagnose_for: self.args.shared.diagnose_for(),
            progress: &mut |what| progress(&say, what),
        };
        let found = examine(&self.checkpoint, &self.reference, &Trace::open(file)?, options)?;
        Ok(RunResult {
            status: Status::of(found.verdicts.pass()),
            verdicts: found.verdicts,
            diagnosis: found.diagnosis,
            unread: found.unread,
            elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
            peak_rss_mb: peak_rss_mb(),
            ..RunResult::new(label)
        })
    }

    fn run_backends(&self, report: &mut VerifyReport) -> Result<()> {
        let shared = &self.args.shared;
        let program = std::env::current_exe().context("this program's own path")?;
        let mut programs = Vec::new();
        for backend in backends(&shared.backend) {
            for kernels in backend.kernels(&shared.kernels) {
                programs.push((backend, kernels, kernels.variant(), &program));
            }
        }
        for (label, program) in &self.args.variant {
            programs.push((Backend::Wgpu, Kernels::On, Some(label.clone()), program));
        }
        let (limits, derived) = match shared.reference {
            Some(_) => {
                let say = &mut |what: &str| progress("expected", what);
                let (limits, derived) =
                    calibrate(&self.checkpoint, &self.reference, &self.scope, shared.dtype, say)?;
                (limits, Some(derived))
            }
            None => (self.limits.clone(), None),
        };
        let expected = Expected { limits: &limits, derived: derived.as_deref() };
        let mut finished = Vec::new();
        for (index, (backend, kernels, variant, program)) in programs.into_iter().enumerate() {
            let label = Label { variant, ..Label::new(backend.name(), shared.dtype) };
            let out = self.folder.path().join(index.to_string());
            let run = self.run_backend((backend, kernels), label, program, expected, &out)?;
            if run.status.ran() {
                finished.push((run.label.clone(), Trace::recorded(&out, "accumulated/")));
            }
            report.runs.push(run);
        }
        let voter = |(label, trace)| Voter {
            label: Label::to_string(label),
            dtype: label.dtype,
            votes: label.variant.is_none(),
            trace,
        };
        let voters: Vec<_> = finished.iter().map(|(label, trace)| voter((label, trace))).collect();
        report.pairwise = consensus::pairs(&voters, self.scope.of)?;
        report.consensus = consensus::consensus(&report.pairwise, &voters);
        Ok(())
    }

    fn run_backend(
        &self,
        (backend, kernels): (Backend, Kernels),
        label: Label,
        program: &Path,
        expected: Expected,
        out: &Path,
    ) -> Result<RunResult> {
        let shared = &self.args.shared;
        let unavailable = |reason: String| {
            let (label, status) = (label.clone(), Status::Unavailable);
            Ok(RunResult::stopped(label, status, reason))
        };
        if let Some(reason) = self.args.unavailable.reason(backend) {
            return unavailable(reason.into());
        }
        let (worker, ready) = Worker::start(program, backend, kernels, None)?;
        match ready {
            Ok(dtypes) if dtypes.contains(&shared.dtype) => {}
            Ok(_) => return unavailable(format!("{backend} does not compute in {}", shared.dtype)),
            Err(reason) => return unavailable(reason),
        }
        let job = Observe {
            model: shared.model.clone(),
            adapter: shared.adapter.clone().map(Into::into),
            reference: self.reference_file.clone(),
            dtype: shared.dtype,
            modes: shared.mode.clone(),
            layers: self.scope.layers.clone(),
            out: out.into(),
        };
        let say = label.to_string();
        let observed = match worker.observe(job, &mut |what| progress(&say, what))? {
            Ok(observed) => observed,
            Err(crash) => return Ok(RunResult::stopped(label, Status::Crash, crash)),
        };
        let verdicts = self.judge(out, expected)?;
        ensure!(
            !verdicts.is_empty() || shared.reference.is_none(),
            "{}: it has none of the tensors that these layers and modes give",
            self.reference_file.display()
        );
        let pass = verdicts.pass();
        Ok(RunResult {
            status: Status::of(pass),
            switches: observed.switches,
            elapsed_ms: observed.elapsed_ms,
            peak_rss_mb: observed.peak_rss_mb,
            timings: observed.timings,
            diagnosis: if pass { Default::default() } else { self.diagnose(out, expected, &verdicts, &say)? },
            verdicts,
            ..RunResult::new(label)
        })
    }

    /// Everything that a worker wrote to `out`, judged.
    fn judge(&self, out: &Path, expected: Expected) -> Result<Verdicts> {
        let config = self.checkpoint.config();
        let judge = Judge::new(&self.reference, config, expected.limits, self.args.shared.preset);
        let judge = judge.with_embedding(match self.args.shared.reference {
            Some(_) => missing_embedding(&self.checkpoint, &self.reference)?,
            None => None,
        });
        let (accumulated, isolated) = (made(out, Mode::Accumulated), made(out, Mode::Isolated));
        let mut tensors = judge.tensors(Mode::Accumulated, &accumulated, None)?;
        tensors.extend(judge.step_logits(&accumulated, &[])?);
        tensors.extend(judge.tensors(Mode::Isolated, &isolated, expected.derived)?);
        tensors.extend(judge.patched(&made(out, Mode::Patched))?);
        let tokens = judge.tokens(&accumulated)?;
        Ok(Verdicts { tensors, tokens })
    }

    /// Where and why what a worker wrote to `out` goes wrong.
    fn diagnose(
        &self,
        out: &Path,
        expected: Expected,
        verdicts: &Verdicts,
        label: &str,
    ) -> Result<qwen3_blame::Diagnosis> {
        let whole = verdicts.failing(Mode::Accumulated).next().is_some();
        let whole = whole || verdicts.wrong_token().is_some();
        let mode = if whole { Mode::Accumulated } else { Mode::Isolated };
        let limits = if whole { expected.limits.clone() } else { expected.limits.behind(1) };
        Ok(diagnose(Blame {
            checkpoint: &self.checkpoint,
            reference: &self.reference,
            derived: expected.derived.filter(|_| !whole),
            observed: &made(out, mode),
            verdicts,
            limits: &limits,
            scope: self.scope.clone(),
            mode,
            time: self.args.shared.diagnose_for(),
            progress: &mut |what| progress(label, what),
        })?)
    }
}

/// What is known of the right values beside the reference's own.
#[derive(Clone, Copy)]
struct Expected<'a> {
    limits: &'a Limits,
    /// Of what the reference does not tell of its layers.
    derived: Option<&'a Trace>,
}

/// What a worker wrote to `out` of one mode.
fn made(out: &Path, mode: Mode) -> Trace {
    Trace::recorded(out, &format!("{mode}/"))
}
