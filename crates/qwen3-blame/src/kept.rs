//! Which precision's limits a run keeps that is beyond those of f32, and whether it is off by what that precision's
//! operations are.

use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Judge, Limits, Precision, Reference, Scope, Trace, Verdicts, figure};

use crate::precision::is_precision;
use crate::steps::step_expectations;
use crate::{Cause, Diagnosis, Result};

/// What operations of a precision are off by, a run of it is off by at least such a share of, in every step.
const LEAST: f64 = 0.15;
/// And no more than that.
const MOST: f64 = 1.0;
/// From step to step it differs by no more than such a factor.
const SPREAD: f64 = 5.0;
/// Steps that have to be known for that to say anything.
const STEPS: usize = 3;

/// An f32 run that does not pass.
pub struct Run<'a> {
    pub checkpoint: &'a Checkpoint,
    pub reference: &'a Reference,
    pub observed: &'a Trace,
    pub scope: &'a Scope,
    pub limits: &'a Limits,
}

/// Adds to the diagnosis of a run what its precision has to do with it: which limits it keeps, if a precision explains
/// it; and the precision, if nothing does and it is off like one.
///
/// # Errors
/// When a tensor is malformed or a weight cannot be read.
pub fn precision_kept(
    run: &Run,
    verdicts: &Verdicts,
    diagnosis: &mut Diagnosis,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let Run { checkpoint, reference, observed, scope, limits } = *run;
    let named = diagnosis.causes.iter().all(|cause| is_precision(&cause.id) || cause.id == "dtype_rounding");
    if !named {
        return Ok(());
    }
    let worst =
        |verdicts: &Verdicts| verdicts.tensors.iter().map(|tensor| tensor.calibrated).fold(0.0, f64::max);
    let of_f32 = worst(verdicts);
    let mut beyond = String::new();
    let mut possible = Vec::new();
    // Products in bf16 may be within f16's limits, by which nobody means them.
    let in_bf16 = diagnosis.causes.iter().any(|cause| cause.id.ends_with("_bf16"));
    for dtype in [Precision::F16, Precision::BF16].into_iter().skip(usize::from(in_bf16)) {
        let limits = limits.in_dtype(reference, dtype)?;
        let judge = Judge::new(reference, checkpoint.config(), &limits, None);
        let kept = worst(&judge.observed(observed, None)?);
        if kept.is_nan() || kept > 1.0 {
            beyond = format!(", and beyond what {dtype} may be off by: {} times its limit", figure(kept));
            continue;
        }
        let figures = format!("{kept:.2} of {dtype}'s limit, {} times f32's", figure(of_f32));
        if !diagnosis.causes.is_empty() {
            diagnosis.notes.push(format!(
                "this is precision, not a mistake: the run keeps {dtype}'s limits ({figures}); judge it with --dtype {dtype}"
            ));
            return Ok(());
        }
        let Some(off_like) = is_off_like(run, dtype, progress)? else {
            possible.push(format!("{dtype} ({kept:.2} of its limit)"));
            continue;
        };
        if off_like {
            diagnosis.causes.push(Cause {
                id: format!("arithmetic_{dtype}"),
                explanation: format!(
                    "every step is off by what operations in {dtype} are, and the run keeps its limits: this is {dtype} \
                     arithmetic"
                ),
                residual_before: None,
                residual_after: None,
                fitted: None,
                evidence: Some(figures),
                layers: scope.layers.clone().collect(),
            });
            diagnosis.notes.retain(|note| !note.starts_with("nothing in the catalogue explains"));
            diagnosis.notes.push(format!("this is precision, not a mistake: judge it with --dtype {dtype}"));
            return Ok(());
        }
    }
    if !possible.is_empty() {
        diagnosis.notes.push(format!(
            "the run, {} times beyond f32's limit, keeps that of {}; too little of it was observed to tell more: if it was \
             computed in such a precision, judge it with --dtype",
            figure(of_f32),
            possible.join(" and of ")
        ));
    }
    if !diagnosis.causes.is_empty() {
        diagnosis.notes.push(format!("this is precision, not a mistake{beyond}"));
    }
    Ok(())
}

/// Is every step off by about what operations in `dtype` are? `None` where too few steps are known.
fn is_off_like(run: &Run, dtype: Precision, progress: &mut dyn FnMut(&str)) -> Result<Option<bool>> {
    let Run { checkpoint, reference, observed, scope, .. } = *run;
    let mut shares = Vec::new();
    for step in step_expectations(checkpoint, reference, observed, scope, dtype, progress)? {
        // The norm behind the last layer is one operation, which f32 runs may have in f32.
        if step.key.starts_with("layer_") {
            shares.extend(step.share(reference, observed, dtype)?);
        }
    }
    let (least, most) = shares
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), share| (least.min(*share), most.max(*share)));
    let like = least >= LEAST && most <= MOST && most <= SPREAD * least;
    Ok((shares.len() >= STEPS).then_some(like))
}
