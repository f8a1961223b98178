//! From the arguments to the report: runs the backends, has what they give judged and explained.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use qwen3_blame::{Blame, calibrate, diagnose, missing_embedding};
use qwen3_command::{VerifyArgs, backends, named, progress};
use qwen3_report::{Label, RunResult, Status, VerifyReport};
use qwen3_trace::consensus::{self, Voter};
use qwen3_trace::{Backend, Judge, Kernels, Limits, Mode, Trace, Verdicts};
use qwen3_verify::Given;

use super::{Args, prompt};
use crate::protocol::Observe;
use crate::supervise::Worker;

/// What is given, and the backends that it is to be run on.
pub struct Verification<'a> {
    args: &'a Args,
    given: Given<'a>,
    /// The backends asked for by name.
    pub named: Vec<Backend>,
    /// Where the workers write.
    folder: tempfile::TempDir,
}

impl<'a> Verification<'a> {
    /// Opens and checks everything that is given.
    ///
    /// # Errors
    /// Bad input.
    pub fn open(args: &'a Args) -> Result<Self> {
        let VerifyArgs { backend, ids, .. } = &args.shared;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let given = Given::open(&args.shared, |config| {
            ensure!(
                backends(backend).len() + args.variant.len() > 1,
                "without --reference, backends are compared with each other: name two with --backend"
            );
            prompt::prompt_only(ids, config, folder.path())
        })?;
        Ok(Self { named: named(backend), args, given, folder })
    }

    /// Runs the backends, and compares.
    ///
    /// # Errors
    /// Bad input, or a process that cannot be started.
    pub fn run(&self) -> Result<VerifyReport> {
        let mut report = self.given.report();
        self.run_backends(&mut report)?;
        report.finish(self.given.checkpoint.config());
        Ok(report)
    }

    fn run_backends(&self, report: &mut VerifyReport) -> Result<()> {
        let (shared, given) = (&self.args.shared, &self.given);
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
                let say = &mut |what: &str| progress::say("expected", what);
                let (limits, derived) =
                    calibrate(&given.checkpoint, &given.reference, &given.scope, shared.dtype, say)?;
                (limits, Some(derived))
            }
            None => (given.limits.clone(), None),
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
        report.pairwise = consensus::pairs(&voters, given.scope.of)?;
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
        let (shared, given) = (&self.args.shared, &self.given);
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
            reference: given.reference_file.clone(),
            dtype: shared.dtype,
            modes: shared.mode.clone(),
            layers: given.scope.layers.clone(),
            out: out.into(),
        };
        let say = label.to_string();
        let observed = match worker.observe(job, &mut |what| progress::say(&say, what))? {
            Ok(observed) => observed,
            Err(crash) => return Ok(RunResult::stopped(label, Status::Crash, crash)),
        };
        let verdicts = self.judge(out, expected)?;
        ensure!(
            !verdicts.is_empty() || shared.reference.is_none(),
            "{}: it has none of the tensors that these layers and modes give",
            given.reference_file.display()
        );
        let pass = verdicts.pass();
        Ok(RunResult {
            status: Status::of(pass),
            switches: observed.switches,
            elapsed_ms: observed.elapsed_ms,
            peak_rss_mb: observed.peak_rss_mb,
            timings: observed.timings,
            diagnosis: if pass { Default::default() } else { self.diagnose(out, expected, &verdicts, &say)? },
            verdicts: given.with_texts(verdicts),
            ..RunResult::new(label)
        })
    }

    /// Everything that a worker wrote to `out`, judged.
    fn judge(&self, out: &Path, expected: Expected) -> Result<Verdicts> {
        let (shared, given) = (&self.args.shared, &self.given);
        let config = given.checkpoint.config();
        let judge = Judge::new(&given.reference, config, expected.limits, shared.preset);
        let judge = judge.with_tolerance(shared.tolerance());
        let judge = judge.with_embedding(match shared.reference {
            Some(_) => missing_embedding(&given.checkpoint, &given.reference)?,
            None => None,
        });
        let (accumulated, isolated) = (made(out, Mode::Accumulated), made(out, Mode::Isolated));
        let mut tensors = judge.tensors(Mode::Accumulated, &accumulated, None)?;
        tensors.extend(judge.step_logits(&accumulated, &[])?);
        tensors.extend(judge.tensors(Mode::Isolated, &isolated, expected.derived)?);
        tensors.extend(judge.patched(&made(out, Mode::Patched))?);
        let tokens = judge.tokens(&accumulated)?;
        Ok(Verdicts { tensors, tokens, steps: Vec::new() })
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
            checkpoint: &self.given.checkpoint,
            reference: &self.given.reference,
            derived: expected.derived.filter(|_| !whole),
            observed: &made(out, mode),
            verdicts,
            limits: &limits,
            scope: self.given.scope.clone(),
            mode,
            time: self.args.shared.diagnose_for(),
            prompt: None,
            progress: &mut |what| progress::say(label, what),
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
