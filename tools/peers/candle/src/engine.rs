//! Candle's Qwen3 with its cache.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen3::ModelForCausalLM;

use crate::Failure;
use crate::checkpoint::Checkpoint;
use crate::options::Dtype;

/// Tokens that fill the cache at once.
const CHUNK: usize = 512;

/// A loaded model with one cache, which all sequences of a batch share.
///
/// Candle's model holds its cache, which grows by copying: a clone of the model shares the weights and keeps the
/// cache as it is.
pub struct Candle {
    model: ModelForCausalLM,
    /// The model as `fill` left it.
    filled: Option<ModelForCausalLM>,
    /// Tokens of each sequence in the cache.
    length: usize,
    /// [batch, 1, vocab]
    logits: Option<Tensor>,
}

impl Candle {
    /// Maps the files and copies the weights in the dtype.
    pub fn load(checkpoint: &Checkpoint, dtype: Dtype) -> std::result::Result<Self, Failure> {
        let dtype = match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        };
        let load = || {
            // SAFETY: whoever measures a checkpoint does not write to it meanwhile.
            let weights =
                unsafe { VarBuilder::from_mmaped_safetensors(&checkpoint.files, dtype, &Device::Cpu)? };
            ModelForCausalLM::new(&checkpoint.config, weights)
        };
        let model = load().map_err(|error| Failure::Input(error.to_string()))?;
        Ok(Self { model, filled: None, length: 0, logits: None })
    }

    /// Makes the cache empty.
    pub fn clear(&mut self) {
        self.model.clear_kv_cache();
        self.filled = None;
        self.length = 0;
    }

    /// Lets the empty cache hold `length` tokens of each of `batch` sequences: candle's cache cannot be written to
    /// otherwise than by running tokens. `draw` gives random ids.
    pub fn fill(
        &mut self,
        batch: usize,
        length: usize,
        mut draw: impl FnMut(usize) -> Vec<u32>,
    ) -> Result<()> {
        while self.length < length {
            let new = CHUNK.min(length - self.length);
            let ids: Vec<_> = (0..batch).map(|_| draw(new)).collect();
            self.forward(&ids)?;
        }
        self.filled = Some(self.model.clone());
        Ok(())
    }

    /// Forgets all that came after `fill` let the cache hold `length` tokens.
    pub fn rewind(&mut self, length: usize) {
        self.model = self.filled.clone().expect("the cache was filled");
        self.length = length;
    }

    /// Runs `ids` [batch][new] behind what the cache holds, to the logits of the last token of each sequence.
    pub fn forward(&mut self, ids: &[Vec<u32>]) -> Result<()> {
        let new = ids[0].len();
        let input = Tensor::from_vec(ids.concat(), (ids.len(), new), &Device::Cpu)?;
        self.logits = Some(self.model.forward(&input, self.length)?);
        self.length += new;
        Ok(())
    }

    /// The logits of the last `forward` in f32, [batch, 1, vocab].
    pub fn logits(&self) -> Result<Tensor> {
        self.logits.as_ref().expect("something was run").to_dtype(DType::F32)
    }

    /// The most likely next id of each sequence, by the last `forward`.
    pub fn argmax(&self) -> Result<Vec<u32>> {
        let logits = self.logits.as_ref().expect("something was run");
        logits.argmax(D::Minus1)?.flatten_all()?.to_vec1()
    }
}
