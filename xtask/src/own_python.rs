//! A Python that somebody has, with packages of its own: are they new enough for the oracle?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use qwen3_command::child;

/// What the oracle needs to make a reference, and since which release. Of Transformers 5.10 was tried, and 5.5 does not do;
/// the others are what it asks for.
const NEEDED: [(&str, [u32; 2]); 5] = [
    ("python", [3, 11]),
    ("torch", [2, 4]),
    ("transformers", [5, 10]),
    ("numpy", [1, 17]),
    ("safetensors", [0, 4]),
];
/// With an adapter.
const PEFT: (&str, [u32; 2]) = ("peft", [0, 18]);

/// Prints a line for each package: its name and version, without importing it.
const ASK: &str = "\
import importlib.metadata as m, platform, sys
print('python', platform.python_version())
for name in sys.argv[1:]:
    found = next(m.distributions(name=name), None)
    if found: print(name, found.version)
";

/// The program `python` stands for, when it has the packages that a reference needs; says which they are.
///
/// # Errors
/// When it cannot be run, or a package is missing or too old: what was found and what is needed.
pub fn checked(python: &Path, with_peft: bool) -> Result<PathBuf> {
    let program = program(python);
    let needed: Vec<_> = NEEDED.into_iter().chain(with_peft.then_some(PEFT)).collect();
    let mut ask = Command::new(&program);
    ask.args(["-c", ASK])
        .args(needed.iter().map(|(name, _)| name))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = child::output(&mut ask)
        .with_context(|| format!("--python {}: it cannot be started", python.display()))?;
    ensure!(output.status.success(), "--python {}: it is no Python 3 ({})", python.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let found: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let wrong: Vec<String> = needed.iter().filter_map(|needed| problem(&found, *needed)).collect();
    if !wrong.is_empty() {
        bail!("--python {}: {}", python.display(), wrong.join("; "));
    }
    let told: Vec<String> = needed.iter().map(|(name, _)| format!("{name} {}", found[name])).collect();
    eprintln!("xtask: --python {}: {}", program.display(), told.join(", "));
    Ok(program)
}

/// The program in the folder of a virtual environment, or what was given.
fn program(python: &Path) -> PathBuf {
    let inside = python.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if inside.is_file() { inside } else { python.into() }
}

/// What is wrong with a package; nothing when it is new enough.
fn problem(found: &BTreeMap<&str, &str>, (name, [major, minor]): (&str, [u32; 2])) -> Option<String> {
    let needed = format!("{major}.{minor} or newer is needed");
    let Some(version) = found.get(name) else {
        return Some(format!("{name} is not installed, {needed}"));
    };
    let numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let old = numbers.take(2).lt([major, minor]);
    old.then(|| format!("{name} {version} was found, {needed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_too_old_is_said_with_what_is_needed() {
        let found = BTreeMap::from([("transformers", "4.57.6"), ("torch", "2.10.0+cpu"), ("numpy", "2.2.6")]);
        let said = |name| problem(&found, (name, [5, 0]));
        assert_eq!(said("transformers").unwrap(), "transformers 4.57.6 was found, 5.0 or newer is needed");
        assert_eq!(said("peft").unwrap(), "peft is not installed, 5.0 or newer is needed");
        assert_eq!(problem(&found, ("torch", [2, 4])), None);
        assert_eq!(problem(&found, ("numpy", [2, 2])), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_python_is_asked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let python = folder.path().join("bin/python");
        let answers = |lines: &str| {
            std::fs::write(&python, format!("#!/bin/sh\nprintf '{lines}'\n")).unwrap();
            std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
            checked(folder.path(), false).map_err(|error| error.to_string())
        };
        let good = "python 3.12.1\\ntorch 2.9.0\\ntransformers 5.23.0\\nnumpy 2.2.6\\nsafetensors 0.8.0\\n";
        assert_eq!(answers(good).unwrap(), python);
        let old = answers(&good.replace("5.23.0", "4.30.1").replace("torch 2.9.0\\n", "")).unwrap_err();
        assert!(old.ends_with(
            ": torch is not installed, 2.4 or newer is needed; transformers 4.30.1 was found, 5.10 or newer is needed"
        ));
        assert!(checked(&folder.path().join("absent"), false).unwrap_err().to_string().contains("absent"));
    }
}
