//! Checkpoints written from a list of tensors, and the errors they give.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use half::{bf16, f16};
use qwen3_import::{CheckpointError, ImportError, load};
use qwen3_model::Qwen3;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const WEIGHTS: &str = "model.safetensors";
pub const EMBEDDING: &str = "model.embed_tokens.weight";
pub const HEAD: &str = "lm_head.weight";
pub const K_PROJ: &str = "model.layers.1.self_attn.k_proj.weight";
pub const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";
pub const NORM: &str = "model.norm.weight";

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    /// `values` rounded to `dtype`: F32, F16, BF16, or F64 and I64, which are refused.
    pub fn new(dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let bytes = |value: &f32| match dtype {
            Dtype::F32 => value.to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            Dtype::I64 => (*value as i64).to_le_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        Self { dtype, shape: shape.into(), bytes: values.iter().flat_map(bytes).collect() }
    }

    /// The same values in another dtype.
    pub fn cast(&self, dtype: Dtype) -> Self {
        Self::new(dtype, &self.shape, &self.values())
    }

    pub fn values(&self) -> Vec<f32> {
        values(self.dtype, &self.bytes)
    }

    /// Replaces the value at the flat index.
    pub fn set(&mut self, index: usize, value: f32) {
        let mut values = self.values();
        values[index] = value;
        *self = Self::new(self.dtype, &self.shape, &values);
    }
}

pub fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let half = |read: fn(u16) -> f32| {
        let pairs = bytes.as_chunks().0.iter();
        pairs.map(|pair| read(u16::from_le_bytes(*pair))).collect()
    };
    match dtype {
        Dtype::F32 => {
            let words = bytes.as_chunks().0.iter();
            words.map(|word| f32::from_le_bytes(*word)).collect()
        }
        Dtype::F16 => half(|bits| f16::from_bits(bits).to_f32()),
        Dtype::BF16 => half(|bits| bf16::from_bits(bits).to_f32()),
        other => panic!("{other:?}"),
    }
}

pub type Tensors = BTreeMap<String, Stored>;

/// A config with every branch of the key table: biases, GQA, a head_dim that is not hidden / heads, and
/// square k and v projections, which a transposition does not misshape.
pub fn config(tied: bool) -> Value {
    json!({
        "model_type": "qwen3", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 11,
        "attention_bias": true, "tie_word_embeddings": tied, "rms_norm_eps": 1e-5,
        "rope_theta": 5e5, "max_position_embeddings": 64, "torch_dtype": "float32",
    })
}

/// The tensors of [`config`], their names as in Transformers' `state_dict`.
pub fn tensors(tied: bool) -> Tensors {
    let mut shapes = vec![(EMBEDDING.to_string(), vec![11, 8]), (NORM.into(), vec![8])];
    if !tied {
        shapes.push((HEAD.into(), vec![11, 8]));
    }
    for layer in 0..2 {
        for (name, out, input) in [
            ("self_attn.q_proj", 16, 8),
            ("self_attn.k_proj", 8, 8),
            ("self_attn.v_proj", 8, 8),
            ("self_attn.o_proj", 8, 16),
            ("mlp.gate_proj", 12, 8),
            ("mlp.up_proj", 12, 8),
            ("mlp.down_proj", 8, 12),
        ] {
            let prefix = format!("model.layers.{layer}.{name}");
            if name.starts_with("self_attn") {
                shapes.push((format!("{prefix}.bias"), vec![out]));
            }
            shapes.push((format!("{prefix}.weight"), vec![out, input]));
        }
        for (name, size) in [
            ("input_layernorm", 8),
            ("post_attention_layernorm", 8),
            ("self_attn.q_norm", 4),
            ("self_attn.k_norm", 4),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), vec![size]));
        }
    }
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let stored = |(key, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| draw());
        let values = values.collect::<Vec<_>>();
        (key, Stored::new(Dtype::F32, &shape, &values))
    };
    shapes.into_iter().map(stored).collect()
}

/// A safetensors file of `tensors`.
pub fn safetensors<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Stored)>) -> Vec<u8> {
    let views = tensors.into_iter().map(|(key, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
        (key, view.unwrap())
    });
    serialize(views, None).unwrap()
}

/// A safetensors file with any header.
pub fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

/// A checkpoint directory.
pub struct Folder(TempDir);

impl Folder {
    /// `config.json` and nothing else.
    pub fn new(config: &Value) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("config.json", config.to_string())
    }

    /// `config.json` and `model.safetensors`.
    pub fn with(tied: bool, tensors: &Tensors) -> Self {
        Self::new(&config(tied)).write(WEIGHTS, safetensors(tensors))
    }

    /// The untied checkpoint in f32.
    pub fn plain() -> Self {
        Self::with(false, &tensors(false))
    }

    /// Writes or replaces a file.
    pub fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn load(&self, dtype: DType) -> Result<Qwen3, ImportError> {
        load(self.dir(), &Device::flex(), dtype)
    }

    /// Loading in f32 fails as [`Self::blames`] says.
    #[track_caller]
    pub fn refused(&self, kind: &str, file: &str, detail: &str) {
        self.blames(self.load(DType::F32), kind, file, detail);
    }

    /// The error is of this kind, about this file of the folder (the folder itself, if empty), and about
    /// exactly the key `detail`; where an error has a message instead of a key, the message has `detail`.
    #[track_caller]
    pub fn blames<T: Debug>(&self, result: Result<T, ImportError>, kind: &str, file: &str, detail: &str) {
        use CheckpointError as E;
        let error = result.unwrap_err();
        let message = error.to_string();
        let error = match error {
            ImportError::File(error) => error,
            ImportError::DType { dtype, .. } => {
                assert_eq!((kind, file, detail), ("DType", "", &format!("{dtype:?}")[..]));
                return;
            }
        };
        let (found, found_file, found_detail) = match error {
            E::Io { file, source } => ("Io", file, Err(source.to_string())),
            E::NoWeights { dir } => ("NoWeights", dir.join(""), Ok(String::new())),
            E::Config { file, source } => ("Config", file, Err(source.to_string())),
            E::Malformed { file, reason } => ("Malformed", file, Err(reason)),
            E::OutsideDirectory { file, key, target } => {
                ("OutsideDirectory", file, Ok(format!("{key} -> {target}")))
            }
            E::MissingKey { file, key } => ("MissingKey", file, Ok(key)),
            E::NoHead { file, key } => ("NoHead", file, Ok(key)),
            E::Wrapped { file, key, prefix, .. } => ("Wrapped", file, Ok(format!("{key} {prefix}"))),
            E::UnusedKey { file, key } => ("UnusedKey", file, Ok(key)),
            E::NoSuchModule { file, key, found, expected } => {
                ("NoSuchModule", file, Ok(format!("{key} of {found}, not {expected}")))
            }
            E::DuplicateKey { file, key } => ("DuplicateKey", file, Ok(key)),
            E::Shape { file, key, expected, found } => {
                ("Shape", file, Ok(format!("{key} {found:?} for {expected:?}")))
            }
            E::TensorDType { file, key, dtype } => ("TensorDType", file, Ok(format!("{key} {dtype}"))),
            E::NonFinite { file, key, index, value, dtype } => {
                ("NonFinite", file, Ok(format!("{key}[{index}] = {value} as {dtype:?}")))
            }
            E::TiedWeightsDiffer { file } => ("TiedWeightsDiffer", file, Ok(String::new())),
        };
        assert_eq!((found, found_file), (kind, self.path(file)), "{message}");
        match found_detail {
            Ok(found) => assert_eq!(found, detail, "{message}"),
            Err(found) => assert!(found.contains(detail), "`{detail}` is not in `{found}`"),
        }
    }
}
