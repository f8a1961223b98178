//! What a failed case points to.

use qwen3_trace::{NOT_FINITE, Verdict};

use crate::Kind;

/// What usually makes this tensor the first to differ in a case of this kind.
pub fn likely_cause(kind: Kind, first: &Verdict) -> &'static str {
    if first.note.as_deref() == Some(NOT_FINITE) {
        return "overflow, or a softmax over a row that is masked throughout";
    }
    let name = first.name.rsplit('.').next().unwrap_or(&first.name);
    match (kind, name) {
        (Kind::Prefill, _) => {
            "the edges of chunks: positions, slots of the cache, or padding; if the checkpoint's \
             decoder_layer case fails too, begin there"
        }
        (Kind::Greedy, "alone") => {
            "the cached steps: if the checkpoint's full_model case passes, how far the cache reaches"
        }
        (Kind::Greedy, "batched") => {
            "left padding: positions or the mask of rows that are shorter than the longest"
        }
        (Kind::Greedy, _) => "the edges of chunks in a left-padded batch",
        (Kind::Gradients, _) if first.name == "loss" => {
            "the forward pass (look at the full_model cases of the checkpoint), or which tokens count"
        }
        (Kind::Gradients, _) if first.name.contains("embed_tokens") => {
            "the embedding's gradient: rows of a token that occurs twice, or the head's share when tied"
        }
        (Kind::Gradients, _) => {
            "the backward pass of this parameter's operation, or of one between it and the last right one"
        }
        (Kind::ScaledDotProductAttention, "query_states" | "key_states" | "value_states") => {
            "a projection: its layout, or how its features are split into heads"
        }
        (Kind::ScaledDotProductAttention, "cached_keys" | "cached_values") => {
            "the cache: slots overwritten, or shifted against the keys that were written"
        }
        (Kind::ScaledDotProductAttention, "output_training") => {
            "dropout of attention weights: the axes of its mask, or its place before the softmax"
        }
        (Kind::ScaledDotProductAttention, name) if name.starts_with("context") => {
            "the attention product: mask, scale, softmax, which query heads read which key heads, or \
             the slots of the cache that are read"
        }
        (Kind::ScaledDotProductAttention, _) => "the output projection or the order of its features",
        (Kind::RecordRoundtrip, _) => {
            "the record and the checkpoint are read differently (dtype, layout, key)"
        }
        (Kind::RmsNorm, _) | (_, "input_layernorm" | "post_attention_layernorm") => {
            "the norm: its eps, its weight, or the order of rounding (cast back before the weight)"
        }
        (Kind::Mlp, _) | (_, "mlp") => {
            "the feed-forward block: gate and up, the activation, or the matrix product"
        }
        (_, "embedding_output") => "the embedding lookup: row blocks, token ids, or a scale",
        (_, "q_proj" | "k_proj" | "v_proj" | "value_states") => {
            "a projection: its layout, its bias, or k and v exchanged"
        }
        (_, "q_norm" | "k_norm") => {
            "the per-head norm of queries and keys: missing, over the wrong axis, or its eps"
        }
        (_, "cos" | "sin" | "rope_cos" | "rope_sin") => "the rotary tables: theta, head_dim, or positions",
        (_, "q_rope" | "k_rope" | "query_states" | "key_states") => {
            "queries or keys: their norm, the rotation (pairing of halves, theta), or positions"
        }
        (_, "context") => {
            "the attention product: mask, scale, softmax, or which query heads read which key heads"
        }
        (Kind::Attention, "output") | (_, "o_proj") => {
            "attention: mask, scale, grouping of heads, or the output projection"
        }
        (_, "final_norm_output") => "the last norm: applied twice or not at all, its weight, or its eps",
        (_, "logits") => "the head: tied or not, row blocks, or its layout",
        (_, "step_logits" | "generated_ids") => {
            "the cache: positions of cached steps, slots overwritten, or chunk edges"
        }
        _ => "inside this layer; the decoder_layer case of the same checkpoint names the operation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tensor;
    use qwen3_trace::Mode;

    #[test]
    fn the_tensor_and_the_kind_tell_the_cause() {
        let cause = |kind, name: &str, note: Option<&str>| {
            let mut verdict = tensor(Mode::Isolated, name, None).verdict;
            verdict.note = note.map(Into::into);
            likely_cause(kind, &verdict)
        };
        assert!(cause(Kind::DecoderLayer, "self_attn.q_rope", None).contains("rotation"));
        assert!(cause(Kind::Gradients, "loss", None).contains("forward pass"));
        assert!(cause(Kind::Greedy, "batched", None).contains("left padding"));
        assert!(cause(Kind::Mlp, "output", None).contains("feed-forward"));
        assert!(cause(Kind::Mlp, "output", Some(NOT_FINITE)).contains("overflow"));
        assert!(cause(Kind::FullModel, "layer_00_output", None).contains("decoder_layer case"));
    }
}
