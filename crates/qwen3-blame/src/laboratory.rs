//! The checkpoint's weights, a layer at a time, for what is computed again with them.

mod runs;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use qwen3_checkpoint::{Adapter, Checkpoint};
use qwen3_config::{EMBEDDING, FINAL_NORM, HEAD, Qwen3Config, Rows, Site};

use crate::Result;
use crate::probe::Seen;
use crate::segment::{StepIndex, Watched};
use crate::sent::Sent;
use crate::variant::{Head, Variant};
use crate::weights::{LayerWeights, embedding_rows, head_product, vocabulary_product};

/// The checkpoint's weights, a layer at a time, and the float64 model over them.
pub struct Laboratory<'a> {
    checkpoint: &'a Checkpoint,
    /// The checkpoint's config.
    pub config: Qwen3Config,
    /// Positions and padding.
    pub rows: &'a Rows,
    right: Variant,
    loaded: Option<(usize, Rc<LayerWeights>)>,
    norm: Option<Vec<f32>>,
    /// By what the layers' tokens are sent whose experts are nearly tied.
    sent: BTreeMap<StepIndex, Arc<Sent>>,
    /// When no more mistakes are tried.
    until: Option<Instant>,
    /// Was a mistake left untried?
    gave_up: bool,
    /// What runs of a layer go on from.
    inside: Option<Seen>,
}

impl<'a> Laboratory<'a> {
    /// The same with another implementation in the place of the right one.
    pub fn with(self, right: Variant) -> Self {
        Self { right, ..self }
    }

    /// Over an open checkpoint.
    pub fn new(checkpoint: &'a Checkpoint, rows: &'a Rows) -> Self {
        let config = checkpoint.config().clone();
        Self {
            right: Variant::right(&config),
            checkpoint,
            config,
            rows,
            loaded: None,
            norm: None,
            sent: BTreeMap::new(),
            until: None,
            gave_up: false,
            inside: None,
        }
    }

    /// The same, which tries mistakes until then.
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    /// The same, where tokens behind those of a prompt were read one after the other.
    pub fn behind(self, prompt: Option<usize>) -> Self {
        match prompt {
            Some(prompt) => Self { right: self.right.behind(prompt), ..self },
            None => self,
        }
    }

    /// How many tokens of a row are the prompt's, where others were read behind it, one after the other.
    pub fn prompt(&self) -> Option<usize> {
        self.right.cached.map(|cached| cached.from)
    }

    /// Runs layers go on from these tensors, where they are computed, from now on; from none without any.
    pub fn go_on_from(&mut self, inside: Option<Seen>) {
        self.inside = inside;
    }

    /// What was observed of the inside of a layer, to go on from.
    pub fn observed_inside(&self, watched: &[Watched]) -> Seen {
        let [batch, seq] = self.rows.dims();
        let tensor = |watched: &Watched| {
            let size: usize = watched.site.tap.shape(&self.config, batch, seq).iter().product();
            let places: Vec<f64> = (0..size).map(|place| place as f64).collect();
            let kept = self.without_padding(watched.site, &places);
            let mut values = vec![f64::NAN; size];
            for (place, value) in kept.into_iter().zip(&watched.values) {
                values[place as usize] = *value;
            }
            (watched.site.tap, values)
        };
        watched.iter().map(tensor).collect()
    }

    /// Lets nearly tied experts of layer `step` go the way of a run that was observed, or none.
    pub fn follow(&mut self, step: StepIndex, sent: Option<Sent>) {
        match sent {
            Some(sent) => self.sent.insert(step, Arc::new(sent)),
            None => self.sent.remove(&step),
        };
    }

    /// `variant` in layer `step`, on the way of the run that is looked at.
    fn following(&self, step: StepIndex, variant: &Variant) -> Variant {
        Variant { sent: self.sent.get(&step).cloned(), ..variant.clone() }
    }

    /// Was the time up before everything was tried?
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Is the time up, before something that was to be tried?
    pub(crate) fn is_late(&mut self) -> bool {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        self.gave_up |= late;
        late
    }

    /// The right variant.
    pub fn right(&self) -> &Variant {
        &self.right
    }

    /// The adapter that the model is run with.
    pub fn adapter(&self) -> Option<&'a Adapter> {
        self.checkpoint.adapter()
    }

    /// The embeddings of tokens, one after the other.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn embedding(&self, ids: &[u32]) -> Result<Vec<f64>> {
        Ok(embedding_rows(self.checkpoint, ids)?)
    }

    /// Has the file an `lm_head.weight`?
    pub fn has_stored_head(&self) -> bool {
        self.checkpoint.contains(HEAD)
    }

    /// The elements of the tensor of `site` that belong to tokens.
    pub fn without_padding(&self, site: Site, values: &[f64]) -> Vec<f64> {
        let [batch, seq] = self.rows.dims();
        let shape = site.tap.shape(&self.config, batch, seq);
        self.rows.without_padding(&shape, site.tap.sequence_axis(), values)
    }

    fn layer(&mut self, index: usize) -> Result<Rc<LayerWeights>> {
        if let Some((loaded, weights)) = &self.loaded
            && *loaded == index
        {
            return Ok(Rc::clone(weights));
        }
        // The old one goes first: one layer in memory at a time.
        self.loaded = None;
        let weights = Rc::new(LayerWeights::read(self.checkpoint, index)?);
        self.loaded = Some((index, Rc::clone(&weights)));
        Ok(weights)
    }

    fn norm(&mut self) -> Result<&[f32]> {
        if self.norm.is_none() {
            let hidden = self.config.hidden_size;
            self.norm = Some(self.checkpoint.values(FINAL_NORM, &[hidden])?);
        }
        Ok(self.norm.as_deref().expect("just read"))
    }

    fn head(&mut self, input: &[f64], variant: &Variant) -> Result<Vec<f64>> {
        let logits = self.own_head(input, variant)?;
        Ok(match variant.habit {
            Some(habit) => habit.of_logits(logits, self.config.vocab_size),
            None => logits,
        })
    }

    fn own_head(&mut self, input: &[f64], variant: &Variant) -> Result<Vec<f64>> {
        let key = match variant.head {
            Head::Zeros => {
                let tokens = input.len() / self.config.hidden_size;
                return Ok(vec![0.0; tokens * self.config.vocab_size]);
            }
            Head::Own => return Ok(head_product(self.checkpoint, input, variant.arithmetic)?),
            Head::Untied => HEAD,
            Head::Embedding => EMBEDDING,
        };
        Ok(vocabulary_product(self.checkpoint, key, input, variant.arithmetic)?)
    }
}
