//! Building the fixture runner, with the backends asked for and those it was built with last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use qwen3_trace::Backend;

use crate::backend::{self, Backends, Switch};
use crate::workspace::Workspace;
use qwen3_command::child;

/// The backends of the next build, and of the last one in this target directory.
pub struct Plan {
    /// What is built: those asked for and those built last, so that asking for fewer compiles nothing.
    pub backends: Backends,
    /// The libtorch that the build needs; `None` when tch is not in it.
    pub libtorch: Option<PathBuf>,
    built_last: Backends,
    memory: PathBuf,
}

impl Plan {
    /// The build for the backends `asked` for; without tch where there is no `libtorch`.
    pub fn new(workspace: &Workspace, asked: &Backends, libtorch: Option<&Path>) -> Self {
        let memory = workspace.target.join("parity-backends.txt");
        let built_last = backend::parse_remembered(&fs::read_to_string(&memory).unwrap_or_default());
        let backends = backend::to_build(asked, &built_last, libtorch.is_some());
        let libtorch = libtorch.filter(|_| backends.contains(&Backend::Tch)).map(PathBuf::from);
        Self { backends, libtorch, built_last, memory }
    }

    /// Says on stderr what is built, when it may take minutes.
    pub fn announce(&self) {
        if let Some(line) = backend::announcement(&self.backends, &self.built_last) {
            eprintln!("xtask: {line}");
        }
    }

    /// Remembers the backends, once they are built.
    pub fn remember(&self) -> Result<()> {
        let line = backend::join(&self.backends) + "\n";
        fs::write(&self.memory, line).with_context(|| format!("{} cannot be written", self.memory.display()))
    }
}

/// Builds the runner and returns the executable. cargo's progress goes to stderr, for stdout is the runner's.
pub fn build(
    workspace: &Workspace,
    asked: &Backends,
    switches: &[Switch],
    libtorch: Option<&Path>,
) -> Result<PathBuf> {
    let plan = Plan::new(workspace, asked, libtorch);
    plan.announce();
    let features = backend::features(&plan.backends, switches).join(",");
    let mut cargo = workspace.cargo(plan.libtorch.as_deref());
    cargo.args(["build", "--release", "--package", "fixture-runner", "--bin", "fixture-runner"]);
    cargo.args([
        "--no-default-features",
        "--features",
        &features,
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = child::output(cargo.stdin(Stdio::null())).context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the runner could not be built with {features}{}", plan.hint(asked));
    }
    plan.remember()?;
    executable(&String::from_utf8_lossy(&output.stdout), "fixture-runner")
        .context("cargo named no executable for fixture-runner")
}

impl Plan {
    /// How to build only what is asked for, when the build had more in it.
    fn hint(&self, asked: &Backends) -> String {
        if self.backends.is_subset(asked) {
            return String::new();
        }
        format!(" (built with them before; delete {} to build only what you ask for)", self.memory.display())
    }
}

/// The executable of the binary `name` in cargo's messages, one JSON object a line.
pub fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| executable.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Backend::{Flex, Ndarray, Wgpu};

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let built =
            |name: &str, file: &str| format!(r#"{{"target":{{"name":"{name}"}},"executable":{file}}}"#);
        let messages = [
            built("fixture-runner", "null"),
            "noise".into(),
            built("fixture-runner", r#""/t/release/fixture-runner""#),
            built("qwen3", r#""/t/release/qwen3""#),
            r#"{"reason":"build-finished","success":true}"#.into(),
        ]
        .join("\n");
        assert_eq!(executable(&messages, "fixture-runner"), Some("/t/release/fixture-runner".into()));
        assert_eq!(executable(&messages, "qwen3"), Some("/t/release/qwen3".into()));
        assert_eq!(executable(&messages, "xtask"), None);
    }

    #[test]
    fn a_build_remembers_its_backends_while_libtorch_is_there() {
        let target = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: "/repo".into(), target: target.path().into() };
        let libtorch = Path::new("/libtorch");
        let (ndarray, four) = (Backends::from([Ndarray]), Backends::from(Backend::ALL));
        let plan = |asked, libtorch| Plan::new(&workspace, asked, libtorch);

        assert_eq!(
            plan(&ndarray, Some(libtorch)).libtorch,
            None,
            "no tch, so no libtorch in the environment"
        );
        let all = plan(&four, Some(libtorch));
        all.remember().unwrap();
        assert_eq!(all.libtorch.as_deref(), Some(libtorch));
        let again = plan(&ndarray, Some(libtorch));
        assert_eq!(again.backends, four);
        assert!(again.hint(&ndarray).contains("parity-backends.txt") && again.hint(&four).is_empty());
        assert_eq!(plan(&ndarray, None).backends, Backends::from([Ndarray, Flex, Wgpu]));
    }
}
