//! Values of arguments, with the names that `--help` lists.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use qwen3_trace::{Backend, Mode, Precision, Preset};

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

impl FromStr for BackendWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
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

fn parser<T>(values: Vec<PossibleValue>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(values).try_map(|text| text.parse::<T>())
}

fn every_backend() -> Vec<PossibleValue> {
    let help = |backend: Backend| match backend {
        Backend::Ndarray => "Burn's ndarray backend: pure Rust, f32 only",
        Backend::Flex => "Burn's flex backend: pure Rust, f32, f16 and bf16",
        Backend::Wgpu => "WebGPU: any GPU, or a software Vulkan driver",
        Backend::Tch => "libtorch on the CPU",
        Backend::Cuda => "An NVIDIA GPU",
    };
    Backend::EVERY.map(|backend| PossibleValue::new(backend.name()).help(help(backend))).into()
}

/// A backend's name, or `all`.
pub(crate) fn backend_word() -> impl TypedValueParser<Value = BackendWord> {
    let all = "ndarray, flex, wgpu and tch, as far as this machine has them; not cuda";
    let mut values = every_backend();
    values.push(PossibleValue::new("all").help(all));
    parser(values)
}

/// A backend's name.
pub fn backend() -> impl TypedValueParser<Value = Backend> {
    parser(every_backend())
}

/// `f32`, `f16` or `bf16`.
pub fn dtype() -> impl TypedValueParser<Value = Precision> {
    parser(Precision::ALL.map(|dtype| PossibleValue::new(dtype.name())).into())
}

/// `accumulated`, `isolated` or `patched`.
pub(crate) fn mode() -> impl TypedValueParser<Value = Mode> {
    let help = |mode: Mode| match mode {
        Mode::Accumulated => "From the layer before it: errors add up",
        Mode::Isolated => "From the reference: each layer's own error",
        Mode::Patched => "From the layer before it, the reference injected after one layer",
    };
    parser(Mode::ALL.map(|mode| PossibleValue::new(mode.name()).help(help(mode))).into())
}

/// A preset by its name, or by the one that it had before.
pub(crate) fn preset() -> impl TypedValueParser<Value = Preset> {
    let help = |preset: Preset| match preset {
        Preset::LayerVerification => "Cosine 0.99, mean squared error 1e-4, relative error 0.01",
        Preset::Bf16Reference => "Mean squared error 1e-5",
    };
    let value =
        |preset: Preset| PossibleValue::new(preset.name()).help(help(preset)).alias(preset.old_name());
    PossibleValuesParser::new(Preset::ALL.map(value)).map(|text| {
        let mut all = Preset::ALL.into_iter();
        let found = all.find(|preset| [preset.name(), preset.old_name()].contains(&&text[..]));
        found.expect("one of the possible values")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_the_four_without_cuda() {
        let words = |text: &str| text.split(',').map(|word| word.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(backends(&words("all")), BTreeSet::from(Backend::ALL));
        assert_eq!(backends(&words("all,cuda")), BTreeSet::from(Backend::EVERY));
        assert_eq!(named(&words("tch,all,tch")), [Backend::Tch, Backend::Tch]);
        assert!("metal".parse::<BackendWord>().is_err());
    }
}
