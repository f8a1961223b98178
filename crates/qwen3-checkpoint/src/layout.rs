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

/// No layer has more experts; a header may say so.
const MOST_EXPERTS: usize = 1 << 14;

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

    /// The tensors of `Qwen3ForCausalLM` that the tensor `key` of `shape` in the files is: itself, or those of a layer's
    /// experts that are stored as one. Of each its key, its shape, and the flat index of its first value.
    pub(crate) fn parts(self, key: &str, shape: &[usize]) -> Vec<(String, Vec<usize>, usize)> {
        let full = match self {
            Self::OfModel if !key.starts_with("lm_head.") => format!("{PREFIX}{key}"),
            _ => key.into(),
        };
        let fused = full.rsplit_once(".mlp.experts.");
        let parts: &[&str] = match (fused, shape) {
            (Some((_, "gate_up_proj")), &[..=MOST_EXPERTS, rows, _]) if rows % 2 == 0 => {
                &["gate_proj", "up_proj"]
            }
            (Some((_, "down_proj")), &[..=MOST_EXPERTS, _, _]) => &["down_proj"],
            _ => return vec![(full, shape.into(), 0)],
        };
        let (layer, _) = fused.expect("a layer's experts");
        let (rows, columns) = (shape[1] / parts.len(), shape[2]);
        let of = |number: usize| {
            let (expert, part) = (number / parts.len(), parts[number % parts.len()]);
            (
                format!("{layer}.mlp.experts.{expert}.{part}.weight"),
                vec![rows, columns],
                number * rows * columns,
            )
        };
        (0..shape[0] * parts.len()).map(of).collect()
    }

    /// How the files spell the `key` of `Qwen3ForCausalLM`.
    pub(crate) fn stored(self, key: &str) -> &str {
        match self {
            Self::OfCausalLm => key,
            Self::OfModel => key.strip_prefix(PREFIX).unwrap_or(key),
        }
    }
}

/// Where a tensor of the model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The key of the tensor that it is, or is part of, as the files spell it.
    pub(crate) key: String,
    /// The shape of that tensor.
    pub(crate) shape: Vec<usize>,
    /// The flat index there of its first value.
    pub(crate) start: usize,
}

impl Place {
    /// Where the matrix `key` of `shape` is among `count` experts stored as one tensor, if it is one of theirs:
    /// `experts.gate_up_proj` `[count, 2 * moe_intermediate_size, hidden_size]`, of each the rows of `gate_proj` and
    /// then those of `up_proj`, and `experts.down_proj` `[count, hidden_size, moe_intermediate_size]`.
    ///
    /// Follows Transformers 5 `Qwen3MoeExperts`.
    pub(crate) fn fused(key: &str, shape: &[usize], count: usize) -> Option<Self> {
        let (layer, rest) = key.split_once(".mlp.experts.")?;
        let (expert, name) = rest.strip_suffix(".weight")?.split_once('.')?;
        let expert: usize = expert.parse().ok().filter(|expert| *expert < count)?;
        let &[rows, columns] = shape else { return None };
        let (name, parts, part) = match name {
            "gate_proj" => ("gate_up_proj", 2, 0),
            "up_proj" => ("gate_up_proj", 2, 1),
            "down_proj" => ("down_proj", 1, 0),
            _ => return None,
        };
        Some(Self {
            key: format!("{layer}.mlp.experts.{name}"),
            shape: vec![count, parts * rows, columns],
            // Beyond what any file holds it does not matter, for the shape is compared.
            start: (expert * parts + part).saturating_mul(rows.saturating_mul(columns)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_found_in_one_tensor() {
        let of = |name: &str, shape: [usize; 2]| {
            let key = format!("model.layers.1.mlp.experts.2.{name}.weight");
            Place::fused(&key, &shape, 4).map(|place| (place.key, place.shape, place.start))
        };
        let fused = |name: &str| format!("model.layers.1.mlp.experts.{name}");
        assert_eq!(of("gate_proj", [3, 5]), Some((fused("gate_up_proj"), vec![4, 6, 5], 60)));
        assert_eq!(of("up_proj", [3, 5]), Some((fused("gate_up_proj"), vec![4, 6, 5], 75)));
        assert_eq!(of("down_proj", [5, 3]), Some((fused("down_proj"), vec![4, 5, 3], 30)));
        assert_eq!(of("o_proj", [5, 3]), None);
        assert_eq!(Place::fused("model.layers.1.mlp.experts.4.up_proj.weight", &[3, 5], 4), None);
        assert_eq!(Place::fused("model.layers.1.mlp.up_proj.weight", &[3, 5], 4), None);
    }

    #[test]
    fn one_tensor_is_its_experts() {
        let parts = KeyLayout::OfModel.parts("layers.1.mlp.experts.gate_up_proj", &[4, 6, 5]);
        assert_eq!(parts.len(), 8);
        for (key, shape, start) in parts {
            assert_eq!(Place::fused(&key, &shape, 4).map(|place| place.start), Some(start));
        }
        let alone = KeyLayout::OfCausalLm.parts("model.norm.weight", &[5]);
        assert_eq!(alone, [("model.norm.weight".to_string(), vec![5], 0)]);
        assert_eq!(KeyLayout::OfModel.parts("norm.weight", &[5]), alone);
    }

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
