//! GGUF files of the fixtures' checkpoints, read.

mod sample;

use std::fs;
use std::path::{Path, PathBuf};

use gguf_rs_lib::builder::GGUFBuilder;
use gguf_rs_lib::format::{GGUFValueType, MetadataArray, MetadataValue};
use gguf_rs_lib::prelude::GGUFTensorType;
use qwen3_config::{Extent, Precision};
use tempfile::TempDir;

use sample::Stored;

use qwen3_checkpoint::{Checkpoint, CheckpointError, read_config};

fn fixture(name: &str) -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints").join(name);
    Checkpoint::open(folder).unwrap()
}

struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

fn built(builder: GGUFBuilder) -> File {
    file(&builder.build_to_bytes().unwrap().0)
}

fn error(file: &File) -> String {
    let error = Checkpoint::open(&file.path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", file.path.display())), "{error}");
    error
}

#[test]
fn a_file_is_the_checkpoint_that_it_was_made_of() {
    // The second is stored in f32, the others in bf16.
    for (name, formats) in [
        ("gqa-tied", &[Stored::F32, Stored::BF16][..]),
        ("mha-untied", &[Stored::F32]),
        ("bias-tied", &[Stored::F32]),
    ] {
        let original = fixture(name);
        for &stored in formats {
            let file = file(&sample::gguf(&original, stored, |_, _| {}));
            let read = Checkpoint::open(&file.path).unwrap();
            read.check(Extent::Whole).unwrap();
            assert_eq!(read_config(&file.path).unwrap(), *read.config());
            let (mut ours, mut theirs) = (read.config().clone(), original.config().clone());
            (ours.dtype, theirs.dtype) = (None, None);
            ours.unrecognized.clear();
            theirs.unrecognized.clear();
            assert_eq!(ours, theirs);
            assert!(read.texts().unwrap().is_empty());
            for weight in original.config().weights() {
                let values = |of: &Checkpoint| of.values::<f32>(&weight.key, &weight.shape).unwrap();
                assert!(values(&read) == values(&original), "{name} {}", weight.key);
            }
        }
    }
}

#[test]
fn blocks_are_read_from_anywhere() {
    let original = fixture("gqa-tied");
    let file = file(&sample::gguf(&original, Stored::Q8_0, |_, _| {}));
    let read = Checkpoint::open(&file.path).unwrap();
    let (key, shape) = ("model.layers.1.mlp.down_proj.weight", [64, 96]);
    let all: Vec<f32> = read.values(key, &shape).unwrap();
    let exact: Vec<f32> = original.values(key, &shape).unwrap();
    let error = |(a, b): (&f32, &f32)| (a - b).abs();
    let most = exact.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let worst = all.iter().zip(&exact).map(error).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst <= most / 127.0 * 0.51, "{worst} of {most}");
    for (start, count) in [(0, 31), (5, 64), (31, 2), (6143, 1), (96, 96)] {
        let mut some = vec![0.0_f32; count];
        read.read(key, &shape, start, &mut some).unwrap();
        assert!(some == all[start..start + count], "{start}");
    }
    assert!(read.rows::<f32>(key, shape, 3..5).unwrap() == all[3 * 96..5 * 96]);
}

#[test]
fn a_cut_file_is_refused() {
    let bytes = sample::gguf(&fixture("gqa-tied"), Stored::F16, |_, _| {});
    let heads = bytes.len() - 2 * fixture("gqa-tied").config().num_parameters();
    for length in (4..heads + 64).step_by(7).chain([bytes.len() - 40_000, bytes.len() - 1]) {
        let file = file(&bytes[..length]);
        // What pads the last tensor may be missing.
        let Err(error) = Checkpoint::open(&file.path) else { panic!("{length} of {}", bytes.len()) };
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{length}: {error}");
    }
}

#[test]
fn changed_bytes_are_refused_or_read_and_nothing_else() {
    let bytes = sample::gguf(&fixture("gqa-tied"), Stored::Q4_0, |_, _| {});
    for at in 4..3_000 {
        for change in [0xff, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            let file = file(&bytes);
            if let Ok(read) = Checkpoint::open(&file.path) {
                let _ = (read.check(Extent::Whole), read.texts(), read.loose_tensors().len());
            }
        }
    }
}

#[test]
fn what_is_no_dense_qwen3_is_named() {
    let original = fixture("gqa-tied");
    let with = |key: &str, value: MetadataValue| built(sample::builder(&original).add_metadata(key, value));
    let text = |text: &str| MetadataValue::String(text.into());
    for (key, value, part) in [
        ("general.architecture", text("llama"), "general.architecture is \"llama\""),
        ("general.architecture", text("qwen3moe"), "only \"qwen3\" (dense)"),
        ("qwen3.block_count", text("3"), "qwen3.block_count is missing, or of another type"),
        ("qwen3.attention.value_length", MetadataValue::U32(8), "keys of 16 values and values of 8"),
        ("qwen3.rope.scaling.type", text("longrope"), "only none, linear and yarn"),
        ("split.count", MetadataValue::U16(2), "one of 2 files"),
        ("qwen3.block_count", MetadataValue::U32(3), "no tensor `token_embd.weight`"),
    ] {
        assert!(error(&with(key, value)).contains(part), "{key}");
    }
    let rows = built(
        sample::builder(&original)
            .add_tensor("token_embd.weight", vec![64, 2], GGUFTensorType::F32, vec![0; 512])
            .unwrap()
            .add_tensor("blk.0.ffn_gate_exps.weight", vec![2], GGUFTensorType::F32, vec![0; 8])
            .unwrap(),
    );
    let read = Checkpoint::open(&rows.path).unwrap();
    let missing = read.check(Extent::Whole).unwrap_err();
    assert!(matches!(missing, CheckpointError::MissingKey { .. }), "{missing}");
}

#[test]
fn frequencies_may_be_scaled() {
    let whole = fixture("yarn");
    let scaled = |kind: &str| {
        let builder = sample::builder(&whole)
            .add_tensor("token_embd.weight", vec![64, 2], GGUFTensorType::F32, vec![0; 512])
            .unwrap()
            .add_metadata("qwen3.rope.scaling.type", MetadataValue::String(kind.into()))
            .add_metadata("qwen3.rope.scaling.factor", MetadataValue::F32(4.0))
            .add_metadata("qwen3.rope.scaling.original_context_length", MetadataValue::U32(32));
        read_config(built(builder).path).unwrap().rope
    };
    assert_eq!(scaled("none"), qwen3_config::Rope::Default { theta: whole.config().rope.theta() });
    let (linear, yarn) = (format!("{:?}", scaled("linear")), format!("{:?}", scaled("yarn")));
    assert!(linear.contains("Linear") && linear.contains("4.0"), "{linear}");
    assert!(yarn.contains("Yarn") && yarn.contains("32"), "{yarn}");
}

fn list(kind: GGUFValueType, values: impl Iterator<Item = MetadataValue>) -> MetadataValue {
    MetadataValue::Array(Box::new(MetadataArray::new(kind, values.collect()).unwrap()))
}

fn with_tokenizer(tokens: &[&str], kinds: &[i32], merges: &[&str], pre: &str) -> File {
    let strings = |list_of: &[&str]| {
        list(GGUFValueType::String, list_of.iter().map(|text| MetadataValue::String((*text).into())))
    };
    built(
        sample::builder(&fixture("gqa-tied"))
            .add_tensor("token_embd.weight", vec![64, 2], GGUFTensorType::F32, vec![0; 512])
            .unwrap()
            .add_metadata("tokenizer.ggml.model", MetadataValue::String("gpt2".into()))
            .add_metadata("tokenizer.ggml.pre", MetadataValue::String(pre.into()))
            .add_metadata("tokenizer.ggml.tokens", strings(tokens))
            .add_metadata("tokenizer.ggml.merges", strings(merges))
            .add_metadata(
                "tokenizer.ggml.token_type",
                list(GGUFValueType::I32, kinds.iter().map(|kind| MetadataValue::I32(*kind))),
            )
            .add_metadata("tokenizer.ggml.eos_token_id", MetadataValue::U32(3))
            .add_metadata("tokenizer.ggml.padding_token_id", MetadataValue::U32(4))
            .add_metadata("general.sampling.temp", MetadataValue::F32(0.6))
            .add_metadata("general.sampling.top_k", MetadataValue::I32(20))
            .add_metadata("tokenizer.chat_template", MetadataValue::String("{{ messages }}".into())),
    )
}

#[test]
fn the_tokenizer_comes_along() {
    let tokens = ["a", "b", "ab", "<|im_end|>", "<|endoftext|>", "<think>", "[PAD6]"];
    let file = with_tokenizer(&tokens, &[1, 1, 1, 3, 3, 4, 5], &["a b"], "qwen2");
    let texts = Checkpoint::open(&file.path).unwrap().texts().unwrap();
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&texts[name]).unwrap();
    let tokenizer = json("tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"], serde_json::json!({ "a": 0, "b": 1, "ab": 2 }));
    assert_eq!(tokenizer["model"]["merges"], serde_json::json!([["a", "b"]]));
    let added = tokenizer["added_tokens"].as_array().unwrap();
    let added: Vec<_> =
        added.iter().map(|token| (token["id"].as_u64(), token["special"].as_bool())).collect();
    assert_eq!(added, [(Some(3), Some(true)), (Some(4), Some(true)), (Some(5), Some(false))]);
    let config = json("tokenizer_config.json");
    assert_eq!((&config["eos_token"], &config["pad_token"]), (&"<|im_end|>".into(), &"<|endoftext|>".into()));
    assert_eq!(config["chat_template"], "{{ messages }}");
    let generation = json("generation_config.json");
    let expected =
        serde_json::json!({ "eos_token_id": [3, 4], "pad_token_id": 4, "temperature": 0.6, "top_k": 20 });
    assert_eq!(generation, expected);
}

#[test]
fn another_tokenizer_is_refused_by_name() {
    let refused = |kinds: &[i32], merges: &[&str], pre: &str| {
        let file = with_tokenizer(&["a", "b"], kinds, merges, pre);
        Checkpoint::open(&file.path).unwrap().texts().unwrap_err().to_string()
    };
    assert!(refused(&[1, 1], &["a b"], "llama-bpe").contains("gpt2 cut as llama-bpe"));
    assert!(refused(&[1], &["a b"], "qwen2").contains("2 tokens, and types of 1"));
    assert!(refused(&[1, 1], &["ab"], "qwen2").contains("\"ab\" is no merge"));
    assert!(refused(&[1, 1], &["a b"], "qwen2").contains("\"a b\": \"ab\" is no token"));
}

/// What is read of it is in the folder, number for number, and its texts.
#[test]
fn a_folder_is_written_of_a_file() {
    let original = fixture("gqa-tied");
    let out = tempfile::tempdir().unwrap();
    for (stored, precision) in [(Stored::Q4_0, Precision::F32), (Stored::BF16, Precision::BF16)] {
        let file = file(&sample::gguf(&original, stored, |_, _| {}));
        let read = Checkpoint::open(&file.path).unwrap();
        let folder = out.path().join(precision.name());
        read.save(&folder, precision).unwrap();
        let written = Checkpoint::open(&folder).unwrap();
        written.check(Extent::Whole).unwrap();
        assert_eq!(written.config().dtype, Some(precision));
        for weight in read.config().weights() {
            let values = |of: &Checkpoint| of.values::<f32>(&weight.key, &weight.shape).unwrap();
            assert!(values(&read) == values(&written), "{}", weight.key);
        }
        let again = read.save(&folder, precision).unwrap_err().to_string();
        assert!(again.starts_with(&format!("{}: is not empty", folder.display())), "{again}");
    }
}

/// What overflows is an error with the file's key, and no folder is left.
#[test]
fn a_folder_is_whole_or_not_there() {
    let original = fixture("gqa-tied");
    let file = file(&sample::gguf(&original, Stored::F32, |key, values| {
        if key == "model.layers.1.mlp.up_proj.weight" {
            values[7] = 1e6;
        }
    }));
    let out = tempfile::tempdir().unwrap();
    let error =
        Checkpoint::open(&file.path).unwrap().save(out.path().join("half"), Precision::F16).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("model.gguf") && error.contains("up_proj") && error.contains("flat index 7"),
        "{error}"
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn folders_are_written_of_folders_too() {
    let out = tempfile::tempdir().unwrap();
    for name in ["fp8", "embedding-headless", "experts"] {
        let original = fixture(name);
        let folder = out.path().join(name);
        original.save(&folder, Precision::F32).unwrap();
        let (written, extent) = (Checkpoint::open(&folder).unwrap(), Extent::of(original.has_head()));
        written.check(extent).unwrap();
        assert_eq!(written.has_head(), original.has_head());
        for weight in original.config().weights().filter(|weight| extent.holds(&weight.key)) {
            let values = |of: &Checkpoint| of.values::<f32>(&weight.key, &weight.shape).unwrap();
            assert!(values(&original) == values(&written), "{name} {}", weight.key);
        }
    }
}
