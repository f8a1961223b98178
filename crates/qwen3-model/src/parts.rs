use burn::tensor::{Device, Tensor};

use crate::{DecoderLayer, Qwen3, Qwen3Config, RmsNorm, Tap, Taps, VocabMatrix, WeightSource};

/// A model part by part, in the order in which tokens pass through it: all of it in memory, or one part after the
/// other.
///
/// A part that was given out may be gone when the next is asked for.
pub trait Parts {
    /// What goes wrong when a part cannot be had.
    type Error;

    /// The token embedding, `[vocab_size, hidden_size]`.
    ///
    /// # Errors
    /// When its weights cannot be had.
    fn embedding(&mut self) -> Result<&VocabMatrix, Self::Error>;

    /// Decoder layer number `index`.
    ///
    /// # Errors
    /// When its weights cannot be had.
    ///
    /// # Panics
    /// When there is no such layer.
    fn layer(&mut self, index: usize) -> Result<&DecoderLayer, Self::Error>;

    /// The last norm and the head.
    ///
    /// # Errors
    /// When their weights cannot be had.
    fn end(&mut self) -> Result<End<'_>, Self::Error>;
}

/// What stands behind the last decoder layer.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The last norm.
    pub norm: &'a RmsNorm,
    /// The head, `[vocab_size, hidden_size]`; the embedding, when tied; `None` of a model without one.
    pub head: Option<&'a VocabMatrix>,
}

impl End<'_> {
    /// The last norm of `hidden` `[batch, seq, hidden_size]`, same shape.
    pub fn normed(&self, hidden: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        let hidden = moved(hidden, &self.norm.weight.device());
        let hidden = self.norm.forward(hidden);
        taps.enter(None);
        taps.rank3(Tap::FinalNorm, &hidden);
        hidden
    }

    /// Scores over the vocabulary, `[batch, seq, vocab_size]`, of normed `hidden` `[batch, seq, hidden_size]`.
    ///
    /// # Panics
    /// When there is no head.
    pub fn logits(&self, hidden: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        let head = self.head.expect("logits of a model without a head");
        let [batch, seq, features] = hidden.dims();
        let hidden = moved(hidden, &head.weight[0].device());
        let hidden = hidden.reshape([batch * seq, features]); // [batch * seq, hidden_size]
        let logits = head.logits(hidden); // [batch * seq, vocab_size]
        let vocab = logits.dims()[1];
        let logits = logits.reshape([batch, seq, vocab]); // [batch, seq, vocab_size]
        taps.enter(None);
        taps.rank3(Tap::Logits, &logits);
        logits
    }
}

/// `x` on `device`; nothing happens when it is there.
pub(crate) fn moved(x: Tensor<3>, device: &Device) -> Tensor<3> {
    if x.device() == *device { x } else { x.to_device(device) }
}

/// In memory, where every part is to be had.
impl Parts for &Qwen3 {
    type Error = std::convert::Infallible;

    fn embedding(&mut self) -> Result<&VocabMatrix, Self::Error> {
        Ok(&self.model.embed_tokens)
    }

    fn layer(&mut self, index: usize) -> Result<&DecoderLayer, Self::Error> {
        Ok(&self.model.layers[index])
    }

    fn end(&mut self) -> Result<End<'_>, Self::Error> {
        Ok(Qwen3::end(self))
    }
}

/// A model of which one part is in memory at a time: the one that was asked for last.
#[derive(Debug)]
pub struct Streamed<S> {
    source: S,
    config: Qwen3Config,
    part: Option<Part>,
}

#[derive(Debug)]
enum Part {
    Embedding(VocabMatrix),
    Layer(usize, Box<DecoderLayer>),
    End(RmsNorm, VocabMatrix),
}

impl<S: WeightSource> Streamed<S> {
    /// The model of `config` with the weights of `source`, none of which is read yet.
    pub fn new(source: S, config: &Qwen3Config) -> Self {
        Self { source, config: config.clone(), part: None }
    }
}

impl<S: WeightSource> Parts for Streamed<S> {
    type Error = S::Error;

    fn embedding(&mut self) -> Result<&VocabMatrix, S::Error> {
        if !matches!(self.part, Some(Part::Embedding(_))) {
            // The old part goes first.
            self.part = None;
            let embedding = VocabMatrix::embedding(&mut self.source, &self.config)?;
            self.part = Some(Part::Embedding(embedding));
        }
        match &self.part {
            Some(Part::Embedding(embedding)) => Ok(embedding),
            _ => unreachable!("just built"),
        }
    }

    fn layer(&mut self, index: usize) -> Result<&DecoderLayer, S::Error> {
        assert!(index < self.config.num_hidden_layers, "there is no layer {index}");
        if !matches!(&self.part, Some(Part::Layer(built, _)) if *built == index) {
            self.part = None;
            let layer = DecoderLayer::build(&mut self.source, &self.config, index)?;
            self.part = Some(Part::Layer(index, Box::new(layer)));
        }
        match &self.part {
            Some(Part::Layer(_, layer)) => Ok(layer),
            _ => unreachable!("just built"),
        }
    }

    fn end(&mut self) -> Result<End<'_>, S::Error> {
        if !matches!(self.part, Some(Part::End(..))) {
            self.part = None;
            let norm = RmsNorm::last(&mut self.source, &self.config)?;
            let head = match VocabMatrix::head(&mut self.source, &self.config)? {
                Some(head) => head,
                None => VocabMatrix::embedding(&mut self.source, &self.config)?,
            };
            self.part = Some(Part::End(norm, head));
        }
        match &self.part {
            Some(Part::End(norm, head)) => Ok(End { norm, head: Some(head) }),
            _ => unreachable!("just built"),
        }
    }
}
