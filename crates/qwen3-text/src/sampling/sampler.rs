use chacha20::ChaCha12Rng;

use super::choose::{argmax, draw, generator};
use super::{SamplingOptions, filter};
use crate::TextError;

/// Chooses tokens for one sequence; owns its random numbers.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha12Rng,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    ///
    /// # Errors
    /// [`TextError::Option`] when an option is out of range.
    pub fn new(options: SamplingOptions) -> Result<Self, TextError> {
        options.validate()?;
        let random = generator(options.seed);
        Ok(Self { options, random })
    }

    /// The options.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Changes one row of logits `[vocab_size]` as `generate` of Transformers 5.23 does before it draws
    /// (`_get_logits_processor`): repetition penalty, presence penalty, temperature, top-k, top-p, min-p,
    /// in this order. Tokens that are out get negative infinity.
    ///
    /// `context` is every token so far, prompt and text, which the repetition penalty looks at;
    /// `generated` is the text alone, which the presence penalty looks at.
    ///
    /// # Errors
    /// [`TextError::Logit`] for NaN and positive infinity, [`TextError::UnknownToken`] for a token that
    /// has no logit. The logits are then as they were.
    pub fn process(&self, logits: &mut [f32], context: &[u32], generated: &[u32]) -> Result<(), TextError> {
        check(logits)?;
        let options = &self.options;
        let vocab_size = logits.len();
        let unknown = context.iter().chain(generated).find(|&&id| id as usize >= vocab_size);
        if let Some(&id) = unknown {
            return Err(TextError::UnknownToken { id, vocab_size });
        }
        if options.repetition_penalty != 1.0 {
            let penalty = options.repetition_penalty as f32;
            for id in unique(context) {
                let logit = &mut logits[id as usize];
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
        if options.presence_penalty != 0.0 {
            for id in unique(generated) {
                let logit = &mut logits[id as usize];
                *logit = (f64::from(*logit) - options.presence_penalty) as f32;
            }
        }
        if options.greedy {
            return Ok(());
        }
        if options.temperature != 1.0 {
            for logit in logits.iter_mut() {
                *logit /= options.temperature as f32;
            }
        }
        if options.top_k != 0 {
            filter::top_k(logits, options.top_k);
        }
        if options.top_p < 1.0 || options.min_p.is_some() {
            let mut remaining = filter::Remaining::new(logits);
            if options.top_p < 1.0 {
                remaining.top_p(logits, options.top_p);
            }
            if let Some(min_p) = options.min_p {
                remaining.min_p(logits, min_p);
            }
        }
        Ok(())
    }

    /// Chooses a token from processed logits `[vocab_size]`: when greedy the one with the largest, of
    /// equal ones the lowest id; otherwise one drawn with its softmax probability, which takes one
    /// 64-bit number of a ChaCha12 stream.
    ///
    /// # Errors
    /// [`TextError::Logit`] for NaN and positive infinity, [`TextError::NoChoice`] when there is no
    /// finite logit.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, TextError> {
        check(logits)?;
        let none = TextError::NoChoice { count: logits.len() };
        if !logits.iter().any(|logit| logit.is_finite()) {
            return Err(none);
        }
        if self.options.greedy { Ok(argmax(logits)) } else { draw(logits, &mut self.random).ok_or(none) }
    }
}

fn check(logits: &[f32]) -> Result<(), TextError> {
    let broken = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    if !logits.iter().fold(false, |any, logit| any | broken(logit)) {
        return Ok(());
    }
    let id = logits.iter().position(broken).unwrap_or_default();
    Err(TextError::Logit { id, value: logits[id] })
}

fn unique(ids: &[u32]) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(options: SamplingOptions) -> Sampler {
        Sampler::new(options).unwrap()
    }

    #[test]
    fn penalties_count_a_token_once() {
        let options =
            SamplingOptions { repetition_penalty: 2.0, presence_penalty: 0.5, ..SamplingOptions::default() };
        let mut logits = [2.0, -2.0, 3.0, 1.0];
        sampler(options).process(&mut logits, &[0, 1, 1, 0, 3], &[0, 0, 3]).unwrap();
        assert_eq!(logits, [0.5, -4.0, 3.0, 0.0]);
    }

    #[test]
    fn broken_logits_are_refused() {
        let mut sampler = sampler(SamplingOptions::default());
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = [0.0, bad];
            assert!(matches!(sampler.process(&mut logits, &[], &[]), Err(TextError::Logit { id: 1, .. })));
            assert!(matches!(sampler.choose(&logits), Err(TextError::Logit { id: 1, .. })));
        }
        assert!(matches!(sampler.choose(&[]), Err(TextError::NoChoice { count: 0 })));
        assert!(matches!(sampler.choose(&[f32::NEG_INFINITY]), Err(TextError::NoChoice { count: 1 })));
        let unknown = sampler.process(&mut [0.0], &[1], &[]);
        assert!(matches!(unknown, Err(TextError::UnknownToken { id: 1, vocab_size: 1 })));
    }

    #[test]
    fn options_are_checked() {
        let default = SamplingOptions::default;
        let wrong = [
            SamplingOptions { temperature: 0.0, ..default() },
            SamplingOptions { temperature: f64::NAN, ..default() },
            SamplingOptions { top_p: 1.1, ..default() },
            SamplingOptions { min_p: Some(-0.1), ..default() },
            SamplingOptions { repetition_penalty: 0.0, ..default() },
            SamplingOptions { presence_penalty: 2.5, ..default() },
        ];
        for options in wrong {
            assert!(matches!(Sampler::new(options), Err(TextError::Option { .. })));
        }
    }

    #[test]
    fn a_seed_repeats_itself() {
        let options = SamplingOptions { greedy: false, top_k: 0, seed: 3, ..SamplingOptions::default() };
        let draws = |mut sampler: Sampler| -> Vec<u32> {
            (0..50).map(|_| sampler.choose(&[0.0; 64]).unwrap()).collect()
        };
        let first = draws(sampler(options.clone()));
        assert_eq!(first, draws(sampler(options.clone())));
        assert_ne!(first, draws(sampler(SamplingOptions { seed: 4, ..options })));
    }
}
