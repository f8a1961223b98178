//! Activations in a file, from judging to a diagnosis.

use std::collections::BTreeMap;
use std::time::Duration;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Site, Tap};
use qwen3_trace::{
    Judge, Mode, Names, Precision, Preset, Reference, Scope, Taken, Tolerance, Trace, TraceError, Verdicts,
    ignored, meant, tokens,
};

use crate::decoding::right_logits;
use crate::extended::examine_steps;
use crate::kept::{Run, precision_kept};
use crate::steps::step_expectations;
use crate::weights::embedding_rows;
use crate::{Blame, Diagnosis, Result, calibrate, diagnose};

/// How activations are to be examined.
pub struct ExamineOptions<'a> {
    /// The dtype that they were made in.
    pub dtype: Precision,
    /// The layers to look at; `None` for all.
    pub scope: Option<Scope>,
    /// Fixed thresholds instead of calibrated limits.
    pub preset: Option<Preset>,
    /// A tolerance for each element instead of either.
    pub tolerance: Option<Tolerance>,
    /// What tensors of the file are that have other names than a reference's, where that is not known.
    pub names: Option<&'a Names>,
    /// Are tensors that nothing is compared with an error?
    pub strict: bool,
    /// How long to look for causes.
    pub diagnose_for: Duration,
    /// Told what is going on.
    pub progress: &'a mut dyn FnMut(&str),
}

impl<'a> ExamineOptions<'a> {
    /// All layers by calibrated limits, and 20 seconds for causes.
    pub fn new(dtype: Precision, progress: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            dtype,
            scope: None,
            preset: None,
            tolerance: None,
            names: None,
            strict: false,
            diagnose_for: Duration::from_secs(20),
            progress,
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Every tensor and token that could be judged.
    pub verdicts: Verdicts,
    /// Where and why it goes wrong; empty when everything passes.
    pub diagnosis: Diagnosis,
    /// The tensors whose names are no keys, or whose values lie otherwise than their keys say, and what they were taken
    /// for.
    pub taken: Vec<Taken>,
    /// Those that are known and compared with nothing, and why.
    pub left: BTreeMap<String, String>,
    /// The tensors that were not compared: the reference does not have them, or nothing has such a name.
    pub unread: Vec<String>,
    /// The keys of a reference that the names of some of them look like.
    pub meant: BTreeMap<String, String>,
}

/// Compares `observed`, any subset of a model's tensors, with the reference, and explains what differs.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use qwen3_blame::{ExamineOptions, examine};
/// use qwen3_checkpoint::Checkpoint;
/// use qwen3_trace::{Precision, Reference, Trace};
///
/// let checkpoint = Checkpoint::open("models/Qwen3-0.6B")?;
/// let reference = Reference::open("reference.npz".as_ref(), checkpoint.config(), true)?;
/// let observed = Trace::open("mine.npz".as_ref())?;
/// let mut quiet = |_: &str| {};
/// let options = ExamineOptions::new(Precision::F32, &mut quiet);
/// for cause in examine(&checkpoint, &reference, &observed, options)?.diagnosis.causes {
///     println!("{}: {}", cause.id, cause.explanation);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When a tensor is malformed, misshapen, or of another prompt; when nothing can be compared; when something is ignored
/// and the options are strict.
pub fn examine(
    checkpoint: &Checkpoint,
    reference: &Reference,
    observed: &Trace,
    mut options: ExamineOptions,
) -> Result<Examination> {
    let config = checkpoint.config();
    let layers = config.num_hidden_layers;
    let scope = options.scope.take().unwrap_or(Scope::whole(layers));
    let observed = &observed.read_as(config, &reference.rows, options.names, Some(&reference.trace))?;
    let found = observed.check(config, &reference.rows)?;
    let mut unread = observed.unread(config)?;
    reference.check_same_prompt(observed)?;

    let (limits, derived) = calibrate(checkpoint, reference, &scope, options.dtype, options.progress)?;
    let derived = Some(&*derived);
    let judge = Judge::new(reference, config, &limits, options.preset)
        .with_tolerance(options.tolerance)
        .with_embedding(missing_embedding(checkpoint, reference)?);
    let mut all = judge.observed(observed, derived)?;
    if options.dtype != Precision::F32 && options.preset.is_none() && options.tolerance.is_none() {
        let steps =
            step_expectations(checkpoint, reference, observed, &scope, options.dtype, options.progress)?;
        judge.steps(observed, &steps, &mut all.tensors)?;
    }
    if !scope.is_whole() {
        all.tokens.clear();
        all.tensors.retain(|tensor| tensor.verdict.name != "step_logits");
    }
    if all.wrong_token().is_some() {
        // The reference did not tell how near to the best the ids that differ are.
        let right = right_logits(checkpoint, reference, &reference.generated)?;
        tokens::with_right_logits(&mut all.tokens, &right, reference.steps(), &limits);
    }
    let mut verdicts = all.clone();
    verdicts.tensors.retain(|tensor| scope.contains(&tensor.verdict.name));
    if verdicts.is_empty() {
        let reason = format!(
            "none of its {} tensors is in the reference and in the layers asked for",
            observed.names().len()
        );
        return Err(TraceError::malformed(observed.path(), reason));
    }
    let judged = |site: &Site| all.tensors.iter().any(|tensor| tensor.verdict.name == site.to_string());
    unread.extend(found.iter().filter(|site| !judged(site)).map(Site::to_string));
    let meant = meant(&unread, config);
    if let Some((name, reason)) = observed.misshapen().first_key_value().filter(|_| options.strict) {
        return Err(TraceError::malformed(observed.path(), format!("`{}`: {reason}", name.escape_debug())));
    }
    if let Some(ignored) = ignored(&unread, &meant).filter(|_| options.strict) {
        return Err(TraceError::malformed(observed.path(), ignored));
    }
    let mut diagnosis = Diagnosis::default();
    if !verdicts.pass() {
        diagnosis = diagnose(Blame {
            checkpoint,
            reference,
            derived,
            observed,
            verdicts: &all,
            limits: &limits,
            scope: scope.clone(),
            mode: Mode::Accumulated,
            time: options.diagnose_for,
            prompt: None,
            progress: options.progress,
        })?;
        if options.dtype == Precision::F32 {
            let progress = &mut *options.progress;
            let run = Run { checkpoint, reference, observed, scope: &scope, limits: &limits };
            precision_kept(&run, &verdicts, &mut diagnosis, progress)?;
        }
    }
    if scope.is_whole() {
        let prompt_passes =
            verdicts.tensors.iter().all(|tensor| tensor.verdict.pass || tensor.verdict.name == "step_logits");
        let steps = examine_steps(checkpoint, reference, observed, &mut options, prompt_passes)?;
        if let Some(steps) = steps {
            verdicts.steps = steps.verdicts;
            if !verdicts.steps_pass() && prompt_passes {
                diagnosis = steps.diagnosis;
            }
        }
    }
    let (taken, mut left) = (observed.taken().to_vec(), observed.left().clone());
    left.extend(observed.misshapen().clone());
    Ok(Examination { verdicts, diagnosis, taken, left, unread, meant })
}

/// The embeddings of the prompt, where the reference lacks them.
///
/// # Errors
/// When the weights cannot be read.
pub fn missing_embedding(checkpoint: &Checkpoint, reference: &Reference) -> Result<Option<Vec<f32>>> {
    if reference.has(Site::outside(Tap::Embedding)) {
        return Ok(None);
    }
    let rows = embedding_rows(checkpoint, &reference.flat_ids())?;
    Ok(Some(rows.into_iter().map(|value| value as f32).collect()))
}
