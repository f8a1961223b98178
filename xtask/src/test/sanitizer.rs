//! The tests of the crate with unsafe code under the address sanitizer, where there is a nightly toolchain.

use std::process::Command;

use qwen3_command::child;

use crate::workspace::Workspace;

/// The tests, to be run; `None` where no toolchain that knows the sanitizer is installed.
pub fn tests(workspace: &Workspace) -> Option<Command> {
    let mut rustc = Command::new("rustup");
    let output = child::output(rustc.args(["run", "nightly", "rustc", "--version", "--verbose"])).ok()?;
    let host = output.status.success().then(|| host(&String::from_utf8_lossy(&output.stdout)))??;
    let mut command = workspace.command(Command::new("rustup"));
    command.args([
        "run",
        "nightly",
        "cargo",
        "test",
        "--release",
        "--no-fail-fast",
        "--package",
        "qwen3-cpu",
    ]);
    // With a target named, build scripts and macros are left as they are.
    command.args(["--lib", "--tests", "--target", &host]);
    // Of its own, so that nothing else is compiled again.
    command
        .env("CARGO_TARGET_DIR", workspace.target.join("sanitized"))
        .env("RUSTFLAGS", "-Zsanitizer=address");
    Some(command)
}

/// The platform that `rustc -vV` names, where it has the sanitizer.
fn host(version: &str) -> Option<String> {
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    ["linux-gnu", "apple-darwin"].iter().any(|system| host.ends_with(system)).then(|| host.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_read() {
        let version = |host| format!("rustc 1.97.0-nightly\nbinary: rustc\nhost: {host}\nrelease: 1.97.0\n");
        let linux = "x86_64-unknown-linux-gnu";
        assert_eq!(host(&version(linux)).as_deref(), Some(linux));
        assert_eq!(host(&version("x86_64-pc-windows-msvc")), None);
        assert_eq!(host(""), None);
    }
}
