//! Habits of other architectures, and slips of the hand, that a port may have.

use qwen3_config::Qwen3Config;

use crate::hypothesis::Hypothesis;
use crate::sinks;

/// A projection of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Queries,
    Keys,
    Values,
    Output,
}

/// What is done otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Habit {
    /// The sine in RoPE has the other sign.
    SineNegated,
    /// RoPE turns so many features of a head only.
    PartialRotary(usize),
    /// The softmax is not divided by its sum.
    SoftmaxUnnormalised,
    /// Scores are bent to lie within so much.
    Softcap(f64),
    /// Norms subtract the mean: those over `hidden_size`, and those of heads.
    LayerNorm { hidden: bool, heads: bool },
    /// The activation is of the product of gate and up.
    SiluOnProduct,
    /// A projection's bias is left out.
    BiasMissing(Part),
    /// What comes out of a head is zero.
    HeadZero(usize),
    /// Two heads' outputs have each other's places.
    HeadsExchanged(usize, usize),
    /// What comes out of an expert is zero.
    ExpertZero(usize),
    /// Logits are bent to lie within so much.
    LogitsSoftcap(f64),
    /// Logits are those of the token so many ids further.
    LogitsShifted(i64),
}

impl Habit {
    /// Does it change queries, keys or values before their norms?
    pub fn in_projections(self) -> bool {
        match self {
            Self::LayerNorm { hidden, .. } => hidden,
            Self::BiasMissing(part) => part != Part::Output,
            _ => false,
        }
    }

    /// What it makes of logits, `[tokens, vocab_size]`.
    pub fn of_logits(self, logits: Vec<f64>, vocab: usize) -> Vec<f64> {
        match self {
            Self::LogitsSoftcap(cap) => logits.into_iter().map(|x| cap * (x / cap).tanh()).collect(),
            Self::LogitsShifted(by) => {
                let from = |id: usize| (id as i64 + by).rem_euclid(vocab as i64) as usize;
                logits.chunks(vocab).flat_map(|row| (0..vocab).map(move |id| row[from(id)])).collect()
            }
            _ => logits,
        }
    }
}

fn habit(id: &'static str, words: impl Into<String>, habit: Habit) -> Hypothesis {
    Hypothesis::new(id, words, move |v| v.habit = Some(habit))
}

/// Those that show inside a layer.
pub fn of_layers(config: &Qwen3Config) -> Vec<Hypothesis> {
    let (heads, head_dim) = (config.num_attention_heads, config.head_dim);
    let mut list = vec![
        habit("rope_sign", "RoPE turns the other way: the sine has the wrong sign", Habit::SineNegated),
        habit(
            "softmax_not_normalised",
            "attention's weights are not divided by their sum",
            Habit::SoftmaxUnnormalised,
        ),
        Hypothesis::new(sinks::ID, "the softmax has one more term, of score 0, as a sink has it", move |v| {
            v.sinks = Some(vec![0.0; heads].into());
        }),
        habit("silu_on_product", "the activation is applied to gate * up", Habit::SiluOnProduct),
        Hypothesis::new("attention_scale_twice", "scores are scaled twice", |v| v.scale *= v.scale),
    ];
    for (hidden, norms, words) in [
        (true, true, "every norm subtracts the mean, as LayerNorm does"),
        (true, false, "the norms over hidden_size subtract the mean, as LayerNorm does"),
        (false, true, "q_norm and k_norm subtract the mean, as LayerNorm does"),
    ] {
        list.push(habit("layer_norm", words, Habit::LayerNorm { hidden, heads: norms }));
    }
    for features in [head_dim / 2, head_dim / 4].into_iter().filter(|features| *features >= 2) {
        let features = features - features % 2;
        let words = format!("RoPE turns {features} of a head's {head_dim} features");
        list.push(habit("rope_partial", words, Habit::PartialRotary(features)));
    }
    for cap in [20.0, 30.0, 50.0] {
        let words = format!("scores are capped at {cap} by a tanh, as in Gemma 2");
        list.push(habit("attention_softcap", words, Habit::Softcap(cap)));
    }
    if config.attention_bias {
        for (part, name) in [
            (Part::Queries, "q_proj"),
            (Part::Keys, "k_proj"),
            (Part::Values, "v_proj"),
            (Part::Output, "o_proj"),
        ] {
            list.push(habit("bias_missing", format!("{name}'s bias is left out"), Habit::BiasMissing(part)));
        }
    }
    list
}

/// Those of one head or one expert: many.
pub fn of_parts(config: &Qwen3Config) -> Vec<Hypothesis> {
    let heads = config.num_attention_heads;
    let mut list = Vec::new();
    for head in 0..heads {
        list.push(habit("head_zeroed", format!("head {head} gives zeros"), Habit::HeadZero(head)));
    }
    if heads <= MOST_PAIRED {
        for (a, b) in (0..heads).flat_map(|a| (a + 1..heads).map(move |b| (a, b))) {
            let words = format!("heads {a} and {b} have each other's place");
            list.push(habit("heads_exchanged", words, Habit::HeadsExchanged(a, b)));
        }
    }
    let experts = config.sparse.as_ref().map_or(0, |sparse| sparse.experts.count);
    for expert in 0..experts {
        list.push(habit("expert_zeroed", format!("expert {expert} gives zeros"), Habit::ExpertZero(expert)));
    }
    list
}

/// Heads of which any two may be exchanged.
const MOST_PAIRED: usize = 16;

/// Those that show in the logits.
pub fn of_head() -> Vec<Hypothesis> {
    let mut list: Vec<Hypothesis> = [15.0, 30.0, 50.0]
        .map(|cap| {
            let words = format!("logits are capped at {cap} by a tanh, as in Gemma 2");
            habit("logits_softcap", words, Habit::LogitsSoftcap(cap))
        })
        .into();
    for (by, words) in [(1, "logits are those of the next id"), (-1, "logits are those of the id before")] {
        list.push(habit("vocabulary_shifted", words, Habit::LogitsShifted(by)));
    }
    list
}

/// Each group of `width` values without its mean.
pub fn centred(x: &[f64], width: usize) -> Vec<f64> {
    let mut x = x.to_vec();
    for group in x.chunks_mut(width) {
        let mean = group.iter().sum::<f64>() / width as f64;
        group.iter_mut().for_each(|value| *value -= mean);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_bent_and_shifted() {
        let logits = vec![100.0, 1.0, -100.0, 2.0, 3.0, 4.0];
        let capped = Habit::LogitsSoftcap(30.0).of_logits(logits.clone(), 3);
        assert!(capped[0] < 30.0 && capped[2] > -30.0 && (capped[1] - 1.0).abs() < 1e-3, "{capped:?}");
        assert_eq!(Habit::LogitsShifted(1).of_logits(logits.clone(), 3), [1.0, -100.0, 100.0, 3.0, 4.0, 2.0]);
        assert_eq!(Habit::LogitsShifted(-1).of_logits(logits, 3), [-100.0, 100.0, 1.0, 4.0, 2.0, 3.0]);
    }

    #[test]
    fn a_centred_group_has_no_mean() {
        assert_eq!(centred(&[1.0, 3.0, 5.0, 5.0], 2), [-1.0, 1.0, 0.0, 0.0]);
    }
}
