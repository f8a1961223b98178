//! The backends and dtypes on the command line.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Error, Result, anyhow};
use burn::tensor::{DType, Device};
use qwen3_model::{Precision, burn_dtype};
use qwen3_trace::Backend;

use crate::failure::bad_input;

/// Every backend, in the order in which one is taken where none is named.
const BACKENDS: [Backend; 5] = [Backend::Flex, Backend::Ndarray, Backend::Wgpu, Backend::Tch, Backend::Cuda];

/// Where and in what a model computes.
#[derive(clap::Args, Debug)]
pub struct DeviceArgs {
    /// The backend; without it, the first this command was built with: flex, ndarray, wgpu, tch, cuda
    #[arg(long, value_name = "NAME", value_parser = qwen3_command::backend())]
    backend: Option<Backend>,
    /// The dtype to compute in
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = qwen3_command::dtype())]
    dtype: Precision,
}

impl DeviceArgs {
    /// The backend that is meant.
    ///
    /// # Errors
    /// When none is named and none is in this build.
    pub fn backend(&self) -> Result<Backend> {
        self.backend.map_or_else(default_backend, Ok)
    }

    /// The dtype that is meant.
    pub fn dtype(&self) -> Precision {
        self.dtype
    }

    /// The device and the dtype.
    ///
    /// # Errors
    /// When the backend is not in this build, has no device here, or does not compute in the dtype.
    pub fn device(&self) -> Result<(Device, DType)> {
        let device = open(self.backend()?, 0, self.dtype)?;
        Ok((device, burn_dtype(self.dtype)))
    }
}

/// Device number `index` of `backend`.
///
/// # Errors
/// When the backend is not in this build, has no such device here, or does not compute in the dtype.
pub fn open(backend: Backend, index: usize, dtype: Precision) -> Result<Device> {
    if index > 0 && backend != Backend::Cuda {
        return Err(bad_input(format!("{backend} has no device {index}: only those of cuda are numbered")));
    }
    // Burn panics where there is no adapter.
    let device = catch_unwind(AssertUnwindSafe(|| {
        let device = device(backend)?(index);
        let supported = device.supports_dtype(burn_dtype(dtype));
        Some((device, supported))
    }));
    match device {
        Ok(Some((device, true))) => Ok(device),
        Ok(Some((_, false))) => Err(bad_input(format!("{backend} does not compute in {dtype}"))),
        Ok(None) => Err(not_built(backend.name())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(anyhow!("{backend} has no device here: {}", text.unwrap_or("")))
        }
    }
}

/// That this build lacks what the cargo feature `feature` adds, with the command that has it.
pub fn not_built(feature: &str) -> Error {
    let built = [
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("tch", cfg!(feature = "tch")),
        ("remote", cfg!(feature = "remote")),
    ];
    let built = built.into_iter().filter(|(name, on)| *on && *name != feature).map(|(name, _)| name);
    let features: Vec<_> = built.chain([feature]).collect();
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words.map(|word| quoted(&word.to_string_lossy()).into_owned()).collect();
    bad_input(format!(
        "this command was built without {feature}; in the repository: cargo run --release -p qwen3-cli --features {} \
         -- {}",
        features.join(","),
        words.join(" ")
    ))
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// The first backend of this build.
///
/// # Errors
/// When there is none.
fn default_backend() -> Result<Backend> {
    let built = BACKENDS.into_iter().find(|backend| device(*backend).is_some());
    built.ok_or_else(|| bad_input("this command was built without a backend"))
}

/// What opens a backend's device of a number, which only those of cuda have; `None` when it is not in this build.
#[allow(deprecated, reason = "ndarray and tch are what this release of Burn is pinned for")]
fn device(backend: Backend) -> Option<fn(usize) -> Device> {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Some(|_| Device::flex()),
        #[cfg(feature = "ndarray")]
        Backend::Ndarray => Some(|_| Device::ndarray()),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Some(|_| Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "tch")]
        Backend::Tch => Some(|_| Device::libtorch()),
        #[cfg(feature = "cuda")]
        Backend::Cuda => Some(|index| Device::cuda(index)),
        #[allow(unreachable_patterns, reason = "which arms exist depends on the features")]
        _ => None,
    }
}

/// A device for reading and writing weights, without computing.
///
/// # Errors
/// When there is no backend in this build.
pub fn storage(dtype: Precision) -> Result<Device> {
    let mut devices = BACKENDS.into_iter().filter_map(device).map(|open| open(0));
    let device = devices.find(|device| device.supports_dtype(burn_dtype(dtype)));
    device.ok_or_else(|| bad_input(format!("no backend of this build holds {dtype}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_the_words_back() {
        assert_eq!(quoted("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B");
        assert_eq!(quoted("it's 1 $x"), r"'it'\''s 1 $x'");
        assert_eq!(quoted(""), "''");
    }
}
