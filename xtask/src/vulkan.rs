//! A Vulkan driver for the wgpu backend: Mesa's software driver, where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::{env_path, on_path, run_for_set_up};

const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// What there is to do for a Vulkan driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// A driver is installed, or this system needs none (Metal, Direct3D).
    Nothing,
    /// apt-get can bring one, and this process may run it.
    Apt,
    /// The user has to: how.
    ByHand(&'static str),
}

/// Looks at this machine.
pub fn need() -> Need {
    if !cfg!(target_os = "linux") || has_driver() {
        return Need::Nothing;
    }
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let debian = is_debian(&os_release) && on_path("apt-get").is_some();
    without_driver(debian, is_root(&status))
}

/// Installs the software driver where that is possible without asking, and says what it does.
///
/// Errors when there is no driver and none can be installed; the message has the command to run.
pub fn ensure() -> Result<()> {
    match need() {
        Need::Nothing => Ok(()),
        Need::ByHand(how) => bail!("no Vulkan driver is installed; {how}"),
        Need::Apt => install(),
    }
}

fn without_driver(debian: bool, root: bool) -> Need {
    match (debian, root) {
        (true, true) => Need::Apt,
        (true, false) => {
            Need::ByHand("run: sudo apt-get install --no-install-recommends mesa-vulkan-drivers libvulkan1")
        }
        (false, _) => Need::ByHand(
            "install your GPU's, or Mesa's software driver (Fedora: dnf install mesa-vulkan-drivers vulkan-loader; \
             Arch: pacman -S vulkan-swrast vulkan-icd-loader)",
        ),
    }
}

/// Package lists may be absent (containers) or out of date (a file is gone): then they are brought first.
fn install() -> Result<()> {
    eprintln!("xtask: installing Mesa's software Vulkan driver: apt-get install {}", PACKAGES.join(" "));
    if has_package_lists() && apt_install().is_ok() {
        return Ok(());
    }
    run_for_set_up(apt().arg("update"))?;
    apt_install()
}

fn apt_install() -> Result<()> {
    run_for_set_up(apt().args(["install", "-y", "--no-install-recommends"]).args(PACKAGES))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30"]);
    apt
}

fn has_package_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists")
        .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_package_list(&file.path()))))
}

fn is_package_list(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().contains("_Packages"))
}

fn has_driver() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|variable| env_path(variable).is_some());
    let home = env_path("XDG_DATA_HOME").or_else(|| env_path("HOME").map(|home| home.join(".local/share")));
    let folders = ["/usr/share", "/etc", "/usr/local/share", "/usr/local/etc"].map(PathBuf::from);
    named || folders.into_iter().chain(home).any(|folder| has_manifest(&folder.join("vulkan/icd.d")))
}

fn has_manifest(folder: &Path) -> bool {
    let is_json =
        |file: std::fs::DirEntry| file.path().extension().is_some_and(|extension| extension == "json");
    std::fs::read_dir(folder).is_ok_and(|mut files| files.any(|file| file.is_ok_and(is_json)))
}

/// Debian, Ubuntu and what is made from them, by `ID` and `ID_LIKE` of os-release.
fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .any(|id| id == "debian" || id == "ubuntu")
}

/// Whether the effective user id in /proc/self/status (`Uid: real effective saved file system`) is 0.
fn is_root(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_known() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nNAME=\"not debian\"\nVERSION_ID=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn root_is_the_effective_user() {
        assert!(is_root("Name:\txtask\nUid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n"));
        assert!(!is_root("Uid:\t0\t1000\t0\t0\n"));
        assert!(!is_root(""));
    }

    #[test]
    fn apt_runs_only_for_root_on_debian() {
        assert_eq!(without_driver(true, true), Need::Apt);
        assert!(
            matches!(without_driver(true, false), Need::ByHand(how) if how.contains("sudo apt-get install"))
        );
        assert!(matches!(without_driver(false, true), Need::ByHand(_)));
    }

    #[test]
    fn a_driver_is_a_json_file() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!has_manifest(&temp.path().join("absent")));
        std::fs::write(temp.path().join("README"), "").unwrap();
        assert!(!has_manifest(temp.path()));
        std::fs::write(temp.path().join("lvp_icd.x86_64.json"), "{}").unwrap();
        assert!(has_manifest(temp.path()));
    }

    #[test]
    fn package_lists_are_told_from_lock_files() {
        assert!(is_package_list(Path::new("/x/mirror_debian_dists_bookworm_main_binary-amd64_Packages.lz4")));
        assert!(!is_package_list(Path::new("/x/lock")));
    }
}
