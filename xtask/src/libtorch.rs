//! A CPU libtorch for the tch backend, taken from PyTorch's wheels without the 4 GB of CUDA beside it.

mod install;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Lock};
use crate::workspace::{env_path, on_path};

/// What a finished folder holds. A change of the recipe gets a new number, and is then made again.
const STAMP: &str = "PyTorch 2.9.0, CPU parts for Linux x86-64, recipe 1\n";

/// The libraries of a finished folder.
const LIBRARIES: [&str; 6] =
    ["libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.12", "libcudart.so.12"];

/// Three headers that stand for the rest.
const HEADERS: [&str; 3] = ["torch/csrc/api/include/torch/torch.h", "ATen/ATen.h", "c10/core/Device.h"];

/// A libtorch that is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// Its folder, free of symbolic links, with `lib` and `include` in it.
    pub folder: PathBuf,
    /// Whether it is the user's own rather than one that `cargo xtask setup` made.
    pub users_own: bool,
}

/// The libtorch to build with, if there is one; nothing is downloaded.
///
/// In this order: the user's own `LIBTORCH`; a folder or link `.libtorch` that the user made in the repository;
/// the one in the user's cache directory, to which `.libtorch` is then made to lead.
/// Errors when `LIBTORCH` names a folder without libtorch.
pub fn find(root: &Path) -> Result<Option<Libtorch>> {
    let link = root.join(".libtorch");
    let cached = cached_folder()?;
    if let Some(own) = users_own(env_path("LIBTORCH"), &[&link, &cached]) {
        let folder = with_libraries(&own).with_context(|| {
            format!(
                "LIBTORCH is set to {}, where there is no lib/libtorch; unset it or correct it",
                own.display()
            )
        })?;
        return Ok(Some(Libtorch { folder, users_own: true }));
    }
    if let Some(folder) =
        link.canonicalize().ok().filter(|folder| !in_cache(folder)).and_then(|it| with_libraries(&it))
    {
        return Ok(Some(Libtorch { folder, users_own: true }));
    }
    if !is_finished(&cached) {
        return Ok(None);
    }
    point(&link, &cached)?;
    Ok(Some(Libtorch { folder: cached.canonicalize()?, users_own: false }))
}

/// The libtorch to build with, downloaded first when there is none.
///
/// Errors when this machine is not Linux on x86-64, or the download fails.
pub fn ensure(root: &Path) -> Result<Libtorch> {
    if let Some(found) = find(root)? {
        return Ok(found);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "libtorch is set up for Linux on x86-64 only. Here, unpack PyTorch 2.9.0's libtorch and set LIBTORCH \
             to its folder (the one with lib and include in it)"
        );
    }
    let folder = cached_folder()?;
    let _lock = Lock::take(&folder)?;
    // Another process may have made it while this one waited.
    if !is_finished(&folder) {
        install::install(root, &folder)?;
    }
    point(&root.join(".libtorch"), &folder)?;
    Ok(Libtorch { folder: folder.canonicalize()?, users_own: false })
}

/// The C++ compiler that torch-sys needs. Errors with the command to run when there is none.
pub fn require_cxx() -> Result<()> {
    let found =
        env_path("CXX").is_some() || cfg!(windows) || ["c++", "g++", "clang++"].into_iter().any(in_path);
    if !found {
        bail!("the tch backend needs a C++ compiler (Debian: apt-get install g++), or CXX set to one");
    }
    Ok(())
}

fn in_path(program: &str) -> bool {
    on_path(program).is_some()
}

/// Whether a folder is one that this program made, of this version or another.
fn in_cache(folder: &Path) -> bool {
    cache::folder().and_then(|cache| Ok(cache.canonicalize()?)).is_ok_and(|cache| folder.starts_with(cache))
}

fn cached_folder() -> Result<PathBuf> {
    Ok(cache::folder()?.join("libtorch-2.9.0-cpu"))
}

/// A `LIBTORCH` that is not `ours`: .cargo/config.toml sets it to the repository's `.libtorch` for every
/// program that cargo runs, unless the user has set it.
fn users_own(libtorch: Option<PathBuf>, ours: &[&Path]) -> Option<PathBuf> {
    let same = |a: &Path, b: &Path| {
        a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
    };
    libtorch.filter(|folder| !ours.iter().any(|our| same(folder, our)))
}

/// The folder without symbolic links, if libtorch's libraries are in it, for whichever system.
fn with_libraries(folder: &Path) -> Option<PathBuf> {
    let names = ["libtorch.so", "libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.lib"];
    let there = names.iter().any(|name| folder.join("lib").join(name).is_file());
    if there { folder.canonicalize().ok() } else { None }
}

/// Milliseconds: a stamp, which is written last, and nine files that are there and not empty.
fn is_finished(folder: &Path) -> bool {
    cache::is_complete(folder, STAMP) && missing_file(folder).is_none()
}

fn missing_file(folder: &Path) -> Option<PathBuf> {
    let libraries = LIBRARIES.map(|name| folder.join("lib").join(name));
    let headers = HEADERS.map(|name| folder.join("include").join(name));
    let is_there = |file: &PathBuf| fs::metadata(file).is_ok_and(|data| data.is_file() && data.len() > 0);
    libraries.into_iter().chain(headers).find(|file| !is_there(file))
}

/// Makes `link` lead to `folder`, in one step. A real folder of that name is the user's and stays.
#[cfg(unix)]
fn point(link: &Path, folder: &Path) -> Result<()> {
    let leads_there = fs::read_link(link).is_ok_and(|target| target == folder);
    let is_folder = fs::symlink_metadata(link).is_ok_and(|data| !data.is_symlink());
    if leads_there || is_folder {
        return Ok(());
    }
    let new = link.with_added_extension(std::process::id().to_string());
    std::os::unix::fs::symlink(folder, &new)
        .and_then(|()| fs::rename(&new, link))
        .with_context(|| format!("{} cannot be made to lead to {}", link.display(), folder.display()))
}

#[cfg(not(unix))]
fn point(_link: &Path, _folder: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_config_sets_is_not_the_users_own() {
        let link = Path::new("/repo/.libtorch");
        let cached = Path::new("/home/user/.cache/qwen3-burn/libtorch-2.9.0-cpu");
        let ours = [link, cached];
        assert_eq!(users_own(None, &ours), None);
        assert_eq!(users_own(Some(link.into()), &ours), None);
        assert_eq!(users_own(Some("/repo/./.libtorch/".into()), &ours), None);
        assert_eq!(users_own(Some(cached.into()), &ours), None);
        assert_eq!(users_own(Some("/opt/libtorch".into()), &ours), Some("/opt/libtorch".into()));
    }

    #[cfg(unix)]
    #[test]
    fn another_way_to_the_same_folder_is_not_the_users_own() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, link, other) = (temp.path().join("a"), temp.path().join("b"), temp.path().join("c"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        point(&link, &folder).unwrap();
        assert_eq!(users_own(Some(folder.clone()), &[&link]), None);
        point(&link, &other).unwrap();
        assert_eq!(users_own(Some(folder.clone()), &[&link]), Some(folder));
    }

    #[cfg(unix)]
    #[test]
    fn a_real_folder_is_not_replaced_with_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(".libtorch");
        fs::create_dir(&folder).unwrap();
        point(&folder, Path::new("/elsewhere")).unwrap();
        assert!(!fs::symlink_metadata(&folder).unwrap().is_symlink());
    }

    #[test]
    fn an_empty_or_absent_file_is_not_finished() {
        let temp = tempfile::tempdir().unwrap();
        let files = LIBRARIES.map(|name| format!("lib/{name}")).into_iter();
        let files: Vec<_> = files.chain(HEADERS.map(|name| format!("include/{name}"))).collect();
        for file in &files {
            let file = temp.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        assert!(!is_finished(temp.path()), "no stamp yet");
        cache::complete(temp.path(), STAMP).unwrap();
        assert!(is_finished(temp.path()));
        fs::write(temp.path().join(&files[1]), "").unwrap();
        assert!(!is_finished(temp.path()));
    }

    #[test]
    fn the_requirements_pin_what_the_stamp_says() {
        let requirements = include_str!("../libtorch-requirements.txt");
        let pins = requirements.lines().filter(|line| !line.starts_with('#'));
        assert!(
            pins.clone().count() == 3
                && pins.clone().all(|line| line.contains("==") && line.contains("sha256:"))
        );
        assert!(requirements.contains("torch==2.9.0 ") && STAMP.contains("PyTorch 2.9.0,"));
    }
}
