//! The backends and dtypes on the command line.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};
use burn::tensor::{DType, Device};
use clap::ValueEnum;

use crate::failure::bad_input;

/// A Burn backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Pure Rust, the faster of the two: f32, f16 and bf16
    Flex,
    /// Pure Rust: f32 only
    Ndarray,
    /// Vulkan, Metal, DirectX or WebGPU (built with `--features wgpu`)
    Wgpu,
    /// libtorch on the CPU (built with `--features tch`)
    Tch,
    /// An NVIDIA GPU (built with `--features cuda`)
    Cuda,
}

/// What to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "named as on the command line")]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Every dtype, widest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// As Burn has it.
    pub fn burn(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

/// Where and in what a model computes.
#[derive(clap::Args, Debug)]
pub struct DeviceArgs {
    /// The backend; without it, the first this command was built with: flex, ndarray, wgpu, tch, cuda
    #[arg(long, value_name = "NAME")]
    backend: Option<Backend>,
    /// The dtype to compute in
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: Dtype,
}

impl DeviceArgs {
    /// The device and the dtype.
    ///
    /// # Errors
    /// When the backend is not in this build, has no device here, or does not compute in the dtype.
    pub fn device(&self) -> Result<(Device, DType)> {
        let backend = match self.backend {
            Some(backend) => backend,
            None => default_backend()?,
        };
        let name = backend.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        let open = || device(backend).map(|open| open());
        // Burn panics where there is no adapter.
        let device = catch_unwind(AssertUnwindSafe(|| {
            let device = open()?;
            let supported = device.supports_dtype(self.dtype.burn());
            Some((device, supported))
        }));
        match device {
            Ok(Some((device, true))) => Ok((device, self.dtype.burn())),
            Ok(Some((_, false))) => Err(bad_input(format!(
                "{name} does not compute in {}",
                self.dtype.name()
            ))),
            Ok(None) => Err(bad_input(format!(
                "this command was built without {name}; build it with `--features {name}`"
            ))),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(anyhow!("{name} has no device here: {}", text.unwrap_or("")))
            }
        }
    }
}

/// The first backend of this build.
///
/// # Errors
/// When there is none.
pub fn default_backend() -> Result<Backend> {
    let backends = Backend::value_variants().iter().copied();
    let mut built = backends.filter(|backend| device(*backend).is_some());
    built
        .next()
        .ok_or_else(|| bad_input("this command was built without a backend"))
}

/// What opens a backend's device; `None` when it is not in this build.
#[allow(
    deprecated,
    reason = "ndarray and tch are what this release of Burn is pinned for"
)]
fn device(backend: Backend) -> Option<fn() -> Device> {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Some(Device::flex),
        #[cfg(feature = "ndarray")]
        Backend::Ndarray => Some(Device::ndarray),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Some(|| Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "tch")]
        Backend::Tch => Some(Device::libtorch),
        #[cfg(feature = "cuda")]
        Backend::Cuda => Some(|| Device::cuda(0)),
        #[allow(
            unreachable_patterns,
            reason = "which arms exist depends on the features"
        )]
        _ => None,
    }
}

/// A device for reading and writing weights, without computing.
///
/// # Errors
/// When there is no backend in this build.
pub fn storage(dtype: Dtype) -> Result<Device> {
    let backends = Backend::value_variants().iter();
    let mut devices = backends
        .filter_map(|backend| device(*backend))
        .map(|open| open());
    devices
        .find(|device| device.supports_dtype(dtype.burn()))
        .ok_or_else(|| bad_input(format!("no backend of this build holds {}", dtype.name())))
}
