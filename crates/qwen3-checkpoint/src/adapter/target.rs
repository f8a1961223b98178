//! Which linear maps have adapters.

use qwen3_config::{Qwen3Config, layer_key};
use regex::{Regex, RegexBuilder};

/// The largest program that a pattern may compile to, in bytes.
const PATTERN_BYTES: usize = 1 << 20;

/// A linear map of a decoder layer that an adapter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// What comes out of attention.
    OProj,
    /// The feed-forward block's gate.
    GateProj,
    /// What the gate lets through.
    UpProj,
    /// What comes out of the feed-forward block.
    DownProj,
}

impl Target {
    /// All, in the order of computation.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// Its path below a decoder layer, as in the checkpoint's keys.
    pub fn path(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }

    /// The last part of its [`path`](Self::path), by which PEFT's `target_modules` name it.
    pub fn name(self) -> &'static str {
        let path = self.path();
        path.rsplit_once('.').map_or(path, |(_, name)| name)
    }

    /// Its path in the model, as PEFT compares it with `target_modules`.
    pub(crate) fn module(self, layer: usize) -> String {
        layer_key(layer, self.path())
    }

    /// `[out, in]` of its weight in layer `layer`; `None` where the model has no such map.
    pub fn shape(self, config: &Qwen3Config, layer: usize) -> Option<[usize; 2]> {
        let key = layer_key(layer, &format!("{}.weight", self.path()));
        let weight = config.layer_weights(layer).into_iter().find(|weight| weight.key == key)?;
        weight.shape.try_into().ok()
    }
}

/// What `target_modules` says.
#[derive(Clone, Debug)]
pub enum TargetModules {
    /// Names: a module is meant when its path is one, or ends with one behind a dot.
    Names(Vec<String>),
    /// A regular expression that the whole path of a module matches.
    Pattern(Regex),
    /// Every linear map but the head.
    AllLinear,
}

impl TargetModules {
    /// A regular expression as PEFT takes it: the whole path has to match.
    ///
    /// # Errors
    /// When it is none, or one that takes more than time in proportion to the path, which is not read (look-around,
    /// references back).
    pub fn pattern(text: &str) -> Result<Self, regex::Error> {
        // By itself first: half a group must not become whole by what is put around it.
        let limited = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
        limited(text)?;
        Ok(Self::Pattern(limited(&format!(r"\A(?:{text})\z"))?))
    }

    /// The seven linear maps with these names.
    pub fn of(targets: &[Target]) -> Self {
        Self::Names(targets.iter().map(|target| target.name().into()).collect())
    }

    /// Is the map `target` of layer `layer` meant? Follows PEFT `check_target_module_exists`.
    pub fn contains(&self, layer: usize, target: Target) -> bool {
        let module = target.module(layer);
        match self {
            Self::Names(names) => names.iter().any(|name| is_name_of(name, &module)),
            Self::Pattern(pattern) => pattern.is_match(&module),
            Self::AllLinear => true,
        }
    }
}

/// Does `module` have this name, or end with it behind a dot?
pub(crate) fn is_name_of(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_parts_of_paths() {
        let names = |name: &str| TargetModules::Names(vec![name.into()]);
        for (name, meant) in [
            ("q_proj", true),
            ("self_attn.q_proj", true),
            ("model.layers.3.self_attn.q_proj", true),
            ("model.layers.1.self_attn.q_proj", false),
            ("proj", false),
            ("k_proj", false),
            ("", false),
        ] {
            assert_eq!(names(name).contains(3, Target::QProj), meant, "{name}");
        }
        assert!(TargetModules::AllLinear.contains(0, Target::DownProj));
        assert!(!TargetModules::of(&[Target::UpProj]).contains(0, Target::GateProj));
    }

    #[test]
    fn patterns_match_whole_paths() {
        let pattern = |text| TargetModules::pattern(text).unwrap();
        assert!(pattern(r".*\.(q|v)_proj").contains(12, Target::VProj));
        assert!(!pattern(r"(q|v)_proj").contains(12, Target::VProj));
        assert!(!pattern(r".*\.(q|v)_pro").contains(12, Target::VProj));
        assert!(!pattern(r"model.layers.1.*|x").contains(2, Target::VProj));
        for bad in ["(", "a)|(b", "(?=q)", r"(a)\1", r"(?:\w{1000}){1000}"] {
            assert!(TargetModules::pattern(bad).is_err(), "{bad}");
        }
    }
}
