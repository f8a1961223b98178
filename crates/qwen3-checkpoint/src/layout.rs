//! How the keys of a checkpoint begin.

use qwen3_config::EMBEDDING;

/// What the keys of the decoder begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLayout {
    /// `model.`, as `Qwen3ForCausalLM` is saved.
    OfCausalLm,
    /// Nothing, as `Qwen3Model` is saved: the embedding checkpoints.
    OfModel,
}

/// Keys of a model that was saved inside another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrapped {
    /// The embedding's key.
    pub(crate) key: String,
    /// What stands before the model's own.
    pub(crate) prefix: String,
    /// What puts it there, and what helps.
    pub(crate) by: &'static str,
}

/// What the keys of the decoder begin with in Transformers.
const PREFIX: &str = "model.";

/// What wrappers put before every key.
const WRAPPERS: [(&str, &str); 7] = [
    (
        "base_model.model.",
        "a PEFT model is saved: merge its adapter (`merge_and_unload`) and save the model alone",
    ),
    ("_orig_mod.", "a model compiled by `torch.compile` is saved: save `model._orig_mod`"),
    ("module.", "a model inside `DataParallel` is saved: save `model.module`"),
    ("_fsdp_wrapped_module.", "a model inside FSDP is saved: gather its full state first"),
    ("auto_model.", "a sentence-transformers module is saved: save its `auto_model`"),
    ("model.language_model.", "the language model of one that sees is saved: this is another architecture"),
    ("language_model.", "the language model of one that sees is saved: this is another architecture"),
];

impl KeyLayout {
    /// That of a checkpoint with these `keys`; the first when the embedding is in neither place.
    pub(crate) fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Result<Self, Wrapped> {
        let bare = EMBEDDING.strip_prefix(PREFIX).expect("a key of the decoder");
        let (mut own, mut wrapped) = (None, None);
        for key in keys {
            if key == EMBEDDING {
                return Ok(Self::OfCausalLm);
            }
            let Some(prefix) = key.strip_suffix(bare) else { continue };
            if prefix.is_empty() {
                own = Some(Self::OfModel);
            } else if let Some((name, by)) = WRAPPERS.iter().find(|(name, _)| prefix.starts_with(name)) {
                wrapped = Some(Wrapped { key: key.into(), prefix: (*name).into(), by });
            }
        }
        match (own, wrapped) {
            (None, Some(wrapped)) => Err(wrapped),
            (own, _) => Ok(own.unwrap_or(Self::OfCausalLm)),
        }
    }

    /// How the files spell the `key` of `Qwen3ForCausalLM`.
    pub(crate) fn stored(self, key: &str) -> &str {
        match self {
            Self::OfCausalLm => key,
            Self::OfModel => key.strip_prefix(PREFIX).unwrap_or(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_and_without_the_prefix() {
        let of = |keys: &[&str]| KeyLayout::of(keys.iter().copied());
        assert_eq!(of(&["model.embed_tokens.weight", "embed_tokens.weight"]), Ok(KeyLayout::OfCausalLm));
        assert_eq!(of(&["norm.weight"]), Ok(KeyLayout::OfCausalLm));
        let bare = of(&["lm_head.weight", "embed_tokens.weight"]).unwrap();
        assert_eq!(bare.stored("model.layers.0.mlp.up_proj.weight"), "layers.0.mlp.up_proj.weight");
        assert_eq!(bare.stored("lm_head.weight"), "lm_head.weight");
        assert_eq!(KeyLayout::OfCausalLm.stored(EMBEDDING), EMBEDDING);
    }

    #[test]
    fn a_wrapper_is_named() {
        for prefix in WRAPPERS.map(|(prefix, _)| prefix) {
            let key = format!("{prefix}{EMBEDDING}");
            let wrapped = KeyLayout::of([key.as_str()].into_iter()).unwrap_err();
            assert_eq!((wrapped.key, wrapped.prefix.as_str()), (key, prefix));
        }
    }
}
