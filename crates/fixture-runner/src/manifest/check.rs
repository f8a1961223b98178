#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::raw::{RawCase, RawManifest, Version};
use super::{Case, Kind, Manifest, SCHEMA, TensorList, TestDType, WITHOUT_FLOORS, verify};
use crate::error::FixtureError;

/// The norms of a decoder layer.
const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

/// Parses and checks the text of a manifest.
pub(super) fn manifest(file: &Path, root: PathBuf, text: &[u8]) -> Result<Manifest, FixtureError> {
    let json = |source| FixtureError::Json {
        file: file.into(),
        source,
    };
    let Version { schema } = serde_json::from_slice(text).map_err(json)?;
    if schema.as_u64() != Some(SCHEMA) {
        return Err(FixtureError::Schema {
            file: file.into(),
            expected: SCHEMA,
            found: schema.to_string(),
        });
    }
    let raw: RawManifest = serde_json::from_slice(text).map_err(json)?;

    let manifest = Manifest {
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
    let mut ids = BTreeSet::new();
    let mut cases = Vec::with_capacity(raw.cases.len());
    for case in raw.cases {
        if !ids.insert(case.id.clone()) {
            return Err(FixtureError::DuplicateCase {
                file: file.into(),
                case: case.id,
            });
        }
        cases.push(self::case(file, &manifest, case)?);
    }
    Ok(Manifest { cases, ..manifest })
}

/// Checks the paths and hashes of checkpoints and files.
fn entries(file: &Path, manifest: &Manifest) -> Result<(), FixtureError> {
    let entry = |key: String, reason: &str| FixtureError::Entry {
        file: file.into(),
        key,
        reason: reason.into(),
    };
    let hash = |hash: &str, key: String| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match hash.len() == 64 && hash.bytes().all(hex) {
            true => Ok(()),
            false => Err(entry(
                key,
                "not a SHA-256 in 64 lower-case hexadecimal digits",
            )),
        }
    };
    for (name, checkpoint) in &manifest.checkpoints {
        let key = |file: &str| format!("checkpoints.{name}.files.{file}");
        verify::plain(&manifest.root, &checkpoint.path)?;
        if checkpoint.files.is_empty() {
            return Err(entry(format!("checkpoints.{name}.files"), "no files"));
        }
        for (file, sha256) in &checkpoint.files {
            verify::plain(&manifest.root, file)?;
            if file.contains('/') {
                return Err(entry(key(file), "not a plain file name"));
            }
            hash(sha256, key(file))?;
        }
    }
    for (path, sha256) in &manifest.files {
        verify::plain(&manifest.root, path)?;
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
    let unlisted = files
        .into_iter()
        .find(|file| !manifest.files.contains_key(*file));
    let reason = match unlisted {
        Some(file) => format!("file `{file}` is not listed"),
        None if manifest.checkpoints.contains_key(checkpoint) => return Ok(()),
        None => format!("checkpoint `{checkpoint}` is not listed"),
    };
    Err(FixtureError::Case {
        file: file.into(),
        case: id.into(),
        reason,
    })
}

/// Checks one case against its kind and against what the manifest lists.
fn case(file: &Path, manifest: &Manifest, raw: RawCase) -> Result<Case, FixtureError> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == raw.kind) else {
        return Err(FixtureError::UnknownKind {
            file: file.into(),
            case: raw.id,
            kind: raw.kind,
        });
    };
    let case = Case {
        id: raw.id,
        kind,
        description: raw.description,
        checkpoint: raw.checkpoint,
        layer: raw.layer,
        module: raw.module,
        attention: raw.attention,
        chunk_size: raw.chunk_size,
        inputs: raw.inputs,
        expected: raw.expected,
        noise_floors: raw.noise_floors.into_maps(),
        same_dtype: raw.same_dtype.into_maps(),
        expected_failures: raw.expected_failures,
    };
    let checked = references(manifest, &case)
        .and_then(|()| shape_of_kind(&case))
        .and_then(|()| sizes(&case))
        .and_then(|()| noise_floors(&case))
        .and_then(|()| same_dtype(&case))
        .and_then(|()| expected_failures(&case));
    match checked {
        Ok(()) => Ok(case),
        Err(reason) => Err(FixtureError::Case {
            file: file.into(),
            case: case.id,
            reason,
        }),
    }
}

/// The id can be printed on a line, and what the case names is listed.
fn references(manifest: &Manifest, case: &Case) -> Result<(), String> {
    if case.id.trim().is_empty() || case.id.chars().any(char::is_control) {
        return Err("the id is empty or has control characters".into());
    }
    if let Some(name) = &case.checkpoint
        && !manifest.checkpoints.contains_key(name)
    {
        return Err(format!("checkpoint `{name}` is not listed"));
    }
    for (role, list) in [("inputs", &case.inputs), ("expected", &case.expected)] {
        let Some(TensorList { file, tensors }) = list else {
            continue;
        };
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

/// The case has the fields of its kind and no others.
fn shape_of_kind(case: &Case) -> Result<(), String> {
    let kind = case.kind;
    let alone = kind == Kind::ScaledDotProductAttention;
    let fields = [
        ("checkpoint", case.checkpoint.is_some(), !alone),
        ("attention", case.attention.is_some(), alone),
        (
            "chunk_size",
            case.chunk_size.is_some(),
            kind == Kind::Prefill,
        ),
        ("layer", case.layer.is_some(), kind.is_layer()),
        ("module", case.module.is_some(), kind == Kind::RmsNorm),
        (
            "inputs",
            case.inputs.is_some(),
            kind != Kind::RecordRoundtrip,
        ),
        (
            "expected",
            case.expected.is_some(),
            kind != Kind::RecordRoundtrip,
        ),
    ];
    for (field, found, needed) in fields {
        match (found, needed) {
            (false, true) => return Err(format!("kind {kind} needs `{field}`")),
            (true, false) => return Err(format!("kind {kind} has no `{field}`")),
            _ => {}
        }
    }
    match &case.module {
        Some(module) if !NORMS.contains(&module.as_str()) => Err(format!(
            "module `{module}` is neither {} nor {}",
            NORMS[0], NORMS[1]
        )),
        _ => Ok(()),
    }
}

/// Heads and chunks are possible ones.
fn sizes(case: &Case) -> Result<(), String> {
    if case.chunk_size == Some(0) {
        return Err("`chunk_size` is 0".into());
    }
    let Some(attention) = &case.attention else {
        return Ok(());
    };
    let (heads, kv_heads) = (attention.num_attention_heads, attention.num_key_value_heads);
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "{heads} query heads cannot share {kv_heads} key heads"
        ));
    }
    if attention.chunks.is_empty() || attention.chunks.contains(&0) {
        return Err("`attention.chunks` has no chunk or an empty one".into());
    }
    Ok(())
}

/// Every expected tensor that is compared with a tolerance has floors, and nothing else has.
fn noise_floors(case: &Case) -> Result<(), String> {
    let expected = case.expected.iter().flat_map(|list| &list.tensors);
    let needed: BTreeSet<_> = expected
        .filter(|name| !WITHOUT_FLOORS.contains(&name.as_str()))
        .collect();
    let given: BTreeSet<_> = case.noise_floors.keys().collect();
    if let Some(name) = needed.difference(&given).next() {
        return Err(format!("no noise floors for expected tensor `{name}`"));
    }
    if let Some(name) = given.difference(&needed).next() {
        return Err(format!(
            "noise floors for `{name}`, which is not compared with a tolerance"
        ));
    }
    for (name, floors) in &case.noise_floors {
        if floors.is_empty() {
            return Err(format!("the noise floors of `{name}` name no dtype"));
        }
        for (dtype, floor) in floors {
            let valid = |value: f64| value.is_finite() && value >= 0.0;
            if !valid(floor.max_abs) || !valid(floor.rms) {
                return Err(format!(
                    "the noise floor of `{name}` in {dtype} is not finite and >= 0"
                ));
            }
        }
    }
    Ok(())
}

/// Outputs in their own dtype are given for RMSNorm only, and for formats of 16 bits.
fn same_dtype(case: &Case) -> Result<(), String> {
    if case.kind != Kind::RmsNorm && !case.same_dtype.is_empty() {
        return Err(format!("kind {} has no `same_dtype`", case.kind));
    }
    for (name, outputs) in &case.same_dtype {
        if !case.noise_floors.contains_key(name) {
            return Err(format!(
                "`same_dtype` of `{name}`, which is not an expected tensor"
            ));
        }
        for (dtype, output) in outputs {
            if *dtype == TestDType::F32 {
                return Err(format!("`same_dtype` of `{name}`: f16 and bf16 only"));
            }
            if !(0.0..=1.0).contains(&output.unequal) {
                return Err(format!(
                    "`same_dtype` of `{name}` in {dtype}: `unequal` is not a share"
                ));
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
            return Err(format!(
                "the expected failure on {backend} in {dtype} has no reason"
            ));
        }
        if !places.insert((backend, dtype)) {
            return Err(format!("two expected failures on {backend} in {dtype}"));
        }
    }
    Ok(())
}
