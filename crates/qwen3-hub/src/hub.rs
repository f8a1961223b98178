//! A model's folder: from the cache, or downloaded.

use std::io;
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder};

use crate::fetch::{Event, Fetcher};
use crate::lock::Lock;
use crate::model::is_part;
use crate::{HubError, HubModel};

const CONFIG: &str = "config.json";
/// The weights, where they are one file.
pub const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
/// The index of the shards that they are otherwise.
pub const INDEX: &str = "model.safetensors.index.json";

/// The files beside the weights that make text of tokens; `config.json` has stop tokens too.
pub const TEXT_FILES: [&str; 5] =
    [CONFIG, TOKENIZER, "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// What of a model is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Tokenizer and templates.
    Texts,
    /// Those and the weights.
    Weights,
}

/// The hub and this machine's cache of it.
#[derive(Clone, Debug)]
pub struct Hub {
    cache: Cache,
    endpoint: Option<String>,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    /// As the environment has it: `HF_HUB_CACHE` or `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` or what the hub's programs
    /// have kept, and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let cache = match std::env::var_os("HF_HUB_CACHE").filter(|path| !path.is_empty()) {
            Some(path) => Cache::new(path.into()),
            None => Cache::from_env(),
        };
        let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
        Self {
            token: std::env::var("HF_TOKEN").ok().or_else(|| cache.token()),
            endpoint: std::env::var("HF_ENDPOINT").ok(),
            offline: !matches!(&offline[..], "" | "0"),
            cache,
        }
    }

    /// The cache's folder.
    pub fn cache_folder(&self) -> &Path {
        self.cache.path()
    }

    /// The folder, in the cache, of what was not downloaded to its end.
    pub fn unfinished_folder(&self) -> PathBuf {
        self.cache.path().join(".qwen3-unfinished")
    }

    /// The folder of a model: from the cache if it has all that is needed, and downloaded otherwise, into
    /// [`unfinished_folder`](Self::unfinished_folder) first.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn folder(
        &self,
        model: &HubModel,
        need: Need,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<PathBuf, HubError> {
        let download = || self.download(model, need, || Ok(self.unfinished_folder()), tell);
        self.cached(model, need).map_or_else(download, Ok)
    }

    /// The folder of a model in the cache, if that has all that is needed. Nobody is asked.
    pub fn cached(&self, model: &HubModel, need: Need) -> Option<PathBuf> {
        let cached = self.cache.repo(model.repo());
        complete(need, |file| cached.get(file))
    }

    /// The folder of a model in the state that the hub has now; what the cache lacks of it is downloaded. Files lie
    /// in the folder that `apart` makes when the hub has answered, of the cache's file system, until they are known to be whole. What is there of an
    /// earlier download is gone on with, if the server sends parts of files, and the folder has nothing of the model
    /// when it is done. Processes that download a model into the same folder wait for each other.
    ///
    /// # Errors
    /// When the environment forbids it or the hub does not answer; when a file breaks off or comes damaged twice;
    /// when the cache cannot be written.
    pub fn download(
        &self,
        model: &HubModel,
        need: Need,
        apart: impl FnOnce() -> io::Result<PathBuf>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<PathBuf, HubError> {
        if self.offline {
            return Err(HubError::Offline);
        }
        let repo = model.repo();
        let info = self.api(self.cache.clone())?.repo(repo.clone()).info();
        let info = info.map_err(|source| HubError::List { model: model.to_string(), source })?;
        if !is_part(&info.sha) {
            return Err(HubError::Snapshot { model: model.to_string(), found: info.sha });
        }
        let has = |file: &str| info.siblings.iter().any(|sibling| sibling.rfilename == file);
        let apart = &apart().map_err(HubError::cache(self.cache.path(), "written to"))?;
        let _lock = Lock::take(apart, &repo.folder_name(), tell)?;
        let mut fetcher = Fetcher {
            api: self.api(Cache::new(apart.clone()))?,
            model,
            apart,
            snapshot: &info.sha,
            cache: self.cache.repo(repo),
            tell,
        };
        let config = fetcher.have(CONFIG)?;
        if need == Need::Weights {
            if has(WEIGHTS) {
                fetcher.have(WEIGHTS)?;
            } else {
                for shard in shards(&fetcher.have(INDEX)?)? {
                    if !has(&shard) || shard.contains(['/', '\\']) {
                        return Err(unsound(format!("{shard:?} is not a file of {}", model.name())));
                    }
                    fetcher.have(&shard)?;
                }
            }
        }
        // The tokenizer comes last: a snapshot counts as complete when it is there.
        let texts = TEXT_FILES.into_iter().filter(|file| *file != TOKENIZER);
        for file in texts.chain([TOKENIZER]).filter(|file| has(file)) {
            fetcher.have(file)?;
        }
        fetcher.clear()?;
        Ok(config.parent().map_or(PathBuf::new(), Path::to_path_buf))
    }

    /// What to do without a network, a few lines.
    pub fn by_hand(&self, model: &HubModel) -> String {
        let (name, revision) = (model.name(), model.revision());
        let place = self.cache.path().join(model.repo().folder_name());
        format!(
            "Without a network, fetch config.json, generation_config.json, tokenizer.json, \
             tokenizer_config.json and\nmodel.safetensors (or model.safetensors.index.json and the shards \
             it names) from\nhttps://huggingface.co/{name}/tree/{revision} on another machine, place them \
             in one folder and pass --model FOLDER;\nor place them in {}\nand run: printf {revision} > {}",
            place.join("snapshots").join(revision).display(),
            place.join("refs").join(revision).display(),
        )
    }

    /// The hub's client with a cache.
    fn api(&self, cache: Cache) -> Result<Api, HubError> {
        let builder = ApiBuilder::from_cache(cache).with_progress(false).with_token(self.token.clone());
        let builder = match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.clone()),
            None => builder,
        };
        builder.build().map_err(HubError::Client)
    }
}

/// The folder that holds what is needed, if `get` has all of it.
fn complete(need: Need, get: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let config = get(CONFIG)?;
    get(TOKENIZER)?;
    let found = match need {
        Need::Texts => true,
        Need::Weights if get(WEIGHTS).is_some() => true,
        Need::Weights => {
            let shards = shards(&get(INDEX)?).ok()?;
            shards.iter().all(|shard| get(shard).is_some())
        }
    };
    found.then(|| config.parent().map(Path::to_path_buf))?
}

/// The shards that an index names, each once.
fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let text = std::fs::read_to_string(index).map_err(HubError::cache(index, "read"))?;
    let index: serde_json::Value = serde_json::from_str(&text).map_err(|error| unsound(error.to_string()))?;
    let map = index["weight_map"].as_object();
    let files = map.ok_or_else(|| unsound("the index has no `weight_map`".into()))?.values();
    let mut files: Vec<_> = files.filter_map(|file| file.as_str().map(String::from)).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// That the index of shards is not sound.
fn unsound(problem: String) -> HubError {
    HubError::Index { file: INDEX.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_when_it_has_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let get = |file: &str| Some(folder.path().join(file)).filter(|path| path.is_file());
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        write(CONFIG, "{}");
        assert_eq!(complete(Need::Texts, get), None);
        write(TOKENIZER, "{}");
        assert_eq!(complete(Need::Texts, get).as_deref(), Some(folder.path()));
        write(INDEX, r#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}"#);
        assert_eq!(complete(Need::Weights, get), None);
        write("1.safetensors", "");
        assert_eq!(complete(Need::Weights, get).as_deref(), Some(folder.path()));
    }
}
