//! What was found along the walk, put together.

use std::ops::Range;

use crate::error_shape::ranges;
use crate::residual::Residual;
use crate::search::{Explanation, MOST_SINGLE_STEPS};
use crate::segment::StepIndex;
use crate::{Cause, Diagnosis};

/// What explains the tensors between two points.
pub struct Finding {
    /// The last of the tensors.
    pub key: String,
    /// The steps between the points.
    pub steps: Range<StepIndex>,
    /// Best first; empty when nothing explains them.
    pub explanations: Vec<Explanation>,
    /// The error without a mistake.
    pub before: Residual,
    /// Is it the reference that is explained, the observation being what the checkpoint gives?
    pub of_reference: bool,
    /// Was there no time to try everything?
    pub given_up: bool,
}

/// Puts the findings of a model with `layers` layers together: a cause for each mistake, with all the layers
/// it was found in.
pub fn conclude(findings: &[Finding], layers: usize, diagnosis: &mut Diagnosis) {
    diagnosis.causes = causes(findings, layers);
    if findings.iter().any(|finding| finding.of_reference) {
        diagnosis.notes.push(
            "what was observed is what this checkpoint gives; the reference was made with another \
             implementation, config or checkpoint"
                .into(),
        );
    }
    let unexplained = findings.iter().filter(|finding| finding.explanations.is_empty() && !finding.given_up);
    let unexplained: Vec<_> = unexplained.collect();
    if !unexplained.is_empty() {
        let keys: Vec<_> = unexplained.iter().map(|finding| finding.key.as_str()).collect();
        diagnosis
            .notes
            .push(format!("nothing in the catalogue explains the error that enters at {}", keys.join(", ")));
    }
    if let Some(long) = unexplained.iter().find(|finding| finding.steps.len() > MOST_SINGLE_STEPS) {
        diagnosis.notes.push(format!(
            "nothing is known of the {} layers before {}: only mistakes in all of them were tried; with their \
             outputs more could be said",
            long.steps.len() - 1,
            long.key
        ));
    }
}

fn causes(findings: &[Finding], layers: usize) -> Vec<Cause> {
    // With the finding that each was first in, and how many it is in.
    let mut causes: Vec<(usize, usize, Cause)> = Vec::new();
    for (index, finding) in findings.iter().enumerate() {
        let layers: Vec<_> = finding.steps.clone().filter(|step| *step < layers).collect();
        for explanation in &finding.explanations {
            let layers = explanation.layers(&layers);
            let known = causes.iter_mut().find(|known| known.2.id == explanation.id);
            if let Some((_, count, cause)) = known {
                *count += 1;
                if explanation.id == "layer_permuted" {
                    let more = explanation.sentence(&layers, finding.of_reference);
                    cause.explanation = format!("{}; {more}", cause.explanation);
                }
                cause.layers.extend(layers);
                cause.layers.sort_unstable();
                cause.layers.dedup();
                continue;
            }
            let finite = |value: f64| value.is_finite().then_some(value);
            let cause = Cause {
                id: explanation.id.into(),
                explanation: explanation.sentence(&layers, finding.of_reference),
                residual_before: finite(finding.before.relative),
                residual_after: finite(explanation.after.relative),
                layers,
            };
            causes.push((index, 1, cause));
        }
    }
    // By the place where each is first found, then by how many tensors each explains, then by what is
    // left of the error.
    causes.sort_by(|(a_first, a_count, a), (b_first, b_count, b)| {
        let left = |cause: &Cause| cause.residual_after.unwrap_or(f64::INFINITY);
        let place = a_first.cmp(b_first).then(b_count.cmp(a_count));
        place.then(left(a).total_cmp(&left(b)))
    });
    let mut causes: Vec<Cause> = causes.into_iter().map(|(.., cause)| cause).collect();
    for cause in &mut causes {
        if cause.layers.len() > 1 && cause.id != "layer_permuted" {
            let layers = ranges(&cause.layers);
            cause.explanation = format!("{} (found in layers {layers})", cause.explanation);
        }
    }
    causes
}
