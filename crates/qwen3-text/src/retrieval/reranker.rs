use burn::tensor::{Int, Tensor};
use qwen3_model::{Qwen3, Session, SessionError, SessionOptions};

use super::batches::batches;
use super::embedder::check_row;
use super::{BATCH_TOKENS, CHUNK_SIZE, RetrievalError};
use crate::Tokenizer;

/// What a document is asked for where nothing else is said; the model card's.
pub const DEFAULT_INSTRUCT: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// What stands before instruction, query and document.
const PREFIX: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. \
     Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
/// What stands behind them: an answer without thoughts begins.
const SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// How documents are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerankOptions {
    /// What a document is asked for.
    pub instruct: String,
    /// Most tokens of a prompt, never more than the model has positions. Of a document that is too long the end is
    /// left out; instruction, query and what stands around them stay whole.
    pub max_length: usize,
    /// Tokens read side by side, padding counted; a longer prompt is read alone. Memory grows with it.
    pub batch_tokens: usize,
    /// Tokens of a prompt that are read at once.
    pub chunk_size: usize,
}

impl Default for RerankOptions {
    /// The model card's instruction and length, 8,192 tokens.
    fn default() -> Self {
        Self {
            instruct: DEFAULT_INSTRUCT.into(),
            max_length: 8192,
            batch_tokens: BATCH_TOKENS,
            chunk_size: CHUNK_SIZE,
        }
    }
}

/// What a document is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reranked {
    /// The probability of `yes` among `yes` and `no`, 0 to 1.
    pub score: f64,
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Was the document longer?
    pub cut: bool,
}

/// The prompt that is scored, as text.
///
/// Follows `format_instruction` and `process_inputs` of the model card of Qwen3-Reranker.
///
/// ```
/// let prompt = qwen3_text::rerank_prompt(qwen3_text::DEFAULT_INSTRUCT, "gravity", "It attracts two bodies.");
/// assert!(prompt.contains("\n<Query>: gravity\n<Document>: It attracts two bodies.<|im_end|>\n"));
/// ```
pub fn rerank_prompt(instruct: &str, query: &str, document: &str) -> String {
    format!("{PREFIX}{}{SUFFIX}", body(instruct, query, document))
}

fn body(instruct: &str, query: &str, document: &str) -> String {
    format!("<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}")
}

/// The indices of `scores`, the best first; of equal ones the first first.
pub fn best_first(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<_> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// Documents to scores: how likely a model answers `yes` when it is asked whether a document meets a query.
///
/// The prompt is the official one ([`rerank_prompt`]). What stands before and behind instruction, query and document is
/// turned into tokens apart from them, as the model card does; special tokens that are spelled out in a query or a
/// document are those tokens, as they are there: who lets strangers write documents may want to strip them. The
/// score is the softmax of the last token's logits of `no` and `yes` alone.
///
/// Documents of unequal length may be given together; each has the score that it has alone, up to roundings.
///
/// Follows `process_inputs` and `compute_logits` of the model card of Qwen3-Reranker for Transformers, but for the
/// cut, which there may reach the query.
///
/// ```no_run
/// # use burn::tensor::{DType, Device};
/// # use qwen3_text::{RerankOptions, Reranker, Tokenizer};
/// # fn search(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
/// let folder = "Qwen3-Reranker-0.6B";
/// let model = qwen3_import::load(folder, device, DType::F32)?;
/// let tokenizer = Tokenizer::open(folder)?;
/// let reranker = Reranker::new(&model, &tokenizer, RerankOptions::default())?;
/// let found = reranker.rerank("What is gravity?", &["Beijing is a city.", "Gravity attracts two bodies."])?;
/// assert!(found[1].score > found[0].score);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reranker<'a> {
    model: &'a Qwen3,
    tokenizer: &'a Tokenizer,
    options: RerankOptions,
    /// The tokens before and behind instruction, query and document.
    frame: [Vec<u32>; 2],
    /// The tokens of `no` and of `yes`.
    answers: [u32; 2],
    /// Most tokens between those of the frame.
    room: usize,
}

impl<'a> Reranker<'a> {
    /// A reranker of this model.
    ///
    /// # Errors
    /// [`SessionError::NoHead`]; [`RetrievalError::Answer`] when `yes` or `no` are not one token each;
    /// [`RetrievalError::NoRoom`]; [`SessionError::ZeroOption`] when `chunk_size` is 0.
    pub fn new(
        model: &'a Qwen3,
        tokenizer: &'a Tokenizer,
        options: RerankOptions,
    ) -> Result<Self, RetrievalError> {
        model.head().ok_or(SessionError::NoHead)?;
        if options.chunk_size == 0 {
            return Err(SessionError::ZeroOption { option: "chunk_size" }.into());
        }
        let answer = |word| match tokenizer.encode(word)?[..] {
            [id] => check_row(&[id], 0, model, tokenizer).map(|()| id),
            ref ids => {
                let file = tokenizer.file().into();
                Err(RetrievalError::Answer { file, word, ids: ids.to_vec() })
            }
        };
        let answers = [answer("no")?, answer("yes")?];
        let frame = [tokenizer.encode(PREFIX)?, tokenizer.encode(SUFFIX)?];
        let tokens = frame[0].len() + frame[1].len();
        let most = options.max_length.min(model.config.max_tokens());
        let no_room = || RetrievalError::NoRoom { file: tokenizer.file().into(), tokens, room: most };
        let room = most.checked_sub(tokens).ok_or_else(no_room)?;
        Ok(Self { model, tokenizer, options, frame, answers, room })
    }

    /// What each of `documents` is worth for `query`, in their order; [`best_first`] sorts.
    ///
    /// # Errors
    /// [`RetrievalError::NoRoom`] when the query leaves no room for a document; when there is a token that the model
    /// does not know; when a logit is not finite.
    pub fn rerank<T: AsRef<str>>(
        &self,
        query: &str,
        documents: &[T],
    ) -> Result<Vec<Reranked>, RetrievalError> {
        let alone = self.tokenizer.encode(&body(&self.options.instruct, query, ""))?.len();
        if alone > self.room {
            let frame = self.frame[0].len() + self.frame[1].len();
            let file = self.tokenizer.file().into();
            return Err(RetrievalError::NoRoom { file, tokens: frame + alone, room: frame + self.room });
        }
        let mut found = Vec::with_capacity(documents.len());
        let mut rows = Vec::with_capacity(documents.len());
        for (row, document) in documents.iter().enumerate() {
            let (ids, cut) = self.prompt(query, document.as_ref())?;
            check_row(&ids, row, self.model, self.tokenizer)?;
            found.push(Reranked { score: 0.0, tokens: ids.len(), cut });
            rows.push(ids);
        }
        let lengths: Vec<_> = rows.iter().map(Vec::len).collect();
        for batch in batches(&lengths, self.options.batch_tokens) {
            let ids: Vec<_> = batch.iter().map(|row| rows[*row].as_slice()).collect();
            let logits = self.logits(&ids)?;
            for (&row, logits) in batch.iter().zip(logits.as_chunks().0) {
                found[row].score = probability_of_yes(*logits).ok_or(RetrievalError::NotFinite { row })?;
            }
        }
        Ok(found)
    }

    /// The tokens of the prompt for a document, and whether the document was cut.
    fn prompt(&self, query: &str, document: &str) -> Result<(Vec<u32>, bool), RetrievalError> {
        let body = body(&self.options.instruct, query, document);
        let [prefix, suffix] = &self.frame;
        let mut ids = prefix.clone();
        let mut cut = false;
        for piece in self.tokenizer.encode_in_pieces(&body) {
            ids.extend(piece?);
            cut = ids.len() > prefix.len() + self.room;
            if cut {
                ids.truncate(prefix.len() + self.room);
                break;
            }
        }
        ids.extend(suffix);
        Ok((ids, cut))
    }

    /// The last token's logits of `no` and `yes` of each prompt, one behind the other.
    fn logits(&self, prompts: &[&[u32]]) -> Result<Vec<f32>, RetrievalError> {
        let capacity = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let chunk_size = self.options.chunk_size.min(capacity);
        let mut session =
            Session::new(self.model, SessionOptions { batch: prompts.len(), capacity, chunk_size })?;
        let logits = session.prefill(prompts)?; // [prompts, vocab_size]
        let answers = self.answers.map(|id| id as i32);
        let answers = Tensor::<1, Int>::from_ints(answers, &logits.device());
        let logits = logits.select(1, answers); // [prompts, 2]
        Ok(logits.into_data().iter().collect())
    }
}

/// The softmax of the logits of `no` and `yes`, at `yes`; `None` when one of them is not finite.
fn probability_of_yes([no, yes]: [f32; 2]) -> Option<f64> {
    let score = (1.0 + (f64::from(no) - f64::from(yes)).exp()).recip();
    (no.is_finite() && yes.is_finite()).then_some(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_keep_their_order() {
        assert_eq!(best_first(&[0.5, 0.9, 0.5, 0.1, 0.9]), [1, 4, 0, 2, 3]);
        assert!(best_first(&[]).is_empty());
    }

    #[test]
    fn a_score_is_a_probability_however_far_apart_the_logits_are() {
        assert_eq!(probability_of_yes([0.0, 0.0]), Some(0.5));
        assert_eq!(probability_of_yes([-2e4, 2e4]), Some(1.0));
        assert_eq!(probability_of_yes([f32::MAX, f32::MIN]), Some(0.0));
        assert_eq!(probability_of_yes([f32::NAN, 0.0]), None);
        assert_eq!(probability_of_yes([0.0, f32::INFINITY]), None);
    }
}
