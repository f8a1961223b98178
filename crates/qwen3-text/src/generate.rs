//! From prompts to text: a session, a sampler and a detokenizer for each sequence, step by step.

mod cancel;
mod error;
mod events;
mod options;
mod sequence;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use qwen3_model::{Prefill, Qwen3, Session, SessionOptions};

pub use self::cancel::Cancel;
pub use self::error::GenerateError;
pub use self::events::{Event, FinishReason, Generated, Timing};
pub use self::options::GenerateOptions;
use self::sequence::Sequence;
use crate::sampling::Choices;
use crate::{SamplingOptions, Tokenizer};

/// Slots for generated tokens that a session begins with.
const FIRST_SLOTS: usize = 512;

/// Text being generated for a batch of prompts: an iterator over [`Event`]s.
///
/// One call of `next` reads at most one chunk of the prompts or decodes at most one token of each
/// sequence. The same options, prompts and seed give the same events on the same backend. After an error
/// there are no more events.
///
/// ```
/// # #[cfg(feature = "flex")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
/// use burn::tensor::{DType, Device};
/// use qwen3_text::{Event, GenerateOptions, Generation, GenerationConfig, Tokenizer};
/// let model = qwen3_import::load(folder, &Device::flex(), DType::F32)?;
/// let tokenizer = Tokenizer::open(folder)?;
/// let mut options = GenerateOptions::recommended(&GenerationConfig::open(folder)?, &tokenizer);
/// options.max_new_tokens = 4;
/// let prompts = [tokenizer.encode("1 2 3")?, tokenizer.encode("Monday")?];
/// let mut texts = [String::new(), String::new()];
/// for event in Generation::new(&model, &tokenizer, &prompts, &options)? {
///     if let Event::Text { row, text } = event? {
///         texts[row] += &text; // as it comes
///     }
/// }
/// // Or all at once.
/// let whole = Generation::new(&model, &tokenizer, &prompts, &options)?.finish()?;
/// assert_eq!(texts, [&whole[0].text[..], &whole[1].text]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "flex"))]
/// # fn main() {}
/// ```
pub struct Generation<'a> {
    tokenizer: &'a Tokenizer,
    session: Session,
    stage: Stage,
    sequences: Vec<Sequence<'a>>,
    sampling: SamplingOptions,
    events: VecDeque<Event>,
    /// Slots that the session may grow to.
    limit: usize,
    cancel: Cancel,
    begun: Instant,
    prefill: Duration,
}

enum Stage {
    Reading(Prefill),
    Decoding,
    Done,
}

impl<'a> Generation<'a> {
    /// A generation that begins with `prompts`, token ids of any lengths, in a session of its own.
    ///
    /// The session grows with the text, up to the longest prompt and `max_new_tokens`, or as many tokens as
    /// the model has positions.
    ///
    /// # Errors
    /// When there is no prompt, one is empty, too long or has tokens that the model does not know; when an
    /// option is out of range.
    pub fn new<P: AsRef<[u32]>>(
        model: &Qwen3,
        tokenizer: &'a Tokenizer,
        prompts: &[P],
        options: &GenerateOptions,
    ) -> Result<Self, GenerateError> {
        let longest = prompts.iter().map(|prompt| prompt.as_ref().len()).max();
        let longest = longest.ok_or(GenerateError::NoPrompt)?.max(1);
        let positions = model.config.max_tokens();
        if let Some((row, prompt)) = (0..).zip(prompts).find(|(_, p)| p.as_ref().len() > positions) {
            let tokens = prompt.as_ref().len();
            let room = positions;
            return Err(GenerateError::PromptTooLong { row, tokens, room });
        }
        let limit = longest.saturating_add(options.new_tokens(longest));
        let limit = limit.min(positions);
        let session = SessionOptions {
            batch: prompts.len(),
            capacity: limit.min(longest + FIRST_SLOTS),
            chunk_size: options.chunk_size,
        };
        let session = Session::new(model, session)?;
        let generation = Self::in_session(session, tokenizer, &[], prompts, options)?;
        Ok(Self { limit, ..generation })
    }

    /// A generation that goes on in a session, as large as it is, which has already read `context`, the
    /// beginning of every prompt; `prompts` are the tokens behind it. [`into_session`](Self::into_session) gives it back.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_session<P: AsRef<[u32]>>(
        session: Session,
        tokenizer: &'a Tokenizer,
        context: &[u32],
        prompts: &[P],
        options: &GenerateOptions,
    ) -> Result<Self, GenerateError> {
        let room = session.capacity() - session.used();
        for (row, prompt) in prompts.iter().enumerate() {
            let tokens = prompt.as_ref().len();
            if tokens > room {
                return Err(GenerateError::PromptTooLong { row, tokens, room });
            }
        }
        let prefill = session.begin(prompts)?;
        let sequences = prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| {
                let prompt = [context, prompt.as_ref()].concat();
                Sequence::new(tokenizer, row, prompt, options)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tokenizer,
            stage: Stage::Reading(prefill),
            sequences,
            sampling: options.sampling.clone(),
            events: VecDeque::new(),
            limit: session.capacity(),
            session,
            cancel: Cancel::default(),
            begun: Instant::now(),
            prefill: Duration::ZERO,
        })
    }

    /// The same with a handle that ends it; every sequence then finishes with
    /// [`FinishReason::Cancelled`].
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The session as it is now, for a generation that goes on from here. It has read the prompts and
    /// every generated token but the last of each sequence.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Runs to the end; one result for each prompt, in their order.
    ///
    /// # Errors
    /// Those of the events.
    pub fn finish(mut self) -> Result<Vec<Generated>, GenerateError> {
        let mut results = vec![None; self.sequences.len()];
        let mut texts = vec![String::new(); self.sequences.len()];
        while let Some(event) = self.next() {
            match event? {
                Event::Text { row, text } => texts[row] += &text,
                Event::Finished { row, reason, timing } => {
                    let sequence = &self.sequences[row];
                    results[row] = Some(Generated {
                        prompt_ids: sequence.prompt().to_vec(),
                        generated_ids: sequence.generated().to_vec(),
                        text: std::mem::take(&mut texts[row]),
                        reason,
                        timing,
                    });
                }
                _ => {}
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Does the next piece of work, which makes events or ends the generation.
    fn advance(&mut self) -> Result<(), GenerateError> {
        if self.cancel.is_cancelled() {
            return self.finish_all(FinishReason::Cancelled);
        }
        let logits = match &mut self.stage {
            Stage::Done => return Ok(()),
            Stage::Reading(prefill) => {
                let logits = self.session.read(prefill)?;
                self.events.push_back(Event::Prefill { read: prefill.read(), total: prefill.total() });
                match logits {
                    None => return Ok(()),
                    Some(logits) => logits,
                }
            }
            Stage::Decoding => {
                let slots = self.session.capacity();
                if self.session.used() == slots {
                    if slots >= self.limit {
                        return self.finish_all(FinishReason::Length);
                    }
                    self.session.grow((2 * slots).min(self.limit))?;
                }
                let last = self.sequences.iter().map(Sequence::last);
                let last = last.collect::<Vec<_>>();
                self.session.step(&last)?
            }
        };
        self.accept(logits)
    }

    /// Chooses a token for every unfinished sequence from `logits` `[batch, vocab_size]`.
    fn accept(&mut self, logits: Tensor<2>) -> Result<(), GenerateError> {
        let [_, vocab_size] = logits.dims();
        let mut choices = Choices::new(logits, &self.sampling);
        if let Stage::Reading(_) = self.stage {
            self.prefill = self.begun.elapsed();
            self.stage = Stage::Decoding;
        }
        for (row, sequence) in self.sequences.iter_mut().enumerate() {
            if sequence.is_finished() {
                continue;
            }
            let reason = if sequence.is_full() {
                Some(FinishReason::Length)
            } else {
                let id = match &mut choices {
                    Choices::Ids(ids) => ids[row],
                    Choices::Rows(rows) => sequence.choose(&mut rows[row * vocab_size..][..vocab_size])?,
                };
                sequence.push(id, self.tokenizer, &mut self.events)?
            };
            let full = sequence.is_full().then_some(FinishReason::Length);
            if let Some(reason) = reason.or(full) {
                let timing = Timing { prefill: self.prefill, decode: self.begun.elapsed() - self.prefill };
                sequence.finish(reason, timing, &mut self.events)?;
            }
        }
        if self.sequences.iter().all(Sequence::is_finished) {
            self.stage = Stage::Done;
        }
        Ok(())
    }

    fn finish_all(&mut self, reason: FinishReason) -> Result<(), GenerateError> {
        let elapsed = self.begun.elapsed();
        let timing = match self.stage {
            Stage::Reading(_) => Timing { prefill: elapsed, decode: Duration::ZERO },
            _ => Timing { prefill: self.prefill, decode: elapsed - self.prefill },
        };
        self.stage = Stage::Done;
        for sequence in &mut self.sequences {
            if !sequence.is_finished() {
                sequence.finish(reason.clone(), timing, &mut self.events)?;
            }
        }
        Ok(())
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Event, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if let Stage::Done = self.stage {
                return None;
            }
            if let Err(error) = self.advance() {
                self.stage = Stage::Done;
                self.events.clear();
                return Some(Err(error));
            }
        }
    }
}
