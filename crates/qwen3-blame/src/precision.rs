//! Arithmetic of another precision than was stated: no mistake, but what an f32 verdict sees first.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use qwen3_config::Precision;

use crate::Result;
use crate::arithmetic::Arithmetic;
use crate::catalogue::Hypothesis;
use crate::formats::{Format, Formats};
use crate::search::{Explanation, Search, Trial};
use crate::segment::{Candidate, Segment};

/// Their ids.
static PRECISION: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| of_formats().iter().map(|format| format.id).collect());
/// Two formats have to leave such a share of what one leaves.
const LESS: f64 = 0.3;
/// Less than such a share of the error is nothing that another format could explain.
const NOTHING: f64 = 0.02;

/// Is it the id of another precision, and of no mistake?
pub fn is_precision(id: &str) -> bool {
    PRECISION.contains(id)
}

/// What is held in which format, beside others.
fn held(id: &'static str, words: String, change: fn(&mut Formats, Format), format: Format) -> Hypothesis {
    Hypothesis::new(id, words, move |v| {
        let mut formats = v.arithmetic.formats();
        change(&mut formats, format);
        v.arithmetic = Arithmetic::Held(formats);
    })
}

/// All that are tried.
pub fn of_formats() -> Vec<Hypothesis> {
    let mut list = Vec::new();
    for (format, arithmetic, cache, dtype) in [
        (Format::F16, "arithmetic_f16", "kv_cache_f16", Precision::F16),
        (Format::Bf16, "arithmetic_bf16", "kv_cache_bf16", Precision::BF16),
    ] {
        let name = format.name();
        let with_weights: fn(&mut Formats, Format) =
            |held, format| (held.activations, held.weights) = (Some(format), Some(format));
        let words = format!("the inputs of products with weights are rounded to {name}");
        list.push(held(arithmetic, words, with_weights, format));
        let words = format!("the inputs of every product are rounded to {name}");
        list.push(held(arithmetic, words, |held, format| *held = Formats::products(format), format));
        let words = format!("every operation's result is rounded to {name}");
        list.push(Hypothesis::new(arithmetic, words, move |v| {
            v.arithmetic = Arithmetic::Rounded { dtype, draw: 0 };
        }));
        list.push(held(
            cache,
            format!("keys and values are kept in {name}"),
            |held, format| held.cache = Some(format),
            format,
        ));
        list.push(held(
            cache,
            format!("keys and values are kept in {name}, and attention's other inputs are rounded to it"),
            |held, format| (held.cache, held.attention) = (Some(format), Some(format)),
            format,
        ));
        list.push(held(
            cache,
            format!("keys and values are kept in {name}, and attention sums in it, one key after the other"),
            |held, format| {
                (held.cache, held.queries, held.running) = (Some(format), Some(format), Some(format));
            },
            format,
        ));
        for (words, change) in [
            (
                "attention's weights are rounded to",
                (|held, format| held.softmax = Some(format)) as fn(&mut Formats, _),
            ),
            ("scores and attention's weights are rounded to", |held, format| {
                (held.scores, held.softmax) = (Some(format), Some(format));
            }),
        ] {
            list.push(held("softmax_half", format!("{words} {name}"), change, format));
        }
        for (words, change) in [
            (
                "RoPE's cosines and sines are",
                (|held, format| held.rope = Some(format)) as fn(&mut Formats, _),
            ),
            ("queries and keys behind RoPE are", |held, format| held.rotated = Some(format)),
            ("RoPE's cosines and sines and what they give are", |held, format| {
                (held.rope, held.rotated) = (Some(format), Some(format));
            }),
        ] {
            list.push(held("rope_half", format!("{words} rounded to {name}"), change, format));
        }
        let words = format!("what goes on from each addition to the residual stream is rounded to {name}");
        list.push(held("residual_half", words, |held, format| held.residual = Some(format), format));
    }
    list.push(held(
        "kv_cache_q8_0",
        "keys and values are kept in q8_0".into(),
        |held, format| held.cache = Some(format),
        Format::Q8,
    ));
    list.push(held(
        "activations_q8_0",
        "what goes into products with weights is rounded to q8_0".into(),
        |held, format| held.activations = Some(format),
        Format::Q8,
    ));
    for (id, format) in
        [("weights_f16", Format::F16), ("weights_q8_0", Format::Q8), ("weights_q4_0", Format::Q4)]
    {
        let words = format!("weights are rounded to {}", format.name());
        list.push(held(id, words, |held, format| held.weights = Some(format), format));
    }
    list
}

impl Search<'_, '_> {
    /// The formats that explain the error of an f32 run, one or two: those that leave least.
    pub(crate) fn formats(&mut self) -> Result<Vec<Explanation>> {
        // A rounding that went the other way makes more of them go the other way behind it: the bits of what went in
        // matter.
        let Some(input) = self.segment.seen.clone() else {
            return self.formats_of();
        };
        let (steps, watched) = (self.segment.steps.clone(), self.segment.watched.clone());
        let segment = Segment { steps, input, seen: None, watched };
        let right = [Candidate::default()];
        let before = self.laboratory.residuals(&segment, &right)?[0];
        let laboratory = &mut *self.laboratory;
        Search { laboratory, segment: &segment, before, tried: Vec::new() }.formats_of()
    }

    fn formats_of(&mut self) -> Result<Vec<Explanation>> {
        let steps = self.segment.steps.clone();
        let (before, right) = (self.before, self.laboratory.right().clone());
        let all = of_formats().into_iter().filter(|format| format.variant(&right) != right);
        let all: Vec<Arc<Hypothesis>> = all.map(Arc::new).collect();
        let one = |format: &Arc<Hypothesis>| Trial { parts: vec![Arc::clone(format)], steps: steps.clone() };
        let found = self.attempt(all.iter().map(one).collect())?;
        let least = |found: &[Explanation]| found.first().map_or(f64::INFINITY, |best| best.after.relative);
        if least(&found) < NOTHING * before.relative {
            return Ok(found.into_iter().take(1).collect());
        }
        let mut two = Vec::new();
        for (index, a) in all.iter().enumerate() {
            let others = all[index + 1..].iter().filter(|b| b.id != a.id && part(a.id) != part(b.id));
            two.extend(
                others.map(|b| Trial { parts: vec![Arc::clone(a), Arc::clone(b)], steps: steps.clone() }),
            );
        }
        let both = self.attempt(two)?;
        if least(&both) < LESS * least(&found) {
            let least = least(&both);
            return Ok(both.into_iter().filter(|explanation| explanation.after.relative == least).collect());
        }
        Ok(found.into_iter().take(1).collect())
    }
}

/// Where in a layer a format is: two in one place are none.
fn part(id: &str) -> &str {
    id.split('_').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CAUSES;

    #[test]
    fn every_format_changes_something_and_has_a_name() {
        let right = crate::Variant::right(&qwen3_config::Qwen3Config::tiny());
        for format in of_formats() {
            assert_ne!(format.variant(&right), right, "{}", format.words);
            assert!(CAUSES.contains(&format.id), "{}", format.id);
        }
    }
}
