//! The backends a command line can name, and the cargo features the runner is built with for them.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;

/// A backend as `--backend` names it. The order is the one that reports use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Backend {
    /// Burn's ndarray backend: pure Rust, f32 only.
    Ndarray,
    /// Burn's flex backend: pure Rust, f32, f16 and bf16.
    Flex,
    /// WebGPU: any GPU, or a software Vulkan driver.
    Wgpu,
    /// libtorch on the CPU.
    Tch,
    /// An NVIDIA GPU; not part of `all`.
    Cuda,
    /// ndarray, flex, wgpu and tch, as far as this machine has them.
    All,
}

/// The backends that `all` stands for.
pub const ALL: [Backend; 4] = [Backend::Ndarray, Backend::Flex, Backend::Wgpu, Backend::Tch];

impl Backend {
    /// The name: the cargo feature of the runner and the word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Tch => "tch",
            Self::Cuda => "cuda",
            Self::All => "all",
        }
    }

    /// Minutes that a first build takes on two cores because of this backend.
    fn first_build_minutes(self) -> u32 {
        match self {
            Self::Ndarray | Self::Tch => 3,
            Self::Flex => 5,
            Self::Wgpu | Self::Cuda => 11,
            Self::All => 0,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of real backends (never `All`): what is asked for, or what a build contains.
pub type Backends = BTreeSet<Backend>;

/// The backends that the words of a command line stand for.
pub fn expand(words: &[Backend]) -> Backends {
    words
        .iter()
        .flat_map(|&word| match word {
            Backend::All => ALL.to_vec(),
            one => vec![one],
        })
        .collect()
}

/// `ndarray,flex`: the form of `--backend` and of the file that remembers a build.
pub fn join(backends: impl IntoIterator<Item = Backend>) -> String {
    backends
        .into_iter()
        .map(Backend::name)
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads back what [`join`] wrote. Unknown words are dropped: an older or newer xtask wrote them.
pub fn parse_remembered(text: &str) -> Backends {
    text.trim()
        .split(',')
        .filter_map(|word| Backend::from_str(word, false).ok())
        .filter(|&backend| backend != Backend::All)
        .collect()
}

/// The backends to build with: those asked for and those built last, so that asking for fewer
/// rebuilds nothing; tch only where libtorch is.
pub fn to_build(asked: &Backends, remembered: &Backends, libtorch: bool) -> Backends {
    let mut union: Backends = asked | remembered;
    if !libtorch {
        union.remove(&Backend::Tch);
    }
    if union.is_empty() {
        union.insert(Backend::Ndarray);
    }
    union
}

/// A part of wgpu and cuda that a build can have or not, to see whether a wrong result goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Operations fused into one kernel.
    Fusion,
    /// Kernels chosen by trying them out.
    Autotune,
}

impl Switch {
    /// The runner's cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fusion => "fusion",
            Self::Autotune => "autotune",
        }
    }
}

/// What wgpu and cuda are built with unless told otherwise. Autotune tries dozens of kernels for every
/// new shape: minutes on a software GPU, for cases that take seconds.
const USUAL: [Switch; 1] = [Switch::Fusion];

/// The usual switches and those `with`, but for those `without`.
pub fn switches(with: &[Switch], without: &[Switch]) -> Vec<Switch> {
    let all = [Switch::Fusion, Switch::Autotune].into_iter();
    let on = |switch: &Switch| {
        (USUAL.contains(switch) || with.contains(switch)) && !without.contains(switch)
    };
    all.filter(on).collect()
}

/// The runner's cargo features for these backends with these switches.
pub fn features(backends: &Backends, switches: &[Switch]) -> Vec<&'static str> {
    let mut features: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    if backends.contains(&Backend::Wgpu) || backends.contains(&Backend::Cuda) {
        features.extend(switches.iter().map(|switch| switch.name()));
    }
    features
}

/// One line about a build that may take minutes; `None` when every backend in it was built before.
pub fn announcement(build: &Backends, remembered: &Backends) -> Option<String> {
    let new: Backends = build - remembered;
    if new.is_empty() {
        return None;
    }
    let rest = if remembered.is_empty() { 1 } else { 0 };
    let minutes = rest
        + new
            .iter()
            .map(|backend| backend.first_build_minutes())
            .sum::<u32>();
    Some(format!(
        "building the runner with {}; the first build with {} takes about {minutes} minutes on 2 cores",
        join(build.iter().copied()),
        join(new),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Backend::*;

    fn set(backends: &[Backend]) -> Backends {
        backends.iter().copied().collect()
    }

    #[test]
    fn all_is_the_four_without_cuda() {
        assert_eq!(expand(&[All]), set(&ALL));
        assert_eq!(expand(&[Tch, Tch, Ndarray]), set(&[Ndarray, Tch]));
        assert_eq!(expand(&[All, Cuda]).len(), 5);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for backend in Backend::value_variants() {
            let value = backend.to_possible_value().expect("no variant is hidden");
            assert_eq!(value.get_name(), backend.name());
        }
    }

    #[test]
    fn what_was_built_is_remembered() {
        let built = set(&[Ndarray, Flex, Tch]);
        assert_eq!(parse_remembered(&(join(built.clone()) + "\n")), built);
        assert_eq!(parse_remembered("ndarray,metal,all,"), set(&[Ndarray]));
        assert_eq!(parse_remembered(""), set(&[]));
    }

    #[test]
    fn the_union_is_built() {
        let remembered = set(&[Flex, Tch]);
        assert_eq!(
            to_build(&set(&[Ndarray]), &remembered, true),
            set(&[Ndarray, Flex, Tch])
        );
        assert_eq!(
            to_build(&set(&[Ndarray]), &remembered, false),
            set(&[Ndarray, Flex])
        );
        assert_eq!(to_build(&set(&[Tch]), &set(&[]), false), set(&[Ndarray]));
    }

    #[test]
    fn gpu_backends_are_fused_and_not_tuned_unless_told_otherwise() {
        let (fusion, autotune) = (Switch::Fusion, Switch::Autotune);
        assert_eq!(features(&set(&[Ndarray]), &switches(&[], &[])), ["ndarray"]);
        let usual = switches(&[], &[]);
        assert_eq!(features(&set(&[Wgpu]), &usual), ["wgpu", "fusion"]);
        let both = switches(&[autotune], &[]);
        assert_eq!(
            features(&set(&[Wgpu]), &both),
            ["wgpu", "fusion", "autotune"]
        );
        assert_eq!(switches(&[autotune], &[fusion, autotune]), []);
    }

    #[test]
    fn only_new_backends_are_announced() {
        assert_eq!(announcement(&set(&[Ndarray]), &set(&[Ndarray, Flex])), None);
        let first = announcement(&set(&[Ndarray]), &set(&[])).expect("a first build");
        assert!(first.contains("about 4 minutes"), "{first}");
        let more = announcement(&set(&[Ndarray, Flex]), &set(&[Ndarray])).expect("flex is new");
        assert!(
            more.contains("with ndarray,flex;") && more.contains("with flex takes about 5"),
            "{more}"
        );
    }
}
