//! What was found along the walk, put together.

use std::ops::Range;

use crate::error_shape::ranges;
use crate::explanation::Explanation;
use crate::fits::Fitted;
use crate::residual::Residual;
use crate::search::MOST_SINGLE_STEPS;
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
    /// Was there an explanation that is no better than noise?
    pub noise: bool,
    /// What the explanations are only consistent with, where that is too little.
    pub evidence: Option<String>,
}

impl Finding {
    /// An error at `key`, in the observation, that was found without a search.
    pub fn at_once(
        key: String,
        steps: Range<StepIndex>,
        explanations: Vec<Explanation>,
        before: Residual,
    ) -> Self {
        Self {
            key,
            steps,
            explanations,
            before,
            of_reference: false,
            given_up: false,
            noise: false,
            evidence: None,
        }
    }
}

/// Puts the findings of a model with `layers` layers together: a cause for each mistake, with all the layers
/// it was found in.
pub fn conclude(findings: &[Finding], layers: usize, diagnosis: &mut Diagnosis) {
    let mut found = found(findings, layers);
    found.retain(|found| {
        let fitted = || found.fitted.iter().map(|(key, fitted)| (key, fitted));
        let agree = fitted().all(|(_, a)| fitted().all(|(_, b)| a.agrees(b)));
        if !agree {
            let all: Vec<_> = fitted().map(|(key, fitted)| format!("{} at {key}", fitted.value)).collect();
            diagnosis.notes.push(format!(
                "`{}` is no cause: the numbers that fit differ by more than they are uncertain, {}",
                found.cause.id,
                all.join(", ")
            ));
        }
        agree
    });
    diagnosis.causes = causes(found);
    if findings.iter().any(|finding| finding.of_reference) {
        diagnosis.notes.push(
            "what was observed is what this checkpoint gives; the reference was made with another \
             implementation, config or checkpoint"
                .into(),
        );
    }
    let without = findings.iter().filter(|finding| finding.explanations.is_empty());
    let (noise, unexplained): (Vec<_>, Vec<_>) = without.partition(|finding| finding.noise);
    let unexplained: Vec<_> = unexplained.into_iter().filter(|finding| !finding.given_up).collect();
    if !noise.is_empty() {
        let keys: Vec<_> = noise.iter().map(|finding| finding.key.as_str()).collect();
        diagnosis.notes.push(format!(
            "larger noise explains as much of the error that enters at {} as a mistake does: no cause is named",
            keys.join(", ")
        ));
    }
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

/// A cause, and where it was found.
struct Found {
    /// The finding that it was first in, and how many it is in.
    first: usize,
    count: usize,
    cause: Cause,
    /// The numbers that were found in it, with the tensors behind which they were.
    fitted: Vec<(String, Fitted)>,
}

/// Every cause with all its layers.
fn found(findings: &[Finding], layers: usize) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for (first, finding) in findings.iter().enumerate() {
        let layers: Vec<_> = finding.steps.clone().filter(|step| *step < layers).collect();
        for explanation in &finding.explanations {
            let layers = explanation.layers(&layers);
            let fitted = explanation.fitted.map(|fitted| (finding.key.clone(), fitted));
            if let Some(known) = all.iter_mut().find(|known| known.cause.id == explanation.id) {
                known.count += 1;
                let cause = &mut known.cause;
                if explanation.id == "layer_permuted" {
                    let more = explanation.sentence(&layers, finding.of_reference);
                    cause.explanation = format!("{}; {more}", cause.explanation);
                }
                cause.layers.extend(layers);
                cause.layers.sort_unstable();
                cause.layers.dedup();
                known.fitted.extend(fitted);
                continue;
            }
            let finite = |value: f64| value.is_finite().then_some(value);
            let cause = Cause {
                id: explanation.id.into(),
                explanation: explanation.sentence(&layers, finding.of_reference),
                residual_before: finite(finding.before.relative),
                residual_after: finite(explanation.after.relative),
                fitted: explanation.fitted,
                evidence: finding.evidence.clone(),
                layers,
            };
            all.push(Found { first, count: 1, cause, fitted: Vec::from_iter(fitted) });
        }
    }
    all
}

/// Mistakes of which the first is the second, seen in some layers alone.
const SEEN_IN_PART: [(&str, &str); 1] = [("window_missing", "window_in_wrong_layers")];

/// Leaves one of two causes that are the same in some layers: the one found in more, or the simpler.
fn keep_one(found: &mut Vec<Found>) {
    for (part, whole) in SEEN_IN_PART {
        let count = |id: &str| found.iter().find(|found| found.cause.id == id).map(|found| found.count);
        if let (Some(in_part), Some(in_whole)) = (count(part), count(whole)) {
            let other = if in_whole > in_part { part } else { whole };
            found.retain(|found| found.cause.id != other);
        }
    }
}

/// The causes in the order in which people read them.
fn causes(mut found: Vec<Found>) -> Vec<Cause> {
    keep_one(&mut found);
    // By the place where each is first found, then by how many tensors each explains, then by what is
    // left of the error.
    found.sort_by(|a, b| {
        let left = |found: &Found| found.cause.residual_after.unwrap_or(f64::INFINITY);
        let place = a.first.cmp(&b.first).then(b.count.cmp(&a.count));
        place.then(left(a).total_cmp(&left(b)))
    });
    let mut causes: Vec<Cause> = found.into_iter().map(|found| found.cause).collect();
    for cause in &mut causes {
        if cause.layers.len() > 1 && cause.id != "layer_permuted" {
            let layers = ranges(&cause.layers);
            cause.explanation = format!("{} (found in layers {layers})", cause.explanation);
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers whose errors are explained by numbers, each with what fits.
    fn causes(fitted: [[f64; 3]; 2]) -> Diagnosis {
        let finding = |(layer, [low, value, high]): (usize, [f64; 3])| {
            let plain = Explanation::plain("rope_theta", "theta is another".into(), Residual::NONE);
            let explanation = Explanation { fitted: Some(Fitted { value, low, high }), ..plain };
            let key = format!("layer_{layer:02}_output");
            Finding::at_once(key, layer..layer + 1, vec![explanation], Residual::INFINITE)
        };
        let findings: Vec<Finding> = fitted.into_iter().enumerate().map(finding).collect();
        let mut diagnosis = Diagnosis::default();
        conclude(&findings, 2, &mut diagnosis);
        diagnosis
    }

    #[test]
    fn numbers_have_to_agree_across_layers() {
        let found = causes([[9990.0, 10000.0, 10010.0], [9900.0, 9995.0, 10100.0]]);
        assert_eq!(found.causes[0].layers, [0, 1]);
        let found = causes([[9990.0, 10000.0, 10010.0], [10020.0, 10030.0, 10040.0]]);
        assert_eq!(found.causes, []);
        let words = "`rope_theta` is no cause: the numbers that fit differ by more than they are uncertain, 10000 at \
                     layer_00_output, 10030 at layer_01_output";
        assert_eq!(found.notes, [words]);
    }
}
