//! The backends the runner can be built with, and what each can compute in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device, TensorData};
use serde::{Deserialize, Serialize};

use crate::manifest::TestDType;

/// A Burn backend. Which ones work is a matter of cargo features and of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `burn-ndarray`, pure Rust.
    Ndarray,
    /// `burn-flex`, pure Rust.
    Flex,
    /// `burn-wgpu`: Vulkan, Metal, DirectX or WebGPU through WGSL.
    Wgpu,
    /// `burn-tch`: libtorch on the CPU.
    Tch,
    /// `burn-cuda`.
    Cuda,
}

impl Backend {
    /// What `all` stands for: every backend that needs no particular hardware.
    pub const ALL: [Self; 4] = [Self::Ndarray, Self::Flex, Self::Wgpu, Self::Tch];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Tch => "tch",
            Self::Cuda => "cuda",
        }
    }

    /// The backend's device, or why this binary has none.
    #[allow(
        deprecated,
        reason = "ndarray and tch are what this release is pinned for"
    )]
    pub fn device(self) -> Result<Device, String> {
        match self {
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "tch")]
            Self::Tch => Ok(Device::libtorch()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[allow(
                unreachable_patterns,
                reason = "which arms exist depends on the features"
            )]
            _ => Err(format!("built without the `{}` feature", self.name())),
        }
    }

    /// The dtypes the backend computes in, widest first.
    pub fn dtypes(device: &Device) -> Vec<TestDType> {
        let supported = |dtype: &TestDType| device.supports_dtype(burn_dtype(*dtype));
        [TestDType::F32, TestDType::F16, TestDType::Bf16]
            .into_iter()
            .filter(supported)
            .collect()
    }

    /// Compile-time switches that change what a verdict means.
    pub fn switches(self) -> Option<Switches> {
        matches!(self, Self::Wgpu | Self::Cuda).then_some(Switches {
            fusion: cfg!(feature = "fusion"),
            autotune: cfg!(feature = "autotune"),
        })
    }
}

/// A copy of `data` in memory of its own.
///
/// On wgpu, what a tensor is read into is a mapped staging buffer, which Burn 0.22.1 gives to the next
/// read of the same size while the first is still held: every result that is kept has to be copied.
pub fn owned(data: TensorData) -> TensorData {
    TensorData::from_bytes_vec(data.as_bytes().to_vec(), data.shape().clone(), data.dtype())
}

/// CubeCL features that were on when the runner was built.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Switches {
    /// Operation fusion.
    pub fusion: bool,
    /// Kernel autotuning.
    pub autotune: bool,
}

/// The Burn dtype of a dtype under test.
pub fn burn_dtype(dtype: TestDType) -> DType {
    match dtype {
        TestDType::F32 => DType::F32,
        TestDType::F16 => DType::F16,
        TestDType::Bf16 => DType::BF16,
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Ndarray, Self::Flex, Self::Wgpu, Self::Tch, Self::Cuda]
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| {
                format!("unknown backend `{text}`; one of ndarray, flex, wgpu, tch, cuda, or all")
            })
    }
}
