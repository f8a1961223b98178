use std::path::PathBuf;

use qwen3_config::{ConfigError, Precision};
use thiserror::Error;

/// Why a checkpoint cannot be read. Names the file, and the key where there is one.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The directory holds neither `model.safetensors` nor an index of shards.
    #[error("{}: no model.safetensors and no model.safetensors.index.json", dir.display())]
    NoWeights {
        /// The checkpoint directory.
        dir: PathBuf,
    },
    /// A `config.json` or a device map was refused.
    #[error("{}: {source}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong, naming the field.
        source: ConfigError,
    },
    /// A file is not what its name says: truncated, garbled, or with a header that lies.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The index names a shard that is not a plain file name inside the checkpoint directory.
    #[error("{}: key `{key}` points outside the checkpoint directory: {target:?}", file.display())]
    OutsideDirectory {
        /// The index.
        file: PathBuf,
        /// The key in its `weight_map`.
        key: String,
        /// What the key maps to.
        target: String,
    },
    /// The model needs a tensor that the file does not have.
    #[error("{}: tensor `{key}` is missing", file.display())]
    MissingKey {
        /// The file that should hold it: the weights, the shard the index names, or the index.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// The model is wanted with its head, and is one without: an embedding model, saved as Transformers' `Qwen3Model`.
    #[error(
        "{}: tensor `{key}` is missing, and tie_word_embeddings is false: a model without a head embeds texts, and \
         writes and judges none",
        file.display()
    )]
    NoHead {
        /// The file that should hold it: the weights, the index, or a record.
        file: PathBuf,
        /// The head's key.
        key: String,
    },
    /// The file has a tensor that the model does not use.
    #[error("{}: tensor `{key}` is not used by the model", file.display())]
    UnusedKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// The keys are those of a model inside another.
    #[error("{}: key `{key}` begins with `{prefix}`: {by}", file.display())]
    Wrapped {
        /// The weights or the index.
        file: PathBuf,
        /// The embedding's key.
        key: String,
        /// What does not belong to it.
        prefix: String,
        /// What puts it there, and what helps.
        by: &'static str,
    },
    /// A tensor of an adapter belongs to a module that is not there, or is not meant.
    #[error("{}: tensor `{key}` is of {found}, expected {expected}", file.display())]
    NoSuchModule {
        /// The adapter's weights.
        file: PathBuf,
        /// The key.
        key: String,
        /// The module that it names.
        found: String,
        /// Those that it may name.
        expected: String,
    },
    /// A key occurs twice, in one file or in two shards.
    #[error("{}: key `{key}` occurs more than once", file.display())]
    DuplicateKey {
        /// The file where it occurs again.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// A tensor's shape is not the one the config asks for.
    #[error("{}: tensor `{key}` has shape {found:?}, expected {expected:?}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Shape the config asks for.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's dtype is not bf16, f16 or f32, nor that of a quantised matrix in a checkpoint that has such.
    #[error(
        "{}: tensor `{key}` is {dtype}; only BF16, F16 and F32 are read, F8_E4M3 of matrices where `quantization_config` \
         says so, and of GGUF files Q4_0 to Q8_0 and Q4_K to Q6_K",
        file.display()
    )]
    TensorDType {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The dtype found.
        dtype: String,
    },
    /// A weight is NaN or infinite, or becomes so in the dtype asked for.
    #[error("{}: tensor `{key}` has {value} at flat index {index}, not finite as {dtype:?}", file.display())]
    NonFinite {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Row-major index of the first such element.
        index: usize,
        /// The value in the file.
        value: f32,
        /// The dtype it was converted to.
        dtype: Precision,
    },
    /// Tied weights are stored twice, and differ.
    #[error("{}: `lm_head.weight` differs from `model.embed_tokens.weight`, but the config ties them (tie_word_embeddings)", file.display())]
    TiedWeightsDiffer {
        /// The file that holds `lm_head.weight`.
        file: PathBuf,
    },
}
