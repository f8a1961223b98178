use qwen3_model::{Padding, Qwen3, Qwen3Config, Session, SessionError, SessionOptions};

use super::batches::batches;
use super::{BATCH_TOKENS, CHUNK_SIZE, RetrievalError};
use crate::Tokenizer;

/// Keeps the vector of a text of which nothing is left from being divided by zero: `torch.nn.functional.normalize`'s.
const EPS: f64 = 1e-12;

/// How texts are embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Values of a vector, its first ones (Matryoshka); `None` for all, the model's `hidden_size`.
    pub dimensions: Option<usize>,
    /// Most tokens of a text, those included that the tokenizer adds; `None` for as many as the model has positions,
    /// which are never exceeded. Of a longer text the end is left out, and not the tokens that the tokenizer adds.
    pub max_length: Option<usize>,
    /// On which side the shorter texts of a batch are padded: the vectors differ by roundings only.
    pub padding: Padding,
    /// Tokens read side by side, padding counted; a longer text is read alone. Memory grows with it.
    pub batch_tokens: usize,
    /// Tokens of a text that are read at once.
    pub chunk_size: usize,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            dimensions: None,
            max_length: None,
            padding: Padding::Left,
            batch_tokens: BATCH_TOKENS,
            chunk_size: CHUNK_SIZE,
        }
    }
}

impl EmbedOptions {
    /// Checks the dimensions, before a model of this `config` is loaded.
    ///
    /// # Errors
    /// [`RetrievalError::Dimensions`].
    pub fn validate(&self, config: &Qwen3Config) -> Result<(), RetrievalError> {
        let hidden_size = config.hidden_size;
        match self.dimensions {
            Some(dimensions) if !(1..=hidden_size).contains(&dimensions) => {
                Err(RetrievalError::Dimensions { dimensions, hidden_size })
            }
            _ => Ok(()),
        }
    }
}

/// A text as a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Of length 1: the dot product of two is the cosine of the angle between them.
    pub vector: Vec<f32>,
    /// Tokens that were read, those included that the tokenizer adds.
    pub tokens: usize,
    /// Was the text longer?
    pub cut: bool,
}

/// A query as Qwen3-Embedding is trained on it, with the `task` that it is for; documents are embedded as they are.
///
/// Follows `get_detailed_instruct` of the model card of Qwen3-Embedding.
///
/// ```
/// let task = "Given a web search query, retrieve relevant passages that answer the query";
/// let query = qwen3_text::instructed(task, "What is the capital of China?");
/// assert!(query.ends_with("answer the query\nQuery:What is the capital of China?"));
/// ```
pub fn instructed(task: &str, query: &str) -> String {
    format!("Instruct: {task}\nQuery:{query}")
}

/// Texts to vectors: what the last norm gives for a text's last token, cut to the dimensions asked for, of length 1.
///
/// A model without a head will do; see `qwen3_import::Loader::extent`. Which token is the last the tokenizer decides:
/// that of an embedding model puts an end token behind every text, by the post-processor of its `tokenizer.json`.
/// Special tokens that are spelled out in a text are those tokens, as in Transformers.
///
/// Texts of unequal length may be given together; each has the vector that it has alone, up to roundings. Lengths are
/// taken in float64 whatever the model computes in.
///
/// Follows the model card of Qwen3-Embedding for Transformers.
///
/// ```no_run
/// # use burn::tensor::{DType, Device};
/// # use qwen3_import::Loader;
/// # use qwen3_model::Extent;
/// # use qwen3_text::{EmbedOptions, Embedder, Tokenizer, instructed};
/// # fn search(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
/// let folder = "Qwen3-Embedding-0.6B";
/// let model = Loader::new(device, DType::F32).extent(Extent::Encoder).checkpoint(folder)?;
/// let tokenizer = Tokenizer::open(folder)?;
/// let embedder = Embedder::new(&model, &tokenizer, EmbedOptions::default())?;
/// let query = instructed("Given a web search query, retrieve relevant passages that answer the query", "gravity");
/// let found = embedder.embed(&[query.as_str(), "Gravity attracts two bodies.", "Beijing is a city."])?;
/// let cosine = |text: usize| -> f32 {
///     found[0].vector.iter().zip(&found[text].vector).map(|(x, y)| x * y).sum()
/// };
/// assert!(cosine(1) > cosine(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Embedder<'a> {
    model: &'a Qwen3,
    tokenizer: &'a Tokenizer,
    options: EmbedOptions,
    dimensions: usize,
    /// Most tokens of a text.
    longest: usize,
}

impl<'a> Embedder<'a> {
    /// An embedder of this model.
    ///
    /// # Errors
    /// [`RetrievalError::Dimensions`]; [`SessionError::ZeroOption`] when `chunk_size` is 0.
    pub fn new(
        model: &'a Qwen3,
        tokenizer: &'a Tokenizer,
        options: EmbedOptions,
    ) -> Result<Self, RetrievalError> {
        options.validate(&model.config)?;
        let dimensions = options.dimensions.unwrap_or(model.config.hidden_size);
        if options.chunk_size == 0 {
            return Err(SessionError::ZeroOption { option: "chunk_size" }.into());
        }
        let positions = model.config.max_tokens();
        let longest = options.max_length.map_or(positions, |length| length.min(positions));
        Ok(Self { model, tokenizer, options, dimensions, longest })
    }

    /// The vectors of `texts`, in their order. Queries are given as [`instructed`] writes them.
    ///
    /// # Errors
    /// When a text has no tokens, or one that the model does not know; when there is no room for the tokens that the
    /// tokenizer adds; when a value is not finite.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Embedding>, RetrievalError> {
        let mut found = Vec::with_capacity(texts.len());
        let mut rows = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().enumerate() {
            // One token more than there is room for tells a text that is cut.
            let mut ids =
                self.tokenizer.encode_with_special(text.as_ref(), self.longest.saturating_add(1))?;
            let cut = ids.len() > self.longest;
            if cut {
                ids = self.tokenizer.encode_with_special(text.as_ref(), self.longest)?;
            }
            check_row(&ids, row, self.model, self.tokenizer)?;
            found.push(Embedding { vector: Vec::new(), tokens: ids.len(), cut });
            rows.push(ids);
        }
        let lengths: Vec<_> = rows.iter().map(Vec::len).collect();
        for batch in batches(&lengths, self.options.batch_tokens) {
            let ids: Vec<_> = batch.iter().map(|row| rows[*row].as_slice()).collect();
            let values = self.pooled(&ids)?;
            for (&row, values) in batch.iter().zip(values.chunks_exact(self.model.config.hidden_size)) {
                found[row].vector = self.unit(values).ok_or(RetrievalError::NotFinite { row })?;
            }
        }
        Ok(found)
    }

    /// The last norm's output for the last token of each text, one behind the other.
    fn pooled(&self, texts: &[&[u32]]) -> Result<Vec<f32>, RetrievalError> {
        let capacity = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let chunk_size = self.options.chunk_size.min(capacity);
        let mut session =
            Session::new(self.model, SessionOptions { batch: texts.len(), capacity, chunk_size })?;
        let pooled = session.encode(texts, self.options.padding)?; // [texts, hidden_size]
        Ok(pooled.into_data().iter().collect())
    }

    /// The first values over the length of the vector that they are; `None` when that is not finite.
    fn unit(&self, values: &[f32]) -> Option<Vec<f32>> {
        let values = &values[..self.dimensions];
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let length = values.iter().map(square).sum::<f64>().sqrt();
        let unit = |value: &f32| (f64::from(*value) / length.max(EPS)) as f32;
        length.is_finite().then(|| values.iter().map(unit).collect())
    }
}

/// Checks that there are tokens, and that the model knows them: a session would name the row of a batch.
pub(super) fn check_row(
    ids: &[u32],
    row: usize,
    model: &Qwen3,
    tokenizer: &Tokenizer,
) -> Result<(), RetrievalError> {
    let (file, vocab_size) = (tokenizer.file(), model.config.vocab_size);
    if ids.is_empty() {
        return Err(RetrievalError::Empty { file: file.into(), row });
    }
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        Some(&id) => Err(RetrievalError::UnknownToken { file: file.into(), row, id, vocab_size }),
        None => Ok(()),
    }
}
