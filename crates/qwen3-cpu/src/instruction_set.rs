use std::fmt;

/// A family of vector instructions that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What the compiler makes of plain Rust for the target's baseline.
    Portable,
    /// AVX2 with FMA and F16C: eight lanes.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: sixteen lanes.
    Avx512,
    /// AVX-512 with products of bf16 pairs.
    Avx512Bf16,
    /// [`Avx512Bf16`](Self::Avx512Bf16) with products of bf16 tiles.
    Amx,
    /// NEON: four lanes.
    Neon,
}

impl InstructionSet {
    /// All of them, the slowest first.
    pub const ALL: [Self; 6] =
        [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Whether this processor and its operating system have it. The first question about AMX asks the system for
    /// its use by this process.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            _ => x86::is_available(self),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Those of this machine, the slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|set| set.is_available()).collect()
    }

    /// The fastest of this machine.
    pub fn best() -> Self {
        *Self::available().last().expect("the portable one is always there")
    }

    /// The name in lower case: `avx2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::InstructionSet;
    use crate::isa::amx_is_granted;

    pub(super) fn is_available(set: InstructionSet) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        let pairs = || is_x86_feature_detected!("avx512bf16");
        match set {
            InstructionSet::Portable => true,
            InstructionSet::Avx2 => avx2,
            InstructionSet::Avx512 => avx2 && avx512(),
            InstructionSet::Avx512Bf16 => avx2 && avx512() && pairs(),
            InstructionSet::Amx => avx2 && avx512() && pairs() && amx_is_granted(),
            InstructionSet::Neon => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_available_and_no_available_one_is_better() {
        let available = InstructionSet::available();
        assert_eq!(available[0], InstructionSet::Portable);
        assert!(InstructionSet::best().is_available());
        assert_eq!(available.last(), Some(&InstructionSet::best()));
    }
}
