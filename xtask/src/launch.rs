//! What parity and verify have in common: the machine's set-up, and starting the fixture runner.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use qwen3_command::{OutputFile, line};
use qwen3_trace::Backend;

use crate::backend::Backends;
use crate::workspace::exit_code;
use crate::{cuda, libtorch, vulkan};
use qwen3_command::child;

/// What of the machine's set-up the build and the runner have to know.
pub struct SetUp {
    /// The libtorch to build with.
    pub libtorch: Option<PathBuf>,
    /// The backends that were asked for and cannot work here, with the reason.
    pub unavailable: BTreeMap<Backend, String>,
}

impl SetUp {
    /// Looks and, unless `only_look`, brings what the backends asked for are missing.
    pub fn of(root: &Path, asked: &Backends, only_look: bool) -> Self {
        if asked.contains(&Backend::Wgpu) && !only_look && vulkan::need() == vulkan::Need::Apt {
            // Without a driver the runner finds no adapter, and reports wgpu as unavailable.
            if let Err(error) = vulkan::ensure() {
                eprintln!("xtask: no Vulkan driver could be installed: {}", line(&error));
            }
        }
        let tch_asked = asked.contains(&Backend::Tch);
        let libtorch = libtorch::require_cxx().and_then(|()| {
            let bring = tch_asked && !only_look;
            if bring { libtorch::ensure(root).map(Some) } else { libtorch::find(root) }
        });
        let (libtorch, problem) = match libtorch {
            Ok(found) => (found.map(|libtorch| libtorch.folder), "libtorch is not set up".to_string()),
            Err(error) => (None, format!("{error:#}")),
        };
        let no_libtorch = (tch_asked && libtorch.is_none()).then_some(problem);
        let no_cuda = asked.contains(&Backend::Cuda).then(cuda::problem).flatten();
        let problems = [(Backend::Tch, no_libtorch), (Backend::Cuda, no_cuda)];
        let unavailable: BTreeMap<_, _> =
            problems.into_iter().filter_map(|(backend, problem)| Some((backend, problem?))).collect();
        for (backend, problem) in &unavailable {
            eprintln!("xtask: {backend} is left out: {problem}");
        }
        Self { libtorch, unavailable }
    }

    /// Those of the backends `asked` for that can work here.
    pub fn available(&self, asked: &Backends) -> Backends {
        asked.iter().filter(|backend| !self.unavailable.contains_key(backend)).copied().collect()
    }
}

/// Starts the runner and gives its exit code.
///
/// # Errors
/// When it cannot be started.
pub fn start(runner: &Path, words: Vec<OsString>) -> Result<u8> {
    let status = child::status(Command::new(runner).args(words))
        .with_context(|| format!("{} cannot be started", runner.display()))?;
    Ok(exit_code("the fixture runner", status))
}

/// What tells the runner which backends are known not to work.
pub fn unavailable(set_up: &SetUp) -> Vec<OsString> {
    let words = |(backend, reason)| ["--unavailable".into(), format!("{backend}={reason}").into()];
    set_up.unavailable.iter().flat_map(words).collect()
}

/// What a long build would otherwise end in: an error for a manifest that is not there.
///
/// # Errors
/// When it is not there.
pub fn check_manifest(manifest: &Path) -> Result<()> {
    if !manifest.is_file() {
        bail!("there is no manifest {} (`cargo xtask fixtures` makes the repository's)", manifest.display());
    }
    Ok(())
}

/// The same for reports, by the flags that name them, that cannot be written.
///
/// # Errors
/// When one cannot.
pub fn check_outputs<'a>(files: impl IntoIterator<Item = (&'static str, &'a Option<PathBuf>)>) -> Result<()> {
    for (flag, file) in files {
        if let Some(file) = file {
            OutputFile::prepare(flag, file, [])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_files_are_found_before_the_build() {
        let temp = tempfile::tempdir().unwrap();
        let manifest = temp.path().join("manifest.json");
        assert!(check_manifest(&manifest).is_err());
        std::fs::write(&manifest, "{}").unwrap();
        assert!(check_manifest(&manifest).is_ok());
        let report = |name: &str| Some(temp.path().join(name));
        assert!(check_outputs([("--json", &report("report.json")), ("--html", &None)]).is_ok());
        for name in ["absent/report.json", "new/", ""] {
            assert!(check_outputs([("--json", &report(name))]).is_err(), "{name}");
        }
    }
}
