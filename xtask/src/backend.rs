//! The cargo features that the runner is built with for backends and their switches.

use std::collections::BTreeSet;

use clap::ValueEnum;
use qwen3_command::DEFAULT_BACKEND;
use qwen3_trace::Backend;

/// A set of backends: what is asked for, or what a build contains.
pub type Backends = BTreeSet<Backend>;

/// Minutes that a first build takes on two cores because of a backend.
fn first_build_minutes(backend: &Backend) -> u32 {
    match backend {
        Backend::Ndarray | Backend::Tch => 3,
        Backend::Flex => 5,
        Backend::Wgpu | Backend::Cuda => 11,
    }
}

/// `ndarray,flex`: the form of `--backend` and of the file that remembers a build.
pub fn join(backends: &Backends) -> String {
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    names.join(",")
}

/// Reads back what [`join`] wrote. Unknown words are dropped: an older or newer xtask wrote them.
pub fn parse_remembered(text: &str) -> Backends {
    text.trim().split(',').filter_map(Backend::parse).collect()
}

/// The backends to build with: those asked for and those built last, so that asking for fewer
/// rebuilds nothing; tch only where libtorch is.
pub fn to_build(asked: &Backends, remembered: &Backends, libtorch: bool) -> Backends {
    let mut union: Backends = asked | remembered;
    if !libtorch {
        union.remove(&Backend::Tch);
    }
    if union.is_empty() {
        union.insert(DEFAULT_BACKEND);
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
    let on = |switch: &Switch| (USUAL.contains(switch) || with.contains(switch)) && !without.contains(switch);
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
    let minutes = rest + new.iter().map(first_build_minutes).sum::<u32>();
    Some(format!(
        "building the runner with {}; the first build with {} takes about {minutes} minutes on 2 cores",
        join(build),
        join(&new),
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
    fn what_was_built_is_remembered() {
        let built = set(&[Ndarray, Flex, Tch]);
        assert_eq!(parse_remembered(&(join(&built) + "\n")), built);
        assert_eq!(parse_remembered("ndarray,metal,all,"), set(&[Ndarray]));
        assert_eq!(parse_remembered(""), set(&[]));
    }

    #[test]
    fn the_union_is_built() {
        let remembered = set(&[Flex, Tch]);
        assert_eq!(to_build(&set(&[Ndarray]), &remembered, true), set(&[Ndarray, Flex, Tch]));
        assert_eq!(to_build(&set(&[Ndarray]), &remembered, false), set(&[Ndarray, Flex]));
        assert_eq!(to_build(&set(&[Tch]), &set(&[]), false), set(&[Flex]));
    }

    #[test]
    fn gpu_backends_are_fused_and_not_tuned_unless_told_otherwise() {
        let (fusion, autotune) = (Switch::Fusion, Switch::Autotune);
        assert_eq!(features(&set(&[Ndarray]), &switches(&[], &[])), ["ndarray"]);
        let usual = switches(&[], &[]);
        assert_eq!(features(&set(&[Wgpu]), &usual), ["wgpu", "fusion"]);
        let both = switches(&[autotune], &[]);
        assert_eq!(features(&set(&[Wgpu]), &both), ["wgpu", "fusion", "autotune"]);
        assert_eq!(switches(&[autotune], &[fusion, autotune]), []);
    }

    #[test]
    fn only_new_backends_are_announced() {
        assert_eq!(announcement(&set(&[Ndarray]), &set(&[Ndarray, Flex])), None);
        let first = announcement(&set(&[Ndarray]), &set(&[])).expect("a first build");
        assert!(first.contains("about 4 minutes"), "{first}");
        let more = announcement(&set(&[Ndarray, Flex]), &set(&[Ndarray])).expect("flex is new");
        assert!(more.contains("with ndarray,flex;") && more.contains("with flex takes about 5"), "{more}");
    }
}
