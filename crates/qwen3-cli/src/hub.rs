//! Models by their name on the Hugging Face hub.

mod fetch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo};
use qwen3_command::{Temporary, line, printable};

use self::fetch::{Damaged, Fetcher, is_plain};
use crate::failure::{bad_input, note};
use crate::files::{Need, TEXT_FILES};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const INDEX: &str = "model.safetensors.index.json";

/// Could this be a name on the hub, `owner/model`?
pub fn is_name(text: &str) -> bool {
    let plain = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(known) && !part.starts_with('.')
    };
    matches!(text.split('/').collect::<Vec<_>>()[..], [owner, model] if plain(owner) && plain(model))
}

/// The folder of a model in the hub's cache, what is missing of it downloaded first.
///
/// # Errors
/// When it is not in the cache and cannot be downloaded; the text says which files to place where.
pub fn folder(name: &str, need: Need) -> Result<PathBuf> {
    let cache = cache();
    let cached = cache.model(name.into());
    if let Some(folder) = complete(need, |file| cached.get(file)) {
        return Ok(folder);
    }
    download(name, need, &cache).map_err(|error| {
        if error.is::<Damaged>() {
            return bad_input(format!("{name}: {}", line(&error)));
        }
        let repo = Repo::model(name.into()).folder_name();
        let place = cache.path().join(repo).join("snapshots").join("main");
        note(&format!(
            "Without a network, fetch config.json, generation_config.json, tokenizer.json, \
             tokenizer_config.json and\nmodel.safetensors (or model.safetensors.index.json and the shards \
             it names) from\nhttps://huggingface.co/{name}/tree/main on another machine, place them \
             in one folder and pass --model FOLDER;\nor place them in {}\nand run: printf main > {}",
            printable(&place.display().to_string()),
            printable(&place.with_file_name("").with_file_name("refs").join("main").display().to_string())
        ));
        bad_input(format!(
            "{name} is neither a folder nor a file, it is not in the cache, and it cannot be downloaded: {}",
            line(&error)
        ))
    })
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

/// The standard cache, where the environment says it is.
fn cache() -> Cache {
    match std::env::var_os("HF_HUB_CACHE").filter(|path| !path.is_empty()) {
        Some(path) => Cache::new(path.into()),
        None => Cache::from_env(),
    }
}

fn download(name: &str, need: Need, cache: &Cache) -> Result<PathBuf> {
    let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ensure!(matches!(&offline[..], "" | "0"), "HF_HUB_OFFLINE is set");
    let token = std::env::var("HF_TOKEN").ok().or_else(|| cache.token());
    let build = |cache: Cache| {
        let mut builder = ApiBuilder::from_cache(cache).with_progress(false).with_token(token.clone());
        if let Ok(endpoint) = std::env::var("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build()
    };
    let info = build(cache.clone())?.model(name.into()).info();
    let info = info.with_context(|| format!("the hub cannot list {name}"))?;
    ensure!(is_plain(&info.sha), "the hub calls the snapshot of {name} {:?}", info.sha);
    let has = |file: &str| {
        let mut files = info.siblings.iter();
        files.any(|sibling| sibling.rfilename == file)
    };
    // Only what is whole comes out of this folder into the cache.
    let make = std::fs::create_dir_all(cache.path());
    let apart = make.and_then(|()| Temporary::inside(cache.path(), ".qwen3-download-"));
    let apart = apart.with_context(|| format!("{} cannot be written to", cache.path().display()))?;
    let fetcher = Fetcher {
        api: build(Cache::new(apart.path().into()))?,
        name,
        apart: apart.path(),
        snapshot: &info.sha,
        cache: cache.model(name.into()),
    };
    let fetch = |file: &str| fetcher.cached(file).map_or_else(|| fetcher.fetch(file), Ok);
    let config = fetch(CONFIG)?;
    if need == Need::Weights {
        if has(WEIGHTS) {
            fetch(WEIGHTS)?;
        } else {
            for shard in shards(&fetch(INDEX)?)? {
                ensure!(
                    has(&shard) && !shard.contains(['/', '\\']),
                    "{INDEX}: {shard:?} is not a file of {name}"
                );
                fetch(&shard)?;
            }
        }
    }
    // The tokenizer comes last: a snapshot counts as complete when it is there.
    let texts = TEXT_FILES.into_iter().filter(|file| *file != TOKENIZER);
    for file in texts.chain([TOKENIZER]).filter(|file| has(file)) {
        fetch(file)?;
    }
    let folder = config.parent().context("the cache has no folder")?;
    Ok(folder.to_path_buf())
}

/// The shards that an index names, each once.
fn shards(index: &Path) -> Result<Vec<String>> {
    let index: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(index)?)?;
    let map = index["weight_map"].as_object();
    let files = map.context("the index has no `weight_map`")?.values();
    let mut files: Vec<_> = files.filter_map(|file| file.as_str().map(String::from)).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert!(is_name("Qwen/Qwen3-0.6B"));
        for path in ["Qwen3", "./Qwen3", "/a/b", "a/b/c", "../b", "a/", "a\\b/c"] {
            assert!(!is_name(path), "{path}");
        }
    }

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
