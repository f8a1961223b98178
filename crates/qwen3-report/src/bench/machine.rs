//! The machine that a benchmark ran on.

use serde::{Deserialize, Serialize};

use crate::measure::three_digits;

/// What the figures of a run depend on; empty where the system does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// The vector and matrix instruction sets among `avx2`, `avx512f`, `avx512_bf16`, `amx_bf16`, `neon` and so on.
    pub instruction_sets: Vec<String>,
    /// Main memory in GiB.
    pub memory_gb: f64,
    /// The system and its release.
    pub system: String,
    /// The kernel's setting for huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Graphics adapters that the runs used, by backend.
    pub devices: Vec<String>,
}

impl Machine {
    /// Each thing that is known, as `2 cores`.
    pub fn facts(&self) -> Vec<String> {
        let mut facts =
            vec![self.cpu.clone(), format!("{} cores", self.cores), self.instruction_sets.join(" ")];
        facts.push(format!("{} GiB of memory", three_digits(self.memory_gb)));
        facts.push(self.system.clone());
        facts.extend(self.huge_pages.iter().map(|setting| format!("huge pages: {setting}")));
        facts.extend(self.devices.iter().cloned());
        facts.retain(|fact| !fact.is_empty());
        facts
    }
}
