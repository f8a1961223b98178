//! Values of arguments, with the names that `--help` lists.

use std::collections::BTreeSet;
use std::fmt;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use qwen3_trace::{Backend, Kernels, Mode, Precision, Preset};

/// The backend of `parity` and `verify` where none is named, and of `qwen3`: pure Rust, and the fastest that needs nothing
/// installed.
pub const DEFAULT_BACKEND: Backend = Backend::Flex;

/// What `--backend` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendWord {
    /// A backend by its name.
    One(Backend),
    /// Those that need no particular hardware, as far as this machine has them.
    All,
}

impl fmt::Display for BackendWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(backend) => f.write_str(backend.name()),
            Self::All => f.write_str("all"),
        }
    }
}

/// The backends that the words of a command line stand for, in the order of reports.
pub fn backends(words: &[BackendWord]) -> BTreeSet<Backend> {
    let expand = |word: &BackendWord| match word {
        BackendWord::All => Backend::ALL.to_vec(),
        BackendWord::One(backend) => vec![*backend],
    };
    words.iter().flat_map(expand).collect()
}

/// Those among them that are asked for by name.
pub fn named(words: &[BackendWord]) -> Vec<Backend> {
    let name = |word: &BackendWord| match word {
        BackendWord::All => None,
        BackendWord::One(backend) => Some(*backend),
    };
    words.iter().filter_map(name).collect()
}

/// One of `values` by its name or an alias of it.
fn one_of<T>(values: impl IntoIterator<Item = (T, PossibleValue)>) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let values: Vec<_> = values.into_iter().collect();
    let names: Vec<_> = values.iter().map(|(_, name)| name.clone()).collect();
    PossibleValuesParser::new(names).map(move |text| {
        let named = values.iter().find(|(_, name)| name.matches(&text, false));
        named.expect("one of the possible values").0
    })
}

fn every_backend() -> [(Backend, PossibleValue); 5] {
    let help = |backend: Backend| match backend {
        Backend::Ndarray => "Burn's ndarray backend: pure Rust, f32 only",
        Backend::Flex => "Burn's flex backend: pure Rust, f32, f16 and bf16",
        Backend::Wgpu => "WebGPU: any GPU, or a software Vulkan driver",
        Backend::Tch => "libtorch on the CPU",
        Backend::Cuda => "An NVIDIA GPU",
    };
    Backend::EVERY.map(|backend| (backend, PossibleValue::new(backend.name()).help(help(backend))))
}

/// A backend's name, or `all`.
pub fn backend_word() -> impl TypedValueParser<Value = BackendWord> {
    let all = "ndarray, flex, wgpu and tch, as far as this machine has them; not cuda";
    let one = every_backend().map(|(backend, name)| (BackendWord::One(backend), name));
    one_of(one.into_iter().chain([(BackendWord::All, PossibleValue::new("all").help(all))]))
}

/// A backend's name.
pub fn backend() -> impl TypedValueParser<Value = Backend> {
    one_of(every_backend())
}

/// `f32`, `f16` or `bf16`.
pub fn dtype() -> impl TypedValueParser<Value = Precision> {
    one_of(Precision::ALL.map(|dtype| (dtype, PossibleValue::new(dtype.name()))))
}

/// `on` or `off`.
pub fn kernels() -> impl TypedValueParser<Value = Kernels> {
    let help = |kernels: Kernels| match kernels {
        Kernels::On => "This project's kernels, on a backend that there are any for: flex",
        Kernels::Off => "Burn's own operations only",
    };
    one_of(Kernels::ALL.map(|kernels| (kernels, PossibleValue::new(kernels.name()).help(help(kernels)))))
}

/// `accumulated`, `isolated` or `patched`.
pub(crate) fn mode() -> impl TypedValueParser<Value = Mode> {
    let help = |mode: Mode| match mode {
        Mode::Accumulated => "From the layer before it: errors add up",
        Mode::Isolated => "From the reference: each layer's own error",
        Mode::Patched => "From the layer before it, the reference injected after one layer",
    };
    one_of(Mode::ALL.map(|mode| (mode, PossibleValue::new(mode.name()).help(help(mode)))))
}

/// A number from 0 on.
pub(crate) fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "no number")?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err("no number from 0 on".into()) }
}

/// A preset by its name, or by the one that it had before.
pub(crate) fn preset() -> impl TypedValueParser<Value = Preset> {
    let help = |preset: Preset| match preset {
        Preset::LayerVerification => "Cosine 0.99, mean squared error 1e-4, relative error 0.01",
        Preset::Bf16Reference => "Mean squared error 1e-5",
    };
    let name = |preset: Preset| PossibleValue::new(preset.name()).help(help(preset)).alias(preset.old_name());
    one_of(Preset::ALL.map(|preset| (preset, name(preset))))
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn all_is_the_four_without_cuda() {
        let word = |word: &str| backend_word().parse_ref(&Command::new("x"), None, word.as_ref());
        let words = |text: &str| text.split(',').map(|text| word(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(backends(&words("all")), BTreeSet::from(Backend::ALL));
        assert_eq!(backends(&words("all,cuda")), BTreeSet::from(Backend::EVERY));
        assert_eq!(named(&words("tch,all,tch")), [Backend::Tch, Backend::Tch]);
        assert!(word("metal").is_err());
    }
}
