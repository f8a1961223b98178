//! How many values and bytes a model takes.

use crate::{FeedForwardKind, Fp8Blocks, Precision, Qwen3Config};

/// The blocks of official FP8 checkpoints.
pub const OFFICIAL_FP8: Fp8Blocks = Fp8Blocks { rows: 128, columns: 128 };

impl Qwen3Config {
    /// Values of the embedding, and of an untied head: `vocab_size * hidden_size`.
    pub fn vocabulary_parameters(&self) -> usize {
        self.vocab_size.saturating_mul(self.hidden_size)
    }

    /// Parameters without the embedding and an untied head, as model cards tell them; `usize::MAX` when there are more.
    pub fn non_embedding_parameters(&self) -> usize {
        let matrices = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_parameters().saturating_sub(self.vocabulary_parameters().saturating_mul(matrices))
    }

    /// Keys and values of a token in the cache of one layer: `2 * num_key_value_heads * head_dim`.
    pub fn cache_values(&self) -> usize {
        [2, self.num_key_value_heads, self.head_dim].into_iter().fold(1, usize::saturating_mul)
    }

    /// Bytes that a token adds to the caches of all layers in `dtype`, as long as no window is full.
    pub fn cache_bytes_per_token(&self, dtype: Precision) -> usize {
        self.cache_values().saturating_mul(dtype.bytes()).saturating_mul(self.num_hidden_layers)
    }

    /// Bytes of the cache of layer `layer` in `dtype`, for `tokens` tokens of one sequence that are written at most
    /// `chunk` at a time.
    pub fn layer_cache_bytes(&self, layer: usize, tokens: usize, chunk: usize, dtype: Precision) -> usize {
        let slots = self.layer(layer).reach.slots(tokens, chunk);
        slots.saturating_mul(self.cache_values()).saturating_mul(dtype.bytes())
    }

    /// Bytes of the weights in `dtype`.
    pub fn weight_bytes(&self, dtype: Precision) -> usize {
        self.num_parameters().saturating_mul(dtype.bytes())
    }

    /// Bytes of an FP8 checkpoint as official ones are made: every projection of a layer in one byte a value with a
    /// bf16 scale for each of `blocks`; embedding, head and norms in bf16.
    pub fn fp8_bytes(&self, blocks: Fp8Blocks) -> usize {
        let plain = Precision::BF16.bytes();
        let saved = |layer: usize| {
            let projections = self.layer_weights(layer).filter(|weight| weight.is_projection());
            let saved = projections.map(|weight| {
                let scales = weight.shape[0].div_ceil(blocks.rows) * weight.shape[1].div_ceil(blocks.columns);
                let values = usize::try_from(weight.values()).unwrap_or(usize::MAX);
                values.saturating_mul(plain - 1).saturating_sub(scales.saturating_mul(plain))
            });
            saved.fold(0, usize::saturating_add)
        };
        // Layers of one kind are alike; a config may ask for more than can be listed.
        let mut known: Option<(FeedForwardKind, usize)> = None;
        let layers = (0..self.num_hidden_layers).map(|layer| {
            let kind = self.layer(layer).feed_forward;
            let saved =
                known.filter(|(known, _)| *known == kind).map_or_else(|| saved(layer), |(_, saved)| saved);
            known = Some((kind, saved));
            saved
        });
        let saved = layers.fold(0, usize::saturating_add);
        self.weight_bytes(Precision::BF16).saturating_sub(saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Windows;

    #[test]
    fn parts_add_up_to_the_whole() {
        for config in [
            Qwen3Config::tiny(),
            Qwen3Config::tiny_mha(),
            Qwen3Config::tiny_biased(),
            Qwen3Config::tiny_experts(),
            Qwen3Config::tiny_experts_mixed(),
        ] {
            let layers: usize =
                (0..config.num_hidden_layers).map(|layer| config.layer_parameters(layer)).sum();
            assert_eq!(config.non_embedding_parameters(), layers + config.hidden_size);
            let listed: usize = config.weights().map(|weight| weight.shape.iter().product::<usize>()).sum();
            assert_eq!(config.num_parameters(), listed);
        }
    }

    #[test]
    fn a_window_bounds_the_cache_of_its_layers() {
        let windows = Windows::From { layer: 1, window: 5 };
        let config = Qwen3Config { windows, ..Qwen3Config::tiny() };
        let token = 2 * 2 * 16 * 2;
        let bytes = |layer| config.layer_cache_bytes(layer, 100, 8, Precision::BF16);
        assert_eq!([bytes(0), bytes(1)], [100 * token, 12 * token]);
        assert_eq!(config.cache_bytes_per_token(Precision::F32), 3 * 2 * token);
    }

    /// Two bytes become one, and each block has a scale of two; a block that is cut off at an edge has one, too.
    #[test]
    fn eight_bits_save_a_byte_of_each_projection() {
        let config = Qwen3Config::tiny();
        let blocks = Fp8Blocks { rows: 60, columns: 64 };
        let layer: usize = [(128, 64), (32, 64), (32, 64), (64, 128), (96, 64), (96, 64), (64, 96)]
            .into_iter()
            .map(|(rows, columns): (usize, usize)| {
                rows * columns - 2 * rows.div_ceil(60) * columns.div_ceil(64)
            })
            .sum();
        assert_eq!(config.fp8_bytes(blocks), 2 * config.num_parameters() - 3 * layer);
    }
}
