//! Arithmetic of another precision than was stated: no mistake, but what an f32 verdict sees first.

use std::sync::LazyLock;

use qwen3_config::{Precision, Tap};

use crate::arithmetic::Arithmetic;
use crate::formats::{Format, Formats, Nearest};
use crate::hypothesis::Hypothesis;

/// Their ids, as they are tried.
static PRECISION: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| of_formats(false).iter().map(|format| format.id).collect());

/// Is it the id of another precision, and of no mistake?
pub fn is_precision(id: &str) -> bool {
    PRECISION.contains(&id)
}

/// Which of those that are tried is the first with this id.
pub(crate) fn place(id: &str) -> Option<usize> {
    PRECISION.iter().position(|precision| *precision == id)
}

/// All that are tried; of layers with experts, with and without the product of routers, which llama.cpp has in f32 always.
pub fn of_formats(sparse: bool) -> Vec<Hypothesis> {
    let mut list = forms(Routers::Too);
    if sparse {
        let of_products =
            |form: &Hypothesis| matches!(part(form.id), "arithmetic" | "activations" | "weights");
        list.extend(forms(Routers::Spared).into_iter().filter(of_products));
    }
    list
}

/// Are the products of routers as others are?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routers {
    Too,
    Spared,
}

/// What is held in which format, beside others.
fn held(
    id: &'static str,
    mut words: String,
    change: fn(&mut Formats, Format),
    format: Format,
    routers: Routers,
) -> Hypothesis {
    let spared = routers == Routers::Spared;
    if spared {
        words += ", but for those of routers";
    }
    Hypothesis::new(id, words, move |v| {
        let mut formats = v.arithmetic.formats();
        change(&mut formats, format);
        formats.spares_routers |= spared;
        v.arithmetic = Arithmetic::Held(formats);
    })
}

fn forms(routers: Routers) -> Vec<Hypothesis> {
    type Held = fn(&mut Formats, Format);
    let held = |id, words, change: Held, format| held(id, words, change, format, routers);
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
        if routers == Routers::Too {
            let words = format!("every operation's result is rounded to {name}");
            list.push(Hypothesis::new(arithmetic, words, move |v| {
                v.arithmetic = Arithmetic::Rounded { dtype, draw: 0 };
            }));
        }
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
    for nearest in Nearest::ALL {
        let format = Format::Q8(nearest);
        let words = "keys and values are kept in q8_0".into();
        list.push(held("kv_cache_q8_0", words, |held, format| held.cache = Some(format), format));
    }
    let of_activations = Nearest::ALL.map(|nearest| ("activations_q8_0", Format::Q8(nearest)));
    for (id, format) in of_activations.into_iter().chain([("activations_q8_k", Format::Q8K)]) {
        let words = format!("what goes into products with weights is rounded to {}", format.name());
        list.push(held(id, words, |held, format| held.activations = Some(format), format));
    }
    let eight = Format::Q8(Nearest::Reference);
    for (id, format) in [("weights_f16", Format::F16), ("weights_q8_0", eight), ("weights_q4_0", Format::Q4)]
    {
        let words = format!("weights are rounded to {}", format.name());
        list.push(held(id, words, |held, format| held.weights = Some(format), format));
    }
    list
}

/// Can both formats be in a layer?
pub(crate) fn is_beside(a: &Hypothesis, b: &Hypothesis) -> bool {
    a.id != b.id && part(a.id) != part(b.id)
}

/// The tensors of a layer that are the first to show a format: behind each of them it shows because these do.
pub(crate) fn shows_at(format: &Hypothesis) -> &'static [Tap] {
    match part(format.id) {
        "arithmetic" => &[Tap::InputLayernorm, Tap::QProj, Tap::OProj, Tap::RouterLogits, Tap::Mlp],
        "activations" | "weights" => &[Tap::QProj, Tap::OProj, Tap::RouterLogits, Tap::Mlp],
        "rope" => &[Tap::QRope, Tap::KRope],
        "residual" => &[Tap::PostAttentionLayernorm, Tap::LayerOutput],
        _ => &[Tap::Context],
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
        for format in of_formats(false) {
            assert_ne!(format.variant(&right), right, "{}", format.words);
            assert!(CAUSES.contains(&format.id), "{}", format.id);
        }
    }
}
