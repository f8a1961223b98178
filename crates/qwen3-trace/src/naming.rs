//! What the tensors of other programs' files are called there.

mod given;
mod llama_cpp;
mod modules;

use qwen3_config::{Site, Tap};

pub use self::given::Names;

/// What a tensor of a file may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What passes through the model at one of these places: shape and values tell at which.
    Sites(Vec<Site>),
    /// What comes out of the last layer.
    LastLayer,
    /// Queries, keys and values of a layer, side by side along the last axis.
    PackedQkv(usize),
    /// The second of two tensors of a module, whose sum passes through the model at this place.
    Second(Site),
    /// A key that is no place in the model, as `input_ids`.
    Key(&'static str),
    /// Known, and compared with nothing: what it is.
    Uncompared(&'static str),
}

impl Meaning {
    fn outside(tap: Tap) -> Self {
        Self::Sites(vec![Site::outside(tap)])
    }

    fn inside(layer: usize, tap: Tap) -> Self {
        Self::Sites(vec![Site::inside(layer, tap)])
    }
}

/// What a tensor of this name is by the names of llama.cpp's graph or of the modules of Transformers and vLLM; `None`
/// where nobody is known to call anything so.
pub fn meaning(name: &str) -> Option<Meaning> {
    if last_part(name) == "input_ids" {
        return Some(Meaning::Key("input_ids"));
    }
    llama_cpp::meaning(name).or_else(|| modules::meaning(name))
}

/// Is it the name of a module whose tensor is another's, too, as a block's is that of its last projection?
pub fn is_alias(name: &str) -> bool {
    const ENDS: [&str; 5] = ["self_attn", "attn", "mlp.down_proj", "mlp.experts", "block_sparse_moe"];
    name.contains(".input") || ENDS.iter().any(|end| name.ends_with(end))
}

fn last_part(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that a name may stand for.
    fn keys(name: &str) -> Option<Vec<String>> {
        Some(match meaning(name)? {
            Meaning::Sites(sites) => sites.iter().map(Site::to_string).collect(),
            Meaning::LastLayer => vec!["last".into()],
            Meaning::PackedQkv(layer) => vec![format!("qkv of {layer}")],
            Meaning::Second(site) => vec![format!("added to {site}")],
            Meaning::Key(key) => vec![key.into()],
            Meaning::Uncompared(_) => Vec::new(),
        })
    }

    #[test]
    fn engines_names_are_known() {
        for (name, expected) in [
            ("l_out-3", &["layer_03_output"][..]),
            ("attn_norm-0", &["layer_00.input_layernorm"]),
            ("Qcur-12", &["layer_12.self_attn.q_proj", "layer_12.self_attn.q_rope"]),
            ("Kcur_normed-1", &["layer_01.self_attn.k_norm"]),
            ("Vcur-1", &["layer_01.self_attn.v_proj"]),
            ("ffn_moe_logits-2", &["layer_02.mlp.router_logits"]),
            ("Qcur-3 (reshaped)", &[]),
            ("kq_soft_max-3", &[]),
            ("result_norm", &["final_norm_output"]),
            ("result_output", &["logits"]),
            ("inp_embd", &["embedding_output"]),
            ("model.layers.3.mlp", &["layer_03.mlp"]),
            ("model.layers.3", &["layer_03_output"]),
            ("model.layers.3.output", &["layer_03_output"]),
            ("base_model.model.model.layers.10.self_attn.q_proj", &["layer_10.self_attn.q_proj"]),
            ("base_model.model.model.layers.10.self_attn.q_proj.base_layer", &[]),
            ("model.layers.3.self_attn", &["layer_03.self_attn.o_proj"]),
            ("model.layers.3.self_attn.attn", &["layer_03.self_attn.context"]),
            ("model.layers.3.self_attn.o_proj.input", &["layer_03.self_attn.context"]),
            ("model.layers.3.self_attn.qkv_proj", &["qkv of 3"]),
            ("model.layers.3.self_attn.rotary_emb.1", &["layer_03.self_attn.k_rope"]),
            ("model.layers.3.0", &["layer_03_output"]),
            ("model.layers.3.1", &["added to layer_03_output"]),
            ("model.layers.3.outputs.1", &["added to layer_03_output"]),
            ("model.layers.3.input_layernorm.0", &["layer_03.input_layernorm"]),
            ("model.layers.3.input_layernorm.1", &[]),
            ("model.layers.3.self_attn.qkv_proj.0", &["qkv of 3"]),
            ("model.norm.0", &["final_norm_output"]),
            ("model.norm.1", &[]),
            ("model.layers.3.mlp.gate", &["layer_03.mlp.router_logits"]),
            ("model.layers.3.mlp.gate_up_proj", &[]),
            ("model.layers.3.mlp.experts.5.down_proj", &[]),
            ("Qwen3ForCausalLM.model.norm", &["final_norm_output"]),
            ("norm", &["final_norm_output"]),
            ("model.embed_tokens", &["embedding_output"]),
            ("lm_head", &["logits"]),
            ("inputs.kwargs.input_ids", &["input_ids"]),
            ("model.layers.1.inputs.args.0", &["layer_00_output"]),
            ("model.layers.0.inputs.args.0", &["embedding_output"]),
            ("model.layers.0.self_attn.o_proj.inputs.args.0", &["layer_00.self_attn.context"]),
            ("model.layers.0.self_attn.inputs.kwargs.hidden_states", &[]),
            ("model.layers.0.inputs.kwargs.attention_mask", &[]),
            ("inputs.kwargs.cache_position", &[]),
            ("model.norm.inputs.args.0", &["last"]),
        ] {
            assert_eq!(
                keys(name).as_deref(),
                Some(&expected.iter().map(|key| (*key).into()).collect::<Vec<String>>()[..]),
                "{name}"
            );
        }
        for name in [
            "hidden",
            "model.layers.3.mlp.up_proj.weight",
            "l_out",
            "l_out-x",
            "layers.x.mlp",
            "model.layers.3.conv",
        ] {
            assert_eq!(keys(name), None, "{name}");
        }
    }
}
