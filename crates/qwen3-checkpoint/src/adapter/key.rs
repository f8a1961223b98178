//! The keys of an adapter's tensors.

use qwen3_config::layer_key;

use super::Target;

/// What PEFT puts before the model's own keys.
const WRAPPER: &str = "base_model.model.";
/// What an older PEFT puts behind `lora_A` and `lora_B`: the adapter's name.
const DEFAULT: &str = ".default";

/// One of the two factors of a change of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// `lora_A`, `[r, in]`, which is applied first.
    A,
    /// `lora_B`, `[out, r]`.
    B,
}

impl Half {
    fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        }
    }
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdapterKey {
    pub(crate) layer: usize,
    pub(crate) target: Target,
    pub(crate) half: Half,
}

impl AdapterKey {
    /// Reads a key of PEFT's, of an adapter on `Qwen3ForCausalLM` or on `Qwen3Model` alone.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(WRAPPER)?.strip_suffix(".weight")?;
        let rest = rest.strip_suffix(DEFAULT).unwrap_or(rest);
        let (module, half) = rest.rsplit_once('.')?;
        let half = [Half::A, Half::B].into_iter().find(|it| it.name() == half)?;
        let module = module.strip_prefix("model.").unwrap_or(module);
        let (layer, path) = module.strip_prefix("layers.")?.split_once('.')?;
        let target = Target::ALL.into_iter().find(|target| target.path() == path)?;
        // As it is written there, and nothing else that parses to it.
        let number: usize = layer.parse().ok()?;
        (number.to_string() == layer).then_some(Self { layer: number, target, half })
    }

    /// As PEFT spells it today, on `Qwen3ForCausalLM`.
    pub(crate) fn spelled(self) -> String {
        let module = layer_key(self.layer, self.target.path());
        format!("{WRAPPER}{module}.{}.weight", self.half.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let found = AdapterKey { layer: 10, target: Target::UpProj, half: Half::B };
        let now = "base_model.model.model.layers.10.mlp.up_proj.lora_B.weight";
        assert_eq!(found.spelled(), now);
        for key in [
            now,
            "base_model.model.model.layers.10.mlp.up_proj.lora_B.default.weight",
            "base_model.model.layers.10.mlp.up_proj.lora_B.weight",
        ] {
            assert_eq!(AdapterKey::parse(key), Some(found), "{key}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for key in [
            "model.layers.1.mlp.up_proj.lora_B.weight",
            "base_model.model.model.layers.01.mlp.up_proj.lora_B.weight",
            "base_model.model.model.layers.+1.mlp.up_proj.lora_B.weight",
            "base_model.model.model.layers.1.mlp.up_proj.lora_B.other.weight",
            "base_model.model.model.layers.1.mlp.up_proj.lora_B.bias",
            "base_model.model.model.layers.1.mlp.up_proj.lora_magnitude_vector",
            "base_model.model.model.layers.1.self_attn.up_proj.lora_A.weight",
            "base_model.model.model.layers.1.self_attn.q_norm.lora_A.weight",
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.lm_head.lora_A.weight",
            "",
        ] {
            assert_eq!(AdapterKey::parse(key), None, "{key}");
        }
    }
}
