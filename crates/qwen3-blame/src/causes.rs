//! The names of all causes.

/// The id of every cause that may be named. `docs/verify.md` has an entry for each, under its id.
pub const CAUSES: [&str; 91] = [
    "rope_interleaved",
    "rope_theta",
    "rope_position_offset",
    "rope_missing",
    "yarn_missing",
    "yarn_attention_factor_missing",
    "yarn_ramp",
    "q_norm_missing",
    "k_norm_missing",
    "qk_norm_after_rope",
    "qk_norm_over_hidden",
    "kv_swapped",
    "k_transposed",
    "v_transposed",
    "gate_up_swapped",
    "router_not_renormalised",
    "router_renormalised",
    "router_softmax_after_topk",
    "experts_permuted",
    "expert_gate_up_swapped",
    "top_k_off",
    "activation_gelu",
    "eps",
    "rms_weight_offset_one",
    "gqa_interleaved_groups",
    "attention_scale_missing",
    "attention_scale_hidden",
    "causal_mask_missing",
    "causal_mask_off_by_one",
    "cached_mask_off_by_one",
    "window_missing",
    "window_off_by_one",
    "window_in_wrong_layers",
    "residual_missing_attention",
    "residual_missing_mlp",
    "post_norm_is_input_norm",
    "final_norm_missing",
    "final_norm_twice",
    "head_untied",
    "head_tied",
    "embedding_scaled",
    "dtype_rounding",
    "layer_permuted",
    "adapter_missing",
    "adapter_not_scaled",
    "adapter_rslora",
    "adapter_transposed",
    "non_finite",
    "arithmetic_bf16",
    "arithmetic_f16",
    "kv_cache_f16",
    "kv_cache_bf16",
    "kv_cache_q8_0",
    "softmax_half",
    "rope_half",
    "activations_q8_0",
    "activations_q8_k",
    "weights_q8_0",
    "weights_q4_0",
    "weights_f16",
    "residual_half",
    "cache_slot_off_by_one",
    "cache_not_written",
    "cache_overwritten",
    "cache_of_other_sequence",
    "position_restarts",
    "position_counts_padding",
    "padding_visible",
    "chunk_mask",
    "keys_cached_before_rope",
    "keys_rotated_twice",
    "rope_sign",
    "rope_partial",
    "softmax_not_normalised",
    "attention_sink",
    "attention_softcap",
    "attention_scale_twice",
    "layer_norm",
    "silu_on_product",
    "bias_missing",
    "head_zeroed",
    "heads_exchanged",
    "expert_zeroed",
    "logits_softcap",
    "vocabulary_shifted",
    "taps_shifted",
    "norm_missing",
    "norm_behind_sublayer",
    "norm_behind_residual",
    "residual_of_normed",
    "parallel_mlp",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use qwen3_checkpoint::Checkpoint;
    use qwen3_config::Rows;

    use super::CAUSES;
    use crate::cache::{of_full_caches, of_steps};
    use crate::catalogue::{at_the_end, chunks, in_layers, key_offsets, of_adapter};
    use crate::habits::of_parts;
    use crate::hypothesis::{Fit, Hypothesis};
    use crate::precision::of_formats;
    use crate::variant::Variant;

    /// Whatever is tried in any of the checkpoints has its name here, and nothing has two.
    #[test]
    fn every_mistake_is_listed_once() {
        let listed: BTreeSet<&str> = CAUSES.into_iter().collect();
        assert_eq!(listed.len(), CAUSES.len());
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let rows = Rows::of_mask(vec![vec![true; 6], vec![false, true, true, true, true, true]]);
        let mut tried: Vec<Hypothesis> = Vec::new();
        for folder in fs::read_dir(fixtures.join("checkpoints")).unwrap() {
            let Ok(checkpoint) = Checkpoint::open(folder.unwrap().path()) else {
                continue;
            };
            let config = checkpoint.config();
            tried.extend(in_layers(config, 128));
            tried.extend(at_the_end(config, true));
            tried.extend(key_offsets(128));
            tried.extend(of_formats(config.sparse.is_some()));
            tried.extend(of_steps(&rows, 4));
            tried.extend(of_full_caches(&rows, 4));
            tried.extend(of_parts(config));
            tried.push(chunks(4));
            tried.extend(Fit::ALL.map(|fit| fit.hypothesis(1e-3, &Variant::right(config))));
        }
        let checkpoint = Checkpoint::open(fixtures.join("checkpoints/yarn")).unwrap();
        let checkpoint = checkpoint.with_adapter(fixtures.join("adapters/yarn-rslora")).unwrap();
        let adapter = checkpoint.adapter().expect("it was just given");
        tried.extend(of_adapter(adapter, checkpoint.config()));
        let tried: BTreeSet<&str> = tried.iter().map(|hypothesis| hypothesis.id).collect();
        assert_eq!(tried.difference(&listed).collect::<Vec<_>>(), [&""; 0]);
        // The others need no recomputing, or depend on the layer.
        let others = ["dtype_rounding", "embedding_scaled", "layer_permuted", "non_finite", "taps_shifted"];
        assert_eq!(listed.difference(&tried).copied().collect::<Vec<_>>(), others);
    }
}
