use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use qwen3_config::{EMBEDDING, HEAD};

use crate::linear::joined;
use crate::{Kernel, Qwen3Config, WeightSource};

/// The largest block of a [`VocabMatrix`] in bytes, counted in f32 whatever the dtype so that a
/// model has the same blocks in every precision: 128 MiB, the smallest binding limit of a wgpu
/// adapter we know (Mesa's software Vulkan).
pub const MAX_BLOCK_BYTES: usize = 128 << 20;

/// A matrix with one row per token of the vocabulary, held as blocks of consecutive rows.
///
/// Serves as the token embedding and as the output head. GPU backends bind buffers of limited size;
/// Qwen3-0.6B's `[151936, 1024]` is 622 MB in f32, so it is five blocks here.
#[derive(Module, Debug)]
pub struct VocabMatrix {
    /// `[rows of the block, hidden_size]` each, in order; all but the last have the same number of rows.
    pub weight: Vec<Param<Tensor<2>>>,
    /// How logits are computed.
    #[module(skip)]
    pub kernel: Kernel,
}

impl VocabMatrix {
    /// Takes the matrix `key` of shape `[vocab_size, hidden_size]`, block by block.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(source: &mut S, key: &str, shape: [usize; 2]) -> Result<Self, S::Error> {
        Self::build_blocks(source, key, shape, Self::rows_per_block(shape[1]))
    }

    /// The token embedding of a model of `config`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn embedding<S: WeightSource>(source: &mut S, config: &Qwen3Config) -> Result<Self, S::Error> {
        Self::build(source, EMBEDDING, [config.vocab_size, config.hidden_size])
    }

    /// The head of a model of `config`; none where the embedding serves as the head.
    ///
    /// # Errors
    /// Those of the source.
    pub fn head<S: WeightSource>(source: &mut S, config: &Qwen3Config) -> Result<Option<Self>, S::Error> {
        let shape = [config.vocab_size, config.hidden_size];
        let untied = !config.tie_word_embeddings;
        untied.then(|| Self::build(source, HEAD, shape)).transpose()
    }

    /// The same matrix on `device`, in tensors of its own.
    pub fn copied_to(&self, device: &Device) -> Self {
        let block = |block: &Param<Tensor<2>>| Param::from_tensor(block.val().to_device(device));
        Self { weight: self.weight.iter().map(block).collect(), kernel: self.kernel }
    }

    /// How many rows of `hidden_size` values a block has, the last one apart.
    pub fn rows_per_block(hidden_size: usize) -> usize {
        (MAX_BLOCK_BYTES / hidden_size.saturating_mul(4)).max(1)
    }

    fn build_blocks<S: WeightSource>(
        source: &mut S,
        key: &str,
        [vocab, hidden]: [usize; 2],
        rows: usize,
    ) -> Result<Self, S::Error> {
        let weight = (0..vocab)
            .step_by(rows)
            .map(|start| source.rows(key, [vocab, hidden], start..vocab.min(start + rows)))
            .map(|block| block.map(Param::from_tensor))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { weight, kernel: source.kernel() })
    }

    /// The rows of the tokens `ids` `[batch, seq]`: `[batch, seq, hidden_size]`.
    ///
    /// Every id must be below the vocabulary size; [`Session`](crate::Session) checks it.
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = ids.dims();
        let ids = ids.reshape([batch * seq]); // [batch * seq]
        let mut start = 0;
        let mut rows: Option<Tensor<2>> = None;
        for block in &self.weight {
            let block = block.val();
            let [block_rows, hidden] = block.dims();
            let local = ids.clone().sub_scalar(start as i64);
            rows = Some(match rows {
                None if self.weight.len() == 1 => block.select(0, local),
                None => block.select(0, local.clamp(0, block_rows as i64 - 1)),
                Some(rows) => {
                    // Ids of earlier blocks are negative here; those of later blocks are
                    // overwritten when their own block comes.
                    let reached = local.clone().greater_equal_elem(0);
                    let reached = reached.unsqueeze_dim::<2>(1).expand([batch * seq, hidden]);
                    let found = block.select(0, local.clamp(0, block_rows as i64 - 1));
                    rows.mask_where(reached, found)
                }
            });
            start += block_rows;
        }
        let rows = rows.expect("a vocabulary has at least one block"); // [batch * seq, hidden_size]
        let hidden = rows.dims()[1];
        rows.reshape([batch, seq, hidden]) // [batch, seq, hidden_size]
    }

    /// The product of `x` `[tokens, hidden_size]` with every row: logits `[tokens, vocab_size]`.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        joined(x, self.weight.iter().map(|block| block.val()).collect(), self.kernel) // [tokens, vocab_size]
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::RandomWeights;
    use burn::tensor::DType;

    /// One block and many blocks give the same rows and the same logits.
    #[test]
    fn blocks_do_not_change_anything() {
        let device = Device::flex();
        let build = |rows| {
            let mut source = RandomWeights::new(3, &device, DType::F32);
            VocabMatrix::build_blocks(&mut source, "e", [23, 8], rows).unwrap()
        };
        let (one, many) = (build(23), build(5));
        assert_eq!((one.weight.len(), many.weight.len()), (1, 5));
        let ids = Tensor::<2, Int>::from_ints([[0, 4, 5, 9], [10, 22, 19, 20]], &device);
        let rows = one.embed(ids.clone());
        assert_eq!(rows.to_data(), many.embed(ids).to_data());
        let x = rows.reshape([8, 8]);
        assert_eq!(one.logits(x.clone()).to_data(), many.logits(x).to_data());
    }
}
