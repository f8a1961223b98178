use std::collections::VecDeque;

use super::{Event, FinishReason, GenerateOptions, Timing};
use crate::{
    Sampler, SamplingOptions, StopMatcher, TextError, ThinkingEvent, ThinkingTokens, ThinkingTracker,
    TokenStream, Tokenizer,
};

/// One sequence of a batch: its tokens, and what turns them into text.
pub(super) struct Sequence<'a> {
    row: usize,
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    prompt: usize,
    sampler: Sampler,
    stream: TokenStream<'a>,
    stops: StopMatcher,
    stop_tokens: Vec<u32>,
    thinking: ThinkingTracker,
    /// Most tokens to generate.
    new_tokens: usize,
    finished: bool,
}

impl<'a> Sequence<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        row: usize,
        prompt: Vec<u32>,
        options: &GenerateOptions,
    ) -> Result<Self, TextError> {
        let sampling = SamplingOptions {
            seed: options.sampling.seed.wrapping_add(row as u64),
            ..options.sampling.clone()
        };
        let new_tokens = options.new_tokens(prompt.len());
        Ok(Self {
            row,
            thinking: ThinkingTracker::new(ThinkingTokens::of(tokenizer), &prompt),
            prompt: prompt.len(),
            ids: prompt,
            sampler: Sampler::new(sampling)?,
            stream: tokenizer.stream(options.skip_special),
            stops: StopMatcher::new(&options.stop_strings)?,
            stop_tokens: options.stop_tokens.clone(),
            new_tokens,
            finished: false,
        })
    }

    pub(super) fn prompt(&self) -> &[u32] {
        &self.ids[..self.prompt]
    }

    pub(super) fn generated(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// The token that the next step reads; of a finished sequence any will do.
    pub(super) fn last(&self) -> u32 {
        self.ids[self.ids.len() - 1]
    }

    /// Have as many tokens been generated as may be?
    pub(super) fn is_full(&self) -> bool {
        self.generated().len() >= self.new_tokens
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Chooses the next token from its row of logits.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> Result<u32, TextError> {
        let generated = &self.ids[self.prompt..];
        self.sampler.process(logits, &self.ids, generated)?;
        self.sampler.choose(logits)
    }

    /// Goes on with the token `id`; why the text ends with it, if it does.
    pub(super) fn push(
        &mut self,
        id: u32,
        tokenizer: &Tokenizer,
        events: &mut VecDeque<Event>,
    ) -> Result<Option<FinishReason>, TextError> {
        self.ids.push(id);
        let row = self.row;
        events.push_back(Event::Token { row, id });

        let thinking = self.thinking.push(id);
        if thinking == Some(ThinkingEvent::ThinkingStarted) {
            events.push_back(Event::ThinkingStarted { row });
        }
        // An embedding may have more rows than the tokenizer has tokens: those have no text.
        let piece = match tokenizer.token(id) {
            Some(_) => self.stream.push(id)?,
            None => String::new(),
        };
        let found = self.stops.push(&piece);
        self.say(found.text, events);
        if thinking == Some(ThinkingEvent::ThinkingEnded) {
            events.push_back(Event::ThinkingEnded { row });
        }
        Ok(match found.matched {
            Some(index) => Some(FinishReason::StopString(self.stops.stops()[index].clone())),
            None if self.stop_tokens.contains(&id) => Some(FinishReason::StopToken(id)),
            None => None,
        })
    }

    /// Says what was held back, and that the sequence is complete.
    pub(super) fn finish(
        &mut self,
        reason: FinishReason,
        timing: Timing,
        events: &mut VecDeque<Event>,
    ) -> Result<(), TextError> {
        self.finished = true;
        let rest = self.stream.finish()?;
        let mut text = self.stops.push(&rest).text;
        text += &self.stops.finish();
        self.say(text, events);
        let row = self.row;
        events.push_back(Event::Finished { row, reason, timing });
        Ok(())
    }

    fn say(&self, text: String, events: &mut VecDeque<Event>) {
        if !text.is_empty() {
            let row = self.row;
            events.push_back(Event::Text { row, text });
        }
    }
}
