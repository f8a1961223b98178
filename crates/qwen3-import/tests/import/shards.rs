//! Checkpoints in several files.

use std::fs;

use burn::tensor::DType;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::*;
use crate::compare::*;

const INDEX: &str = "model.safetensors.index.json";

fn shard(number: usize) -> String {
    format!("model-{:05}-of-00003.safetensors", number + 1)
}

/// The untied checkpoint in three shards, neighbours in different ones; the files and the map can be
/// changed before they are written.
fn sharded(change: impl FnOnce(&mut [Tensors; 3], &mut Value)) -> Folder {
    let mut shards: [Tensors; 3] = Default::default();
    let mut map = json!({});
    for (number, (key, stored)) in tensors(false).into_iter().enumerate() {
        map[&key] = json!(shard(number % 3));
        shards[number % 3].insert(key, stored);
    }
    change(&mut shards, &mut map);
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let folder = Folder::new(&config(false)).write(INDEX, index.to_string());
    shards
        .iter()
        .enumerate()
        .fold(folder, |folder, (number, tensors)| folder.write(&shard(number), safetensors(tensors)))
}

fn shard_of(key: &str) -> usize {
    tensors(false).keys().position(|name| name == key).unwrap() % 3
}

#[test]
fn one_file_and_three_shards_give_the_same_bits() {
    let sharded = sharded(|_, _| {});
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (one, three) = (Folder::plain().load(dtype), sharded.load(dtype));
        assert_same(&three.unwrap(), &one.unwrap());
    }
    let model = sharded.load(DType::F32).unwrap();
    assert_holds(&model, &tensors(false), (DType::F32, Dtype::F32));
}

#[test]
fn a_single_file_goes_before_an_index() {
    let folder = Folder::plain().write(INDEX, "garbage");
    folder.load(DType::F32).unwrap();
}

#[test]
fn a_target_outside_the_folder_is_not_opened() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    for target in [
        "../x",
        "..",
        ".",
        "",
        "/",
        "a/b",
        "./a",
        "a/.",
        "a/",
        "a//",
        "a\\b",
        "..\\x",
        secret.path().to_str().unwrap(),
    ] {
        let folder = sharded(|_, map| map[NORM] = json!(target));
        folder.refused("OutsideDirectory", INDEX, &format!("{NORM} -> {target}"));
    }
    let folder = sharded(|_, map| map[NORM] = json!("a\0b"));
    folder.refused("Malformed", INDEX, NORM);
}

#[test]
fn the_index_and_the_shards_hold_the_same_keys() {
    let home = shard_of(NORM);
    let (here, elsewhere) = (shard(home), shard((home + 1) % 3));
    sharded(|_, map| map[NORM] = json!(elsewhere)).refused("MissingKey", &elsewhere, NORM);
    sharded(|shards, _| drop(shards[home].remove(NORM))).refused("MissingKey", &here, NORM);
    sharded(|_, map| drop(map.as_object_mut().unwrap().remove(NORM))).refused("UnusedKey", &here, NORM);
    sharded(|shards, map| {
        map.as_object_mut().unwrap().remove(NORM);
        shards[home].remove(NORM);
    })
    .refused("MissingKey", INDEX, NORM);
    let extra = || Stored::new(Dtype::F32, &[1], &[1.0]);
    sharded(|shards, _| drop(shards[1].insert("extra".into(), extra()))).refused(
        "UnusedKey",
        &shard(1),
        "extra",
    );
    sharded(|shards, map| {
        shards[1].insert("extra".into(), extra());
        map["extra"] = json!(shard(1));
    })
    .refused("UnusedKey", &shard(1), "extra");
    sharded(|_, map| map["extra"] = json!(shard(2))).refused("MissingKey", &shard(2), "extra");
}

#[test]
fn a_key_in_two_shards_is_a_duplicate() {
    let home = shard_of(NORM);
    let twin = (home + 1) % 3;
    let folder = sharded(|shards, _| {
        let stored = shards[home][NORM].clone();
        shards[twin].insert(NORM.into(), stored);
    });
    folder.refused("DuplicateKey", &shard(twin), NORM);
}

#[test]
fn an_error_in_a_shard_names_the_shard() {
    let home = shard_of(K_PROJ);
    let wide = Stored::new(Dtype::F32, &[8, 9], &[0.0; 72]);
    let folder = sharded(|shards, _| drop(shards[home].insert(K_PROJ.into(), wide)));
    folder.refused("Shape", &shard(home), &format!("{K_PROJ} [8, 9] for [8, 8]"));
    let folder = sharded(|shards, _| shards[home].get_mut(K_PROJ).unwrap().set(3, f32::NAN));
    folder.refused("NonFinite", &shard(home), &format!("{K_PROJ}[3] = NaN as F32"));

    let folder = sharded(|_, _| {});
    let whole = fs::read(folder.path(&shard(2))).unwrap();
    let folder = folder.write(&shard(2), &whole[..whole.len() - 1]);
    folder.refused("Malformed", &shard(2), "truncated");
    fs::remove_file(folder.path(&shard(2))).unwrap();
    folder.refused("Io", &shard(2), "No such file");
}

#[test]
fn an_index_that_is_not_one() {
    for (text, detail) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "JSON object"),
        ("{}", "`weight_map` is missing"),
        (r#"{"weight_map": 1}"#, "JSON object"),
        (r#"{"weight_map": []}"#, "JSON object"),
        (r#"{"weight_map": null}"#, "JSON object"),
        (r#"{"weight_map": {"a": 1}}"#, "`weight_map.a` is 1, not a file name"),
        (r#"{"weight_map": {"a": ["b"]}}"#, "`weight_map.a`"),
        ("{\"weight_map\": {\"a\": \"\u{1}\"}}", "control character"),
    ] {
        let folder = Folder::new(&config(false)).write(INDEX, text);
        folder.refused("Malformed", INDEX, detail);
    }
    let folder = Folder::new(&config(false)).write(INDEX, b"{\"weight_map\": {\"\xff\": \"a\"}}");
    folder.refused("Malformed", INDEX, "");
    let folder = Folder::new(&config(false)).write(INDEX, r#"{"weight_map": {}}"#);
    folder.refused("MissingKey", INDEX, EMBEDDING);
}

#[test]
fn a_key_twice_in_the_index_is_a_duplicate() {
    let folder = sharded(|_, _| {});
    let text = fs::read_to_string(folder.path(INDEX)).unwrap();
    let entry = format!(r#""{NORM}":"{}""#, shard(shard_of(NORM)));
    assert!(text.contains(&entry));
    let twice = text.replace(&entry, &format!("{entry},{entry}"));
    let folder = folder.write(INDEX, twice);
    folder.refused("DuplicateKey", INDEX, NORM);
    let twice = text.replacen('{', r#"{"weight_map":{},"#, 1);
    folder.write(INDEX, twice).refused("DuplicateKey", INDEX, "weight_map");
}

#[test]
fn a_huge_index_is_not_read() {
    let folder = Folder::new(&config(false)).write(INDEX, "{}");
    let file = fs::File::options().write(true).open(folder.path(INDEX)).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    folder.refused("Malformed", INDEX, "at most");
}
