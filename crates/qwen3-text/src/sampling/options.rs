use crate::TextError;

/// How a token is chosen from logits. The names and the meaning are those of `generate` of
/// Transformers, except for `presence_penalty`, which is the OpenAI API's.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Take the token with the largest logit after the penalties; temperature, top-k, top-p and min-p
    /// then have no effect.
    pub greedy: bool,
    /// Logits are divided by this: positive.
    pub temperature: f64,
    /// Keep this many tokens with the largest logits, and those equal to the last of them; 0 for all.
    pub top_k: usize,
    /// Keep the likeliest tokens until their probabilities add up to this: from 0, which keeps one, to
    /// 1, which keeps all.
    pub top_p: f64,
    /// Keep tokens that are at least this likely compared with the likeliest: from 0 to 1.
    pub min_p: Option<f64>,
    /// Positive logits of tokens in the prompt or in the text so far are divided by this, negative ones
    /// multiplied with it: positive, 1 for no effect.
    pub repetition_penalty: f64,
    /// Taken off the logits of tokens in the text so far, once each: from -2 to 2, 0 for no effect.
    pub presence_penalty: f64,
    /// Of the random numbers: the same seed, options and logits give the same tokens.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// What `generate` of Transformers 5.23 does by itself: take the likeliest token
    /// (`GenerationConfig._get_default_generation_params`).
    fn default() -> Self {
        Self {
            greedy: true,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Is the token that with the largest logit of the model, with nothing done to the logits before?
    pub(crate) fn takes_largest(&self) -> bool {
        self.greedy && self.repetition_penalty == 1.0 && self.presence_penalty == 0.0
    }

    /// Checks every value, also those that have no effect.
    ///
    /// # Errors
    /// [`TextError::Option`] for the first that is out of range or not a number.
    pub fn validate(&self) -> Result<(), TextError> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let positive = |value: f64| value as f32 > 0.0 && (value as f32).is_finite();
        let checks = [
            ("temperature", self.temperature, positive(self.temperature), "positive, or `greedy`"),
            ("top_p", self.top_p, share(self.top_p), "from 0 to 1"),
            ("min_p", self.min_p.unwrap_or(0.0), share(self.min_p.unwrap_or(0.0)), "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty, positive(self.repetition_penalty), "positive"),
            (
                "presence_penalty",
                self.presence_penalty,
                (-2.0..=2.0).contains(&self.presence_penalty),
                "from -2 to 2",
            ),
        ];
        match checks.into_iter().find(|(_, _, valid, _)| !valid) {
            None => Ok(()),
            Some((option, value, _, reason)) => {
                Err(TextError::Option { option, value: value.to_string(), reason })
            }
        }
    }
}
