//! What the cuda backend needs of a machine, looked for before it is compiled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{env_path, on_path};

/// Where cubecl 0.11 looks for the toolkit's headers, besides `CUDA_PATH`; and a compiler whose prefix it takes.
const TOOLKITS: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];
const COMPILER: &str = "/usr/bin/nvcc";

/// What was found of a machine.
struct Machine {
    /// Is there an NVIDIA GPU?
    gpu: bool,
    /// Whether the loader finds the driver (`libcuda`) and the compiler of kernels (`libnvrtc`); `None` where the
    /// system does not tell.
    driver: Option<bool>,
    nvrtc: Option<bool>,
    /// The toolkit's folder, where its headers are.
    toolkit: Option<PathBuf>,
}

/// Why cuda cannot work here; `None` when nothing speaks against it, and on systems other than Linux.
pub fn problem() -> Option<String> {
    if cfg!(target_os = "linux") { missing(&Machine::look()) } else { None }
}

fn missing(machine: &Machine) -> Option<String> {
    let what = if !machine.gpu {
        "no NVIDIA GPU is seen here (no /dev/nvidia0, nothing in /proc/driver/nvidia/gpus, and no nvidia-smi that \
         lists one)"
    } else if machine.driver == Some(false) {
        "there is an NVIDIA GPU, but the loader does not find its driver, libcuda.so.1"
    } else if machine.nvrtc == Some(false) {
        "kernels are compiled by NVRTC, and the loader does not find libnvrtc.so: install the CUDA toolkit, or add its \
         lib64 to LD_LIBRARY_PATH"
    } else if machine.toolkit.is_none() {
        "kernels are compiled with the CUDA toolkit's headers, and there is no toolkit in /usr/local/cuda or /opt/cuda: \
         set CUDA_PATH to its folder"
    } else {
        return None;
    };
    Some(what.into())
}

impl Machine {
    fn look() -> Self {
        let libraries = libraries();
        let has = |start: &str| {
            let libraries = libraries.as_ref()?;
            Some(libraries.iter().any(|name| name.starts_with(start)))
        };
        Self { gpu: has_gpu(), driver: has("libcuda.so"), nvrtc: has("libnvrtc.so"), toolkit: toolkit() }
    }
}

/// As cubecl 0.11 finds it.
fn toolkit() -> Option<PathBuf> {
    let installed = || TOOLKITS.into_iter().map(PathBuf::from).find(|folder| folder.exists());
    let compiler = || Path::new(COMPILER).exists().then(|| "/usr".into());
    std::env::var_os("CUDA_PATH").map(PathBuf::from).or_else(installed).or_else(compiler)
}

/// Device files of the driver, of Tegra's and of WSL's, or whatever the driver's own program says.
fn has_gpu() -> bool {
    const DEVICES: [&str; 3] = ["/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg"];
    let numbered = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    names("/dev").iter().any(|name| numbered(name))
        || DEVICES.into_iter().any(|device| Path::new(device).exists())
        || !names("/proc/driver/nvidia/gpus").is_empty()
        || on_path("nvidia-smi").is_some_and(|program| lists_a_gpu(&program))
}

fn lists_a_gpu(nvidia_smi: &Path) -> bool {
    let output = Command::new(nvidia_smi).arg("-L").output();
    output.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"GPU "))
}

/// The names of the libraries that the loader finds: those of its cache and of `LD_LIBRARY_PATH`. `None` when there is
/// no such cache, for which other loaders have other places.
fn libraries() -> Option<BTreeSet<String>> {
    let program = on_path("ldconfig").unwrap_or_else(|| "/sbin/ldconfig".into());
    let output = Command::new(program).arg("-p").output().ok()?;
    if !output.status.success() {
        return None;
    }
    let mut libraries = cached(&String::from_utf8_lossy(&output.stdout));
    let path = env_path("LD_LIBRARY_PATH").unwrap_or_default();
    libraries.extend(std::env::split_paths(&path).flat_map(names));
    Some(libraries)
}

/// The names in what `ldconfig -p` prints: a line for each, `\tname (sort) => file`, below a heading.
fn cached(printed: &str) -> BTreeSet<String> {
    let lines = printed.lines().filter(|line| line.contains(" => "));
    lines.filter_map(|line| line.split_whitespace().next().map(String::from)).collect()
}

/// The names in a folder; none when it cannot be read.
fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_first_is_named() {
        let whole = || Machine {
            gpu: true,
            driver: Some(true),
            nvrtc: Some(true),
            toolkit: Some("/usr/local/cuda".into()),
        };
        assert_eq!(missing(&whole()), None);
        assert_eq!(missing(&Machine { driver: None, nvrtc: None, ..whole() }), None);
        for (machine, named) in [
            (Machine { gpu: false, driver: Some(false), ..whole() }, "no NVIDIA GPU"),
            (Machine { driver: Some(false), ..whole() }, "libcuda.so.1"),
            (Machine { nvrtc: Some(false), ..whole() }, "libnvrtc.so"),
            (Machine { toolkit: None, ..whole() }, "CUDA_PATH"),
        ] {
            let problem = missing(&machine).unwrap();
            assert!(problem.contains(named), "{problem}");
        }
    }

    #[test]
    fn the_loaders_cache_is_read() {
        let printed = "2 libs found in cache `/etc/ld.so.cache'\n\
                       \tlibnvrtc.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libnvrtc.so.12\n\
                       \tlibc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6\n";
        assert_eq!(cached(printed).into_iter().collect::<Vec<_>>(), ["libc.so.6", "libnvrtc.so.12"]);
    }
}
