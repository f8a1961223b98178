//! What the name of a tensor says: of the model's own tensors, and of those that follow from them.

use qwen3_config::Site;

/// The layer in the name of a tensor or of a gradient; `None` outside the layers.
pub fn layer_of(name: &str) -> Option<usize> {
    let of_parameter = name.strip_prefix("gradient.model.layers.");
    let digits = of_parameter.or_else(|| name.strip_prefix("layer_"))?;
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// Which axis of a tensor is the sequence, for leaving out padding; `None` where there is none.
pub fn sequence_axis(name: &str) -> Option<usize> {
    match name.rsplit('.').next().unwrap_or(name) {
        "step_logits" | "rope_cos" | "rope_sin" => None,
        "q_rope" | "k_rope" | "query_states" | "key_states" | "value_states" => Some(2),
        _ => Some(1),
    }
}

/// Is it a tensor between the outputs of two steps of the model?
pub fn is_inner(name: &str) -> bool {
    name.parse().is_ok_and(Site::is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_layer() {
        assert_eq!(layer_of("layer_03_output"), Some(3));
        assert_eq!(layer_of("layer_12.self_attn.q_proj"), Some(12));
        let gradient = "gradient.model.layers.2.mlp.up_proj.weight";
        assert_eq!(layer_of(gradient), Some(2));
        assert_eq!(layer_of("logits"), None);
    }

    #[test]
    fn the_sequence_of_every_site() {
        for site in Site::all(1) {
            let axis = Some(site.tap.sequence_axis());
            assert_eq!(sequence_axis(&site.to_string()), axis, "{site}");
        }
    }
}
