use burn::tensor::{Int, Tensor, TensorData};

pub use self::error::SessionError;
pub use self::prefill::{Padding, Prefill};
use crate::{KvCache, Qwen3, Qwen3Config, Rows, StepPlan, Taps};

mod encode;
mod error;
mod prefill;

/// Attended key slots are rounded up to a multiple of this (the rest is masked), so that a GPU
/// backend meets a new shape, which it compiles and tunes for, once per block and not at every step.
const KEY_BLOCK: usize = 64;

/// How much a [`Session`] holds and how it reads prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Sequences decoded side by side.
    pub batch: usize,
    /// Tokens the cache has room for in each sequence, padding included.
    pub capacity: usize,
    /// Prompt tokens processed at once. Peak memory of a prefill grows with
    /// `batch * num_attention_heads * chunk_size * capacity`, not with the length of the prompt.
    pub chunk_size: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { batch: 1, capacity: 2048, chunk_size: 256 }
    }
}

/// Which positions a prefill computes logits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// The last token of every sequence: `[batch, 1, vocab_size]`.
    #[default]
    Last,
    /// Every token: `[batch, longest prompt, vocab_size]`, left-padded as the prompts are.
    All,
}

/// A batch of sequences being decoded: owns the cache and the positions.
///
/// Prompts of unequal length are padded on the left; in a model with sliding windows only the first may be. Positions
/// are absolute token indices within each sequence, padding not counted.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{DType, Device};
/// use qwen3_model::{Qwen3, Qwen3Config, RandomWeights, Session, SessionOptions};
/// let weights = &mut RandomWeights::new(1, &Device::flex(), DType::F32);
/// let model = Qwen3::build(weights, &Qwen3Config::tiny()).unwrap();
/// let options = SessionOptions { batch: 2, capacity: 32, ..Default::default() };
/// let mut session = Session::new(&model, options).unwrap();
/// // Two prompts of unequal length, side by side, then a token of each.
/// let logits = session.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
/// assert_eq!(logits.dims(), [2, model.config.vocab_size]);
/// session.step(&[5, 6]).unwrap();
/// assert_eq!(session.positions(), [4, 2]);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    model: Qwen3,
    plan: StepPlan,
    options: SessionOptions,
    cache: KvCache,
    /// Per sequence, one entry per used slot: is it a token (and not padding)?
    visible: Vec<Vec<bool>>,
    /// Per sequence, the position of its next token.
    next: Vec<usize>,
}

impl Session {
    /// An empty session; allocates the whole cache. The model's weights are shared, not copied.
    ///
    /// # Errors
    /// [`SessionError::ZeroOption`] and [`SessionError::CapacityBeyondModel`].
    pub fn new(model: &Qwen3, options: SessionOptions) -> Result<Self, SessionError> {
        let SessionOptions { batch, capacity, chunk_size } = options;
        for (option, value) in [("batch", batch), ("capacity", capacity), ("chunk_size", chunk_size)] {
            if value == 0 {
                return Err(SessionError::ZeroOption { option });
            }
        }
        let max = model.config.max_tokens();
        if capacity > max {
            return Err(SessionError::CapacityBeyondModel { capacity, max });
        }
        Ok(Self {
            model: model.clone(),
            plan: StepPlan::new(&model.config),
            options,
            cache: KvCache::new(model, batch, capacity, chunk_size),
            visible: vec![Vec::with_capacity(capacity); batch],
            next: vec![0; batch],
        })
    }

    /// Reads one prompt per sequence, in chunks, and returns the logits of its last token,
    /// `[batch, vocab_size]`. May be called again to append, as in a conversation of several turns.
    ///
    /// # Errors
    /// When prompts do not match the batch, are empty, hold unknown tokens or do not fit; when the model has no head.
    pub fn prefill<P: AsRef<[u32]>>(&mut self, prompts: &[P]) -> Result<Tensor<2>, SessionError> {
        let logits = self.prefill_with(prompts, Logits::Last, &mut Taps::none())?;
        Ok(logits.squeeze_dim(1)) // [batch, vocab_size]
    }

    /// [`prefill`](Self::prefill) with a choice of logits, `[batch, 1 or seq, vocab_size]`, and with
    /// taps, which see every chunk.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn prefill_with<P: AsRef<[u32]>>(
        &mut self,
        prompts: &[P],
        logits: Logits,
        taps: &mut Taps,
    ) -> Result<Tensor<3>, SessionError> {
        self.check_head()?;
        let mut prefill = self.begin(prompts)?;
        let mut outputs = Vec::new();
        while let Some(chunk) = prefill.next_chunk(self.options.chunk_size) {
            let hidden = self.advance(&chunk, taps);
            match logits {
                Logits::All => outputs.push(self.model.logits(hidden, taps)),
                Logits::Last if prefill.is_done() => {
                    outputs.push(self.model.logits(last(hidden), taps));
                }
                Logits::Last => {}
            }
        }
        Ok(match outputs.len() {
            1 => outputs.remove(0),
            _ => Tensor::cat(outputs, 1), // [batch, seq, vocab_size]
        })
    }

    /// Checks one prompt per sequence, to be read chunk by chunk with [`read`](Self::read): for those who
    /// show progress or want to be able to stop.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn begin<P: AsRef<[u32]>>(&self, prompts: &[P]) -> Result<Prefill, SessionError> {
        let rows = prompts.iter().map(|prompt| prompt.as_ref().to_vec());
        let prefill = Prefill::new(rows.collect(), Padding::Left);
        self.check(&prefill, self.used())?;
        Ok(prefill)
    }

    /// Reads the next chunk of prompts that [`begin`](Self::begin) has checked. The last one gives the
    /// logits of every sequence's last token, `[batch, vocab_size]`; those before it give `None`, as does
    /// a prefill that is done.
    ///
    /// # Errors
    /// [`SessionError::CacheFull`] and [`SessionError::BatchSize`], when what is left does not fit, as in
    /// another session or when other tokens have been read since `begin`; [`SessionError::NoHead`]. `prefill` must come from a
    /// session of the same model: tokens are not checked again.
    pub fn read(&mut self, prefill: &mut Prefill) -> Result<Option<Tensor<2>>, SessionError> {
        self.check_head()?;
        self.check_fits(prefill, self.used())?;
        let Some(chunk) = prefill.next_chunk(self.options.chunk_size) else {
            return Ok(None);
        };
        let hidden = self.advance(&chunk, &mut Taps::none());
        if !prefill.is_done() {
            return Ok(None);
        }
        let logits = self.model.logits(last(hidden), &mut Taps::none());
        Ok(Some(logits.squeeze_dim(1))) // [batch, vocab_size]
    }

    /// Reads one token per sequence and returns its logits, `[batch, vocab_size]`.
    ///
    /// # Errors
    /// [`SessionError::CacheFull`] when there is no slot left; [`SessionError::NotPrefilled`],
    /// [`SessionError::BatchSize`] and [`SessionError::UnknownToken`].
    pub fn step(&mut self, tokens: &[u32]) -> Result<Tensor<2>, SessionError> {
        self.step_with(tokens, &mut Taps::none())
    }

    /// [`step`](Self::step) with taps: cached steps go other ways than prompts do.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, tokens: &[u32], taps: &mut Taps) -> Result<Tensor<2>, SessionError> {
        if self.used() == 0 {
            return Err(SessionError::NotPrefilled);
        }
        let rows = tokens.iter().map(std::slice::from_ref).collect::<Vec<_>>();
        let logits = self.prefill_with(&rows, Logits::Last, taps)?;
        Ok(logits.squeeze_dim(1)) // [batch, vocab_size]
    }

    /// Takes `tokens` tokens of every sequence as read, with keys and values that are random: for benchmarks of
    /// decoding behind a long context, which takes as long whatever the context is.
    ///
    /// # Errors
    /// [`SessionError::CacheFull`].
    pub fn read_noise(&mut self, tokens: usize) -> Result<(), SessionError> {
        let (used, capacity) = (self.used(), self.options.capacity);
        if tokens > capacity - used {
            return Err(SessionError::CacheFull { used, capacity, needed: tokens });
        }
        self.cache.write_noise(used, tokens);
        for (visible, next) in self.visible.iter_mut().zip(&mut self.next) {
            visible.extend(std::iter::repeat_n(true, tokens));
            *next += tokens;
        }
        Ok(())
    }

    /// Slots in use, padding included.
    pub fn used(&self) -> usize {
        self.visible[0].len()
    }

    /// The position of the next token of each sequence.
    pub fn positions(&self) -> &[usize] {
        &self.next
    }

    /// Slots there are in all, padding included.
    pub fn capacity(&self) -> usize {
        self.options.capacity
    }

    /// Makes room for `capacity` tokens in each sequence, padding included; what has been read stays. Does
    /// nothing when there is as much already.
    ///
    /// # Errors
    /// [`SessionError::CapacityBeyondModel`].
    pub fn grow(&mut self, capacity: usize) -> Result<(), SessionError> {
        let max = self.model.config.max_tokens();
        if capacity > max {
            return Err(SessionError::CapacityBeyondModel { capacity, max });
        }
        if capacity > self.options.capacity {
            self.cache.grow(capacity);
            self.options.capacity = capacity;
        }
        Ok(())
    }

    /// Forgets every token; the cache keeps its memory.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets what lies behind the first `slots` slots, padding counted, as when a conversation goes on
    /// from an earlier turn, and says how many slots are left. Does nothing when no more are in use.
    ///
    /// Layers with windows have forgotten what is too far back for the last token. Where a token in slot `slots` would
    /// see some of it, everything is forgotten, and what was read has to be read again.
    pub fn truncate(&mut self, slots: usize) -> usize {
        let mut kept = slots.min(self.used());
        if kept < self.used() && !self.cache.holds(kept) {
            kept = 0;
        }
        if kept == 0 {
            self.cache.reset();
        }
        for (visible, next) in self.visible.iter_mut().zip(&mut self.next) {
            visible.truncate(kept);
            *next = visible.iter().filter(|token| **token).count();
        }
        kept
    }

    fn check_head(&self) -> Result<(), SessionError> {
        self.model.head().map(drop).ok_or(SessionError::NoHead)
    }

    /// Can the prompts be read behind `used` slots?
    fn check(&self, prefill: &Prefill, used: usize) -> Result<(), SessionError> {
        self.check_fits(prefill, used)?;
        let Qwen3Config { vocab_size, windows, .. } = &self.model.config;
        let (vocab_size, longest) = (*vocab_size, prefill.total());
        let even = used > 0 && windows.window().is_some();
        for (row, prompt) in prefill.rows().iter().enumerate() {
            let tokens = prompt.len();
            if tokens == 0 {
                return Err(SessionError::EmptyPrompt { row });
            }
            if even && tokens < longest {
                return Err(SessionError::PaddingInWindows { row, tokens, longest });
            }
            if let Some(&id) = prompt.iter().find(|id| **id as usize >= vocab_size) {
                return Err(SessionError::UnknownToken { row, id, vocab_size });
            }
        }
        Ok(())
    }

    /// Are there as many sequences, and are there slots behind `used` for what has not been read?
    fn check_fits(&self, prefill: &Prefill, used: usize) -> Result<(), SessionError> {
        let SessionOptions { batch, capacity, .. } = self.options;
        let sequences = prefill.rows().len();
        if sequences != batch {
            return Err(SessionError::BatchSize { expected: batch, found: sequences });
        }
        let needed = prefill.total() - prefill.read();
        if used + needed <= capacity {
            return Ok(());
        }
        Err(SessionError::CacheFull { used, capacity, needed })
    }

    /// Runs one chunk, `None` being padding, and returns its hidden states `[batch, seq, hidden_size]`.
    fn advance(&mut self, chunk: &[Vec<Option<u32>>], taps: &mut Taps) -> Tensor<3> {
        let (batch, seq) = (chunk.len(), chunk[0].len());
        let mut positions = Vec::with_capacity(batch);
        for (row, tokens) in chunk.iter().enumerate() {
            let next = &mut self.next[row];
            let position = |token: &Option<u32>| {
                let position = *next;
                *next += usize::from(token.is_some());
                position
            };
            positions.push(tokens.iter().map(position).collect());
            self.visible[row].extend(tokens.iter().map(Option::is_some));
        }

        let device = self.model.device();
        let keys = self.used().next_multiple_of(KEY_BLOCK).min(self.options.capacity);
        let visible = std::mem::take(&mut self.visible);
        let rows = Rows { positions, visible };
        let step = self.plan.step(&rows, keys, &device);
        self.visible = rows.visible;
        let ids = chunk.iter().flatten().map(|token| i64::from(token.unwrap_or(0))).collect::<Vec<_>>();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), &device);
        self.model.hidden(ids, &step, Some(&mut self.cache), taps)
    }
}

/// The last token's of `hidden` `[batch, seq, hidden_size]`: `[batch, 1, hidden_size]`.
fn last(hidden: Tensor<3>) -> Tensor<3> {
    let [batch, seq, features] = hidden.dims();
    hidden.slice([0..batch, seq - 1..seq, 0..features])
}
