#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use qwen3_report::Kind;
use qwen3_trace::Precision;

use super::raw::{RawCase, RawManifest, Version};
use super::{Case, Data, Manifest, SCHEMA, Subject, TensorList, verify};
use crate::error::FixtureError;

/// Expected tensors without a noise floor: they are compared exactly or not at all.
const WITHOUT_FLOORS: [&str; 2] = ["generated_ids", "margins"];

/// Parses and checks the text of a manifest.
pub(super) fn manifest(file: &Path, root: PathBuf, text: &[u8]) -> Result<Manifest, FixtureError> {
    let json = |source| FixtureError::Json { file: file.into(), source };
    let Version { schema } = serde_json::from_slice(text).map_err(json)?;
    if schema.as_u64() != Some(SCHEMA) {
        return Err(FixtureError::Schema { file: file.into(), expected: SCHEMA, found: schema.to_string() });
    }
    let raw: RawManifest = serde_json::from_slice(text).map_err(json)?;

    let manifest = Manifest {
        file: file.into(),
        root,
        generator: serde_json::Value::Object(raw.generator),
        checkpoints: raw.checkpoints.0,
        files: raw.files.0,
        cases: Vec::new(),
    };
    entries(file, &manifest)?;
    for entry in &raw.observed {
        let files = [&entry.reference, &entry.file];
        listed(file, &manifest, &entry.id, &entry.checkpoint, files)?;
    }
    for entry in &raw.text {
        let files = [&entry.file].into_iter().chain(&entry.parameters);
        listed(file, &manifest, &entry.id, &entry.checkpoint, files)?;
    }
    if let Some(random) = raw.random.iter().find(|random| !manifest.files.contains_key(&random.file)) {
        let reason = "not listed among the files".into();
        return Err(FixtureError::Entry {
            file: file.into(),
            key: format!("random.{}", random.file),
            reason,
        });
    }
    let mut ids = BTreeSet::new();
    let mut cases = Vec::with_capacity(raw.cases.len());
    for case in raw.cases {
        if !ids.insert(case.id.clone()) {
            return Err(FixtureError::DuplicateCase { file: file.into(), case: case.id });
        }
        cases.push(self::case(file, &manifest, case)?);
    }
    Ok(Manifest { cases, ..manifest })
}

/// Checks the paths and hashes of checkpoints and files.
fn entries(file: &Path, manifest: &Manifest) -> Result<(), FixtureError> {
    let entry =
        |key: String, reason: &str| FixtureError::Entry { file: file.into(), key, reason: reason.into() };
    let hash = |hash: &str, key: String| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hash.len() == 64 && hash.bytes().all(hex) {
            return Ok(());
        }
        Err(entry(key, "not a SHA-256 in 64 lower-case hexadecimal digits"))
    };
    for (name, checkpoint) in &manifest.checkpoints {
        for ((path, files), of) in checkpoint.folders().zip(["", ".adapter"]) {
            let key = |file: &str| format!("checkpoints.{name}{of}.files.{file}");
            verify::plain(file, path)?;
            if files.is_empty() {
                return Err(entry(format!("checkpoints.{name}{of}.files"), "no files"));
            }
            for (name, sha256) in files {
                verify::plain(file, name)?;
                if name.contains('/') {
                    return Err(entry(key(name), "not a plain file name"));
                }
                hash(sha256, key(name))?;
            }
        }
    }
    for (path, sha256) in &manifest.files {
        verify::plain(file, path)?;
        hash(sha256, format!("files.{path}"))?;
    }
    Ok(())
}

/// Checks that what an entry of `observed` or `text` names is listed.
fn listed<'a>(
    file: &Path,
    manifest: &Manifest,
    id: &str,
    checkpoint: &str,
    files: impl IntoIterator<Item = &'a String>,
) -> Result<(), FixtureError> {
    let unlisted = files.into_iter().find(|file| !manifest.files.contains_key(*file));
    let reason = match unlisted {
        Some(file) => format!("file `{file}` is not listed"),
        None if manifest.checkpoints.contains_key(checkpoint) => return Ok(()),
        None => format!("checkpoint `{checkpoint}` is not listed"),
    };
    Err(FixtureError::Case { file: file.into(), case: id.into(), reason })
}

/// Checks one case against its kind and against what the manifest lists.
fn case(file: &Path, manifest: &Manifest, raw: RawCase) -> Result<Case, FixtureError> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == raw.kind) else {
        return Err(FixtureError::UnknownKind { file: file.into(), case: raw.id, kind: raw.kind });
    };
    let id = raw.id.clone();
    let checked = raw.into_case(kind).and_then(|case| {
        references(manifest, &case)?;
        sizes(&case)?;
        case.data().map_or(Ok(()), noise_floors)?;
        same_dtype(&case)?;
        expected_failures(&case)?;
        Ok(case)
    });
    checked.map_err(|reason| FixtureError::Case { file: file.into(), case: id, reason })
}

/// The id can be printed on a line, and what the case names is listed.
fn references(manifest: &Manifest, case: &Case) -> Result<(), String> {
    if case.id.trim().is_empty() || case.id.chars().any(char::is_control) {
        return Err("the id is empty or has control characters".into());
    }
    if let Some(name) = case.checkpoint()
        && !manifest.checkpoints.contains_key(name)
    {
        return Err(format!("checkpoint `{name}` is not listed"));
    }
    let lists = case.data().map(|data| [("inputs", &data.inputs), ("expected", &data.expected)]);
    for (role, TensorList { file, tensors }) in lists.into_iter().flatten() {
        if !manifest.files.contains_key(file) {
            return Err(format!("file `{file}` of `{role}` is not listed"));
        }
        if tensors.is_empty() {
            return Err(format!("`{role}` names no tensors"));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = tensors.iter().find(|name| !names.insert(*name)) {
            return Err(format!("`{role}` names tensor `{twice}` twice"));
        }
    }
    Ok(())
}

/// Heads and chunks are possible ones.
fn sizes(case: &Case) -> Result<(), String> {
    let attention = match &case.subject {
        Subject::Prefill { chunk_size: 0, .. } => return Err("`chunk_size` is 0".into()),
        Subject::ScaledDotProductAttention(attention, _) => attention,
        _ => return Ok(()),
    };
    let (heads, kv_heads) = (attention.num_attention_heads, attention.num_key_value_heads);
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} query heads cannot share {kv_heads} key heads"));
    }
    if attention.chunks.is_empty() || attention.chunks.contains(&0) {
        return Err("`attention.chunks` has no chunk or an empty one".into());
    }
    Ok(())
}

/// Every expected tensor that is compared with a tolerance has floors, and nothing else has.
fn noise_floors(data: &Data) -> Result<(), String> {
    let floorless = |name: &&String| WITHOUT_FLOORS.contains(&name.as_str());
    let expected = data.expected.tensors.iter();
    let needed: BTreeSet<_> = expected.filter(|name| !floorless(name)).collect();
    let given: BTreeSet<_> = data.noise_floors.keys().collect();
    if let Some(name) = needed.difference(&given).next() {
        return Err(format!("no noise floors for expected tensor `{name}`"));
    }
    if let Some(name) = given.difference(&needed).next() {
        return Err(format!("noise floors for `{name}`, which is not compared with a tolerance"));
    }
    for (name, floors) in &data.noise_floors {
        if floors.is_empty() {
            return Err(format!("the noise floors of `{name}` name no dtype"));
        }
        for (dtype, floor) in floors {
            let valid = |value: f64| value.is_finite() && value >= 0.0;
            if !valid(floor.max_abs) || !valid(floor.rms) {
                return Err(format!("the noise floor of `{name}` in {dtype} is not finite and >= 0"));
            }
        }
    }
    Ok(())
}

/// Outputs in their own dtype are given for RMSNorm only, and for formats of 16 bits.
fn same_dtype(case: &Case) -> Result<(), String> {
    let Subject::RmsNorm { data, same_dtype, .. } = &case.subject else {
        return Ok(());
    };
    for (name, outputs) in same_dtype {
        if !data.noise_floors.contains_key(name) {
            return Err(format!("`same_dtype` of `{name}`, which is not an expected tensor"));
        }
        for (dtype, output) in outputs {
            if *dtype == Precision::F32 {
                return Err(format!("`same_dtype` of `{name}`: f16 and bf16 only"));
            }
            if !(0.0..=1.0).contains(&output.unequal) {
                return Err(format!("`same_dtype` of `{name}` in {dtype}: `unequal` is not a share"));
            }
        }
    }
    Ok(())
}

/// Each expected failure says where and why, once.
fn expected_failures(case: &Case) -> Result<(), String> {
    let mut places = BTreeSet::new();
    for failure in &case.expected_failures {
        let (backend, dtype) = (&failure.backend, failure.dtype);
        if backend.trim().is_empty() {
            return Err("an expected failure without a backend".into());
        }
        if failure.reason.trim().is_empty() {
            return Err(format!("the expected failure on {backend} in {dtype} has no reason"));
        }
        if !places.insert((backend, dtype)) {
            return Err(format!("two expected failures on {backend} in {dtype}"));
        }
    }
    Ok(())
}
