//! The machine that this runs on.

use std::fs;

use qwen3_report::bench::Machine;

/// Instruction sets that kernels are chosen by, as /proc/cpuinfo names them.
const INSTRUCTION_SETS: [&str; 12] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "sve",
];

/// What the system tells of this machine.
pub fn machine() -> Machine {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let flags = field(&cpuinfo, "flags").or_else(|| field(&cpuinfo, "Features")).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let sets = INSTRUCTION_SETS.into_iter().filter(|set| flags.contains(set));
    Machine {
        cpu: field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        instruction_sets: sets.map(String::from).collect(),
        memory_gb: kilobytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0.0) / f64::from(1 << 20),
        system: [std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()].join(" ").trim().into(),
        huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
        devices: devices(),
    }
}

/// Memory that can be had without swapping, in bytes; `None` where the system does not tell.
pub fn available_memory() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kilobytes(&text, "MemAvailable")? * 1024.0)
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let named = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == name);
    let line = text.lines().find(named)?;
    Some(line.split_once(':')?.1.trim().into())
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

/// The setting in brackets, as in `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.into())
}

/// NVIDIA's, by what their driver says.
fn devices() -> Vec<String> {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let model =
        |folder: fs::DirEntry| field(&fs::read_to_string(folder.path().join("information")).ok()?, "Model");
    folders.filter_map(model).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let text = "processor\t: 0\nmodel name\t: A: B\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!((kilobytes(text, "MemTotal"), kilobytes(text, "MemFree")), (Some(2048.0), None));
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen(""), None);
        assert!(machine().cores > 0 && !machine().cpu.is_empty());
    }
}
