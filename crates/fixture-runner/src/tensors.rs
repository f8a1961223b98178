//! The tensors of a model: their names, in files and in reports, and their shapes.

use qwen3_model::Qwen3Config;

/// The names of the taps inside a layer before its output, in the order of computation.
pub const TAPS: [&str; 12] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.q_rope",
    "self_attn.k_rope",
    "self_attn.context",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp",
];

/// The key of tap `tap` of layer `layer`.
pub fn tap_key(layer: usize, tap: &str) -> String {
    format!("layer_{layer:02}.{tap}")
}

/// The key of what `steps` steps after the embedding give in a model of `layers` layers: the layers' outputs,
/// then the final norm's and the head's.
pub fn output_key(steps: usize, layers: usize) -> String {
    match steps {
        0 => "embedding_output".into(),
        _ if steps <= layers => format!("layer_{:02}_output", steps - 1),
        _ if steps == layers + 1 => "final_norm_output".into(),
        _ => "logits".into(),
    }
}

/// Every key of a model with `layers` layers, in the order of computation.
pub fn keys(layers: usize) -> impl Iterator<Item = String> {
    (0..=layers + 2).flat_map(move |step| {
        let taps = TAPS.iter().filter(move |_| (1..=layers).contains(&step));
        let taps = taps.map(move |tap| tap_key(step - 1, tap));
        taps.chain([output_key(step, layers)])
    })
}

/// The layer in a key; `None` outside the layers.
pub fn layer_of(key: &str) -> Option<usize> {
    let of_parameter = key.strip_prefix("gradient.model.layers.");
    let digits = of_parameter.or_else(|| key.strip_prefix("layer_"))?;
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// The shape of a tensor by its key.
pub fn shape(key: &str, config: &Qwen3Config, batch: usize, seq: usize) -> Vec<usize> {
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let head_dim = config.head_dim;
    match key.split_once('.').map_or(key, |(_, tap)| tap) {
        "self_attn.q_proj" | "self_attn.context" => vec![batch, seq, heads * head_dim],
        "self_attn.k_proj" | "self_attn.v_proj" => vec![batch, seq, kv_heads * head_dim],
        "self_attn.q_norm" => vec![batch, seq, heads, head_dim],
        "self_attn.k_norm" => vec![batch, seq, kv_heads, head_dim],
        "self_attn.q_rope" => vec![batch, heads, seq, head_dim],
        "self_attn.k_rope" => vec![batch, kv_heads, seq, head_dim],
        "logits" => vec![batch, seq, config.vocab_size],
        _ => vec![batch, seq, config.hidden_size],
    }
}

/// Which axis of a tensor is the sequence, for leaving out padding.
pub fn sequence_axis(name: &str) -> Option<usize> {
    match name.rsplit('.').next().unwrap_or(name) {
        "step_logits" | "rope_cos" | "rope_sin" => None,
        "q_rope" | "k_rope" | "query_states" | "key_states" | "value_states" => Some(2),
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_computation() {
        let keys: Vec<_> = keys(2).collect();
        assert_eq!(keys.len(), 1 + 2 * 13 + 2);
        assert_eq!(keys[..2], ["embedding_output", "layer_00.input_layernorm"]);
        assert_eq!(
            keys[13..15],
            ["layer_00_output", "layer_01.input_layernorm"]
        );
        assert_eq!(
            keys[26..],
            ["layer_01_output", "final_norm_output", "logits"]
        );
    }

    #[test]
    fn a_key_tells_its_layer() {
        assert_eq!(layer_of("layer_03_output"), Some(3));
        assert_eq!(layer_of("layer_12.self_attn.q_proj"), Some(12));
        let gradient = "gradient.model.layers.2.mlp.up_proj.weight";
        assert_eq!(layer_of(gradient), Some(2));
        assert_eq!(layer_of("logits"), None);
    }
}
