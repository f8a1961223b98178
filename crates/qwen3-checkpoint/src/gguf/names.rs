//! What GGUF calls the tensors of a Qwen3. Follows llama.cpp's `gguf-py/gguf/tensor_mapping.py`.

use qwen3_config::{EMBEDDING, FINAL_NORM, HEAD, layer_key};

/// Of a layer, with `blk.{layer}.` before it in GGUF; each `.weight` or `.bias`.
const OF_LAYERS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The key in Hugging Face's checkpoints; the name itself where a dense Qwen3 has no such tensor.
pub(super) fn key_of(name: &str) -> String {
    match name {
        "token_embd.weight" => EMBEDDING.into(),
        "output_norm.weight" => FINAL_NORM.into(),
        "output.weight" => HEAD.into(),
        _ => of_layer(name).unwrap_or_else(|| name.into()),
    }
}

fn of_layer(name: &str) -> Option<String> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    // As it is written, so that two names never are one key.
    let number: usize = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    let (name, part) = rest.rsplit_once('.').filter(|(_, part)| ["weight", "bias"].contains(part))?;
    let (_, key) = OF_LAYERS.iter().find(|(known, _)| *known == name)?;
    Some(layer_key(number, &format!("{key}.{part}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys() {
        for (name, key) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output.weight", "lm_head.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("blk.11.attn_q_norm.weight", "model.layers.11.self_attn.q_norm.weight"),
            ("blk.0.attn_output.bias", "model.layers.0.self_attn.o_proj.bias"),
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
            ("blk.00.ffn_down.weight", "blk.00.ffn_down.weight"),
            ("blk.0.ffn_down_exps.weight", "blk.0.ffn_down_exps.weight"),
            ("rope_freqs.weight", "rope_freqs.weight"),
        ] {
            assert_eq!(key_of(name), key);
        }
    }
}
