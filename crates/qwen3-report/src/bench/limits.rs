//! What a machine can do at most.

use std::collections::BTreeMap;

use qwen3_trace::Precision;
use serde::{Deserialize, Serialize};

use crate::measure::three_digits;

/// How large the pages are that memory was read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pages {
    /// 4 KiB, on most machines.
    Ordinary,
    /// 2 MiB, on most machines.
    Huge,
}

impl Pages {
    /// `ordinary`, `huge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Huge => "huge",
        }
    }
}

/// Rates measured beside the benchmark, with as many threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Threads of each measurement and of each run.
    pub threads: usize,
    /// Reading memory that is in no cache, in GB/s, by the size of the pages.
    pub read_gb_per_s: BTreeMap<Pages, f64>,
    /// Multiplying and adding in registers, in GFLOP/s, by dtype.
    pub matmul_gflop_per_s: BTreeMap<Precision, f64>,
    /// Of devices with memory of their own.
    pub devices: Vec<DeviceLimit>,
}

/// What a device with memory of its own can do, measured through its backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// The backend's name.
    pub backend: String,
    /// The dtype.
    pub dtype: Precision,
    /// Reading and writing a large tensor, in GB/s.
    pub gb_per_s: f64,
    /// A large matrix product, in GFLOP/s.
    pub gflop_per_s: f64,
}

impl Limits {
    /// The threads and the rates of the host, in words.
    pub(crate) fn rates(&self) -> Vec<String> {
        let mut rates = vec![format!("{} threads", self.threads)];
        for (pages, rate) in &self.read_gb_per_s {
            rates.push(format!("reading {} pages {} GB/s", pages.name(), three_digits(*rate)));
        }
        for (dtype, rate) in &self.matmul_gflop_per_s {
            rates.push(format!("multiplying {dtype} {} GFLOP/s", three_digits(*rate)));
        }
        rates
    }

    /// The fastest that memory is read, in bytes per second, on the host or on the device of a backend.
    pub fn bytes_per_second(&self, backend: &str, dtype: Precision) -> Option<f64> {
        let host = || self.read_gb_per_s.values().copied().reduce(f64::max);
        Some(self.device(backend, dtype).map(|device| device.gb_per_s).or_else(host)? * 1e9)
    }

    /// The most operations per second in `dtype`, on the host or on the device of a backend.
    pub fn flop_per_second(&self, backend: &str, dtype: Precision) -> Option<f64> {
        let host = || self.matmul_gflop_per_s.get(&dtype).copied();
        Some(self.device(backend, dtype).map(|device| device.gflop_per_s).or_else(host)? * 1e9)
    }

    fn device(&self, backend: &str, dtype: Precision) -> Option<&DeviceLimit> {
        self.devices.iter().find(|device| device.backend == backend && device.dtype == dtype)
    }
}
