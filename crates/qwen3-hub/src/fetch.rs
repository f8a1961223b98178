//! One file from the hub, as the hub describes it, or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, CacheRepo};

use crate::check::{Compared, compare};
use crate::model::is_part;
use crate::{HubError, HubModel};

/// How often a file is asked for that comes damaged or not to its end.
const TRIES: usize = 2;

/// What happens while a model is downloaded, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Another process downloads this model into the same folder, and is waited for.
    Waiting,
    /// So much of a file is there; its first event has what an earlier download left of it.
    Read {
        /// The file's name, as the hub has it.
        file: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// No more of this file will come now.
    Ended {
        /// The file's name.
        file: &'a str,
    },
    /// The hub names no hash of a file: its size alone was compared.
    Unhashed {
        /// The file's name.
        file: &'a str,
    },
}

/// Brings files of one snapshot into the cache.
pub struct Fetcher<'a> {
    /// The hub, with a cache of its own in [`apart`](Self::apart).
    pub api: Api,
    /// The model.
    pub model: &'a HubModel,
    /// Where files are until they are known to be whole.
    pub apart: &'a Path,
    /// The snapshot.
    pub snapshot: &'a str,
    /// The model's place in the cache.
    pub cache: CacheRepo,
    /// Hears what happens.
    pub tell: &'a mut dyn FnMut(Event<'_>),
}

impl Fetcher<'_> {
    /// The file, from the cache or the hub.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn have(&mut self, file: &str) -> Result<PathBuf, HubError> {
        self.cached(file).map_or_else(|| self.fetch(file), Ok)
    }

    /// The file, if the cache has it: those of an older snapshot must not be mixed with this one's.
    fn cached(&self, file: &str) -> Option<PathBuf> {
        let path = self.cache.get(file)?;
        let snapshot = path.parent()?.file_name()?;
        (snapshot == self.snapshot).then_some(path)
    }

    /// Downloads the file, compares its size and its hash with the hub's, and places it in the cache. What breaks off
    /// is gone on with once more, and what comes damaged is deleted and asked for once more.
    fn fetch(&mut self, file: &str) -> Result<PathBuf, HubError> {
        let repo = self.api.repo(self.model.repo());
        let failed = |source| HubError::File { file: file.into(), source };
        let metadata = self.api.metadata(&repo.url(file)).map_err(failed)?;
        let (etag, commit) = (metadata.etag(), metadata.commit_hash());
        // Both become names of files.
        if !is_part(etag) {
            return Err(HubError::Etag { file: file.into(), found: etag.into() });
        }
        if commit != self.snapshot {
            let (expected, found) = (self.snapshot.into(), commit.into());
            return Err(HubError::Moved { file: file.into(), expected, found });
        }
        let mut tries = 0;
        let whole = loop {
            let left = self.left(file, &metadata)?;
            let came = match &left {
                Left::Whole(path) => Ok(path.clone()),
                _ => self.come(&repo, file).map_err(failed),
            };
            let problem = match came {
                Ok(path) => match compare(&path, &metadata)? {
                    Compared::Same => break path,
                    Compared::SameSize => {
                        (self.tell)(Event::Unhashed { file });
                        break path;
                    }
                    Compared::Differs(found) => {
                        self.clear()?;
                        // What was left of an earlier try is to blame first: this one does not count.
                        if left != Left::Nothing {
                            continue;
                        }
                        HubError::Damaged { file: file.into(), tries: TRIES, found }
                    }
                },
                Err(error) => error,
            };
            tries += 1;
            if tries == TRIES {
                return Err(problem);
            }
        };
        self.place(&whole, file, &metadata)
    }

    /// What an earlier try left of the file; a part that is no part, as long as the whole, is removed.
    fn left(&self, file: &str, metadata: &Metadata) -> Result<Left, HubError> {
        let apart = Cache::new(self.apart.into()).repo(self.model.repo());
        let whole = apart.pointer_path(self.snapshot).join(file);
        if whole.is_file() {
            return Ok(Left::Whole(whole));
        }
        // As the hub's client calls it.
        let part = apart.blob_path(metadata.etag()).with_extension("part");
        match part.metadata().map_or(0, |part| part.len()) {
            0 => Ok(Left::Nothing),
            length if length < metadata.size() as u64 => Ok(Left::Part),
            _ => fs::remove_file(&part).map_err(HubError::cache(part, "removed")).map(|()| Left::Nothing),
        }
    }

    /// Downloads the file, or the rest of it.
    fn come(&mut self, repo: &ApiRepo, file: &str) -> Result<PathBuf, ApiError> {
        let came = repo.download_with_progress(file, Told { file, done: 0, total: 0, tell: &mut *self.tell });
        (self.tell)(Event::Ended { file });
        came
    }

    /// Moves a file that is whole into the cache, as the hub's own programs lay it out.
    fn place(&self, whole: &Path, file: &str, metadata: &Metadata) -> Result<PathBuf, HubError> {
        let blob = self.cache.blob_path(metadata.etag());
        let pointer = self.cache.pointer_path(metadata.commit_hash()).join(file);
        let place = || -> io::Result<()> {
            for path in [&blob, &pointer] {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
            }
            let from = fs::canonicalize(whole)?;
            if pointer.symlink_metadata().is_ok() {
                fs::remove_file(&pointer)?;
            }
            if cfg!(unix) {
                fs::rename(from, &blob)?;
                #[cfg(unix)]
                std::os::unix::fs::symlink(Path::new("../../blobs").join(metadata.etag()), &pointer)?;
            } else {
                fs::rename(from, &pointer)?;
            }
            self.cache.create_ref(metadata.commit_hash())
        };
        place().map_err(HubError::cache(&pointer, "written"))?;
        Ok(pointer)
    }

    /// Removes all of the model that is not in the cache.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<(), HubError> {
        let folder = self.apart.join(self.model.repo().folder_name());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HubError::cache(folder, "removed")(error))
            }
            _ => Ok(()),
        }
    }
}

/// What an earlier try left of a file.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Part,
    /// All of it, here.
    Whole(PathBuf),
}

/// What the hub's client reports, as events.
struct Told<'a> {
    file: &'a str,
    done: u64,
    total: u64,
    tell: &'a mut dyn FnMut(Event<'_>),
}

impl Progress for Told<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.tell)(Event::Read { file: self.file, done: self.done, total: self.total });
    }

    fn finish(&mut self) {}
}
