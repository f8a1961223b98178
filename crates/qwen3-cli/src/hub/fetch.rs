//! One file from the hub, as the hub describes it, or none.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hf_hub::CacheRepo;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, Metadata};
use indicatif::ProgressBar;
use qwen3_command::printable;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::failure::note;
use crate::progress;

/// How often a file is asked for that comes damaged or not to its end.
const TRIES: usize = 2;

/// What came is not what the hub describes.
#[derive(Debug)]
pub struct Damaged {
    file: String,
    found: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was downloaded {TRIES} times and is damaged each time: {}", self.file, self.found)
    }
}

impl std::error::Error for Damaged {}

/// Brings files of one snapshot into the cache.
pub struct Fetcher<'a> {
    /// The hub, with a cache of its own in [`apart`](Self::apart).
    pub api: Api,
    /// The model.
    pub name: &'a str,
    /// Where files are until they are known to be whole.
    pub apart: &'a Path,
    /// The snapshot.
    pub snapshot: &'a str,
    /// The model's place in the cache.
    pub cache: CacheRepo,
}

impl Fetcher<'_> {
    /// The file, if the cache has it: those of an older snapshot must not be mixed with this one's.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        let path = self.cache.get(file)?;
        let snapshot = path.parent()?.file_name()?;
        (snapshot == self.snapshot).then_some(path)
    }

    /// Downloads the file, compares its size and its hash with the hub's, and places it in the cache. What comes
    /// short or damaged is deleted and asked for once more.
    ///
    /// # Errors
    /// [`Damaged`] when it comes damaged again; when the hub does not answer, or breaks off again.
    pub fn fetch(&self, file: &str) -> Result<PathBuf> {
        let repo = self.api.model(self.name.into());
        let metadata = self.api.metadata(&repo.url(file)).with_context(|| file.to_string())?;
        let (etag, commit) = (metadata.etag(), metadata.commit_hash());
        // Both become names of files.
        ensure!(is_plain(etag), "{file}: the hub's etag is {etag:?}");
        ensure!(commit == self.snapshot, "{file}: the hub has {commit:?} now; it had {:?}", self.snapshot);
        let mut tries = 0;
        let whole = loop {
            tries += 1;
            let bar = Bar(progress::bytes(&printable(file), 0));
            let came = repo.download_with_progress(file, bar).with_context(|| file.to_string());
            let problem = match came.and_then(|path| Ok((check(&path, &metadata)?, path))) {
                Ok((None, path)) => break path,
                Ok((Some(found), _)) => Damaged { file: file.into(), found }.into(),
                Err(error) => error,
            };
            clear(self.apart)?;
            if tries == TRIES {
                return Err(problem);
            }
        };
        self.place(&whole, file, &metadata)
    }

    /// Moves a file that is whole into the cache, as the hub's own programs lay it out.
    fn place(&self, whole: &Path, file: &str, metadata: &Metadata) -> Result<PathBuf> {
        let blob = self.cache.blob_path(metadata.etag());
        let pointer = self.cache.pointer_path(metadata.commit_hash()).join(file);
        let place = || -> io::Result<()> {
            for path in [&blob, &pointer] {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
            }
            let whole = fs::canonicalize(whole)?;
            if pointer.symlink_metadata().is_ok() {
                fs::remove_file(&pointer)?;
            }
            if cfg!(unix) {
                fs::rename(whole, &blob)?;
                #[cfg(unix)]
                std::os::unix::fs::symlink(Path::new("../../blobs").join(metadata.etag()), &pointer)?;
            } else {
                fs::rename(whole, &pointer)?;
            }
            self.cache.create_ref(metadata.commit_hash())
        };
        place().with_context(|| format!("{} cannot be written", pointer.display()))?;
        Ok(pointer)
    }
}

/// Is it a plain name: no path, nothing hidden, nothing for a terminal?
pub fn is_plain(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(known)
}

/// What of a file is not as the hub describes it. An etag is the SHA-256 of large files, and Git's hash of others.
fn check(path: &Path, metadata: &Metadata) -> Result<Option<String>> {
    let failed = || path.display().to_string();
    let mut file = File::open(path).with_context(failed)?;
    let size = file.metadata().with_context(failed)?.len();
    if size != metadata.size() as u64 {
        return Ok(Some(format!("{size} bytes, the hub says {}", metadata.size())));
    }
    let etag = metadata.etag();
    let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (sort, found) = match etag.len() {
        64 if hexadecimal => ("SHA-256", hash(Sha256::new(), &mut file).with_context(failed)?),
        40 if hexadecimal => {
            let blob = Sha1::new_with_prefix(format!("blob {size}\0"));
            ("Git's hash", hash(blob, &mut file).with_context(failed)?)
        }
        _ => {
            note("note: the hub names no hash of a file; its size alone is compared");
            return Ok(None);
        }
    };
    let same = found.eq_ignore_ascii_case(etag);
    Ok((!same).then(|| format!("its {sort} is {found}, the hub says {etag}")))
}

fn hash<D: Digest + io::Write>(mut digest: D, file: &mut File) -> io::Result<String> {
    io::copy(file, &mut digest)?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes everything in a folder.
fn clear(folder: &Path) -> Result<()> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    };
    remove().with_context(|| format!("{} cannot be emptied", folder.display()))
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn init(&mut self, size: usize, _: &str) {
        self.0.set_length(size as u64);
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {
        self.0.finish_and_clear();
    }
}
