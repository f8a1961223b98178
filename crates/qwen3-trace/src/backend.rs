use std::fmt;

use qwen3_config::Kernels;
use serde::{Deserialize, Serialize};

/// A Burn backend: the one list of them. Which ones work is a matter of cargo features and of the machine.
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
    /// Every backend.
    pub const EVERY: [Self; 5] = [Self::Ndarray, Self::Flex, Self::Wgpu, Self::Tch, Self::Cuda];
    /// What `all` stands for: every backend that needs no particular hardware.
    pub const ALL: [Self; 4] = [Self::Ndarray, Self::Flex, Self::Wgpu, Self::Tch];

    /// The name on the command line, in reports, and of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Tch => "tch",
            Self::Cuda => "cuda",
        }
    }

    /// The backend of this [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|backend| backend.name() == name)
    }

    /// Those of `asked` that make a difference on it, each once: there are kernels for flex.
    pub fn kernels(self, asked: &[Kernels]) -> Vec<Kernels> {
        if self != Self::Flex {
            return vec![Kernels::On];
        }
        Kernels::ALL.into_iter().filter(|kernels| asked.contains(kernels)).collect()
    }

    /// Does it compile its kernels at run time, for which there are [`Switches`]?
    pub fn compiles_kernels(self) -> bool {
        matches!(self, Self::Wgpu | Self::Cuda)
    }
}

/// How a backend that compiles kernels was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Operation fusion.
    pub fusion: bool,
    /// Kernel autotuning.
    pub autotune: bool,
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on| if on { "on" } else { "off" };
        write!(f, "fusion {}, autotune {}", on(self.fusion), on(self.autotune))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
