//! The formats that are read, and the commands that read them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::program::Program;

/// What is changed to make an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Weights, adapters and activations in `.safetensors`.
    Safetensors,
    /// `model.safetensors.index.json` and its shards.
    Index,
    /// `config.json` and `adapter_config.json`.
    Config,
    /// `tokenizer.json` and `tokenizer_config.json`.
    Tokenizer,
    /// Chat templates.
    Template,
    /// `generation_config.json`.
    GenerationConfig,
    /// Burn records.
    Record,
    /// GGUF files.
    Gguf,
    /// References and activations in `.npz`.
    Npz,
    /// Activations in `.npy` files.
    Npy,
    /// Activations that `torch.save` wrote.
    Torch,
    /// Activations that Transformers' debugging utilities wrote.
    DebugTree,
    /// `manifest.json` and what it lists.
    Manifest,
    /// Messages and tools of a conversation.
    Messages,
    /// JSON reports, which are compared.
    Report,
    /// Device maps.
    DeviceMap,
    /// Command lines.
    Flags,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Safetensors,
        Self::Index,
        Self::Config,
        Self::Tokenizer,
        Self::Template,
        Self::GenerationConfig,
        Self::Record,
        Self::Gguf,
        Self::Npz,
        Self::Npy,
        Self::Torch,
        Self::DebugTree,
        Self::Manifest,
        Self::Messages,
        Self::Report,
        Self::DeviceMap,
        Self::Flags,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Index => "index",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::GenerationConfig => "generation-config",
            Self::Record => "record",
            Self::Gguf => "gguf",
            Self::Npz => "npz",
            Self::Npy => "npy",
            Self::Torch => "torch",
            Self::DebugTree => "debug-tree",
            Self::Manifest => "manifest",
            Self::Messages => "messages",
            Self::Report => "report",
            Self::DeviceMap => "device-map",
            Self::Flags => "flags",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A command, the files that it reads, and those among them that are changed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub program: Program,
    /// Its words; files are in `in/`, and what is written goes to `out/`.
    pub args: Vec<&'static str>,
    /// Seeds and where they go below `in`; a folder's files go with it.
    pub base: Vec<(&'static str, &'static str)>,
    /// The files that are changed, one at a time.
    pub targets: Vec<&'static str>,
}

impl Plan {
    fn new(program: Program, line: &'static str, base: &[Base], targets: &[&'static str]) -> Self {
        let base = base.iter().flat_map(|base| base.iter().copied()).collect();
        Self { program, args: line.split(' ').collect(), base, targets: targets.into() }
    }
}

type Base = &'static [(&'static str, &'static str)];

const GQA: Base = &[("checkpoints/gqa-tied", "")];
const SHARDED: Base = &[("checkpoints/gqa-sharded", "")];
const TINY: Base = &[("checkpoints/trained-tiny", "")];
const EMBEDDER: Base = &[("checkpoints/embedding-headless", "")];
const RERANKER: Base = &[("checkpoints/reranker-tied", "")];
/// The small trained model without weights.
const TEXTS: Base = &[
    ("checkpoints/trained-tiny/config.json", "config.json"),
    ("checkpoints/trained-tiny/tokenizer.json", "tokenizer.json"),
    ("checkpoints/trained-tiny/tokenizer_config.json", "tokenizer_config.json"),
];
const REFERENCE: Base = &[("gqa-tied/prompt1/reference.npz", "reference.npz")];
/// A checkpoint with an adapter, and PEFT's reference for both.
const ADAPTED: Base = &[
    ("checkpoints/yarn", ""),
    ("adapters/yarn-rslora", "adapter"),
    ("yarn-rslora/prompt1/reference.npz", "reference.npz"),
];
const TALK: Base = &[("messages.json", "messages.json"), ("tools.json", "tools.json")];
const JINJA: Base = &[("chat_template.jinja", "chat_template.jinja")];
const RECORD: Base = &[("model.bpk", "model.bpk")];
const GGUF: Base = &[("model.gguf", "model.gguf")];
const MANIFEST: Base = &[("manifest", "")];

const INSPECT: &str = "inspect --model in";
const IMPORT: &str = "import --model in --out out/model.bpk";
const GENERATE: &str = "generate --model in --prompt 1 --max-new-tokens 1 --seed 1";
const RENDER: &str = "render --model in --messages in/messages.json";
const VERIFY: &str = "verify --model in --reference in/reference.npz --diagnose-for 1";
const VERIFY_ADAPTED: &str =
    "verify --model in --adapter in/adapter --reference in/reference.npz --diagnose-for 1";
const OBSERVED: &str =
    "verify --model in --reference in/reference.npz --observed in/observed.npz --diagnose-for 1";

/// The commands that read a format; none for command lines, which are made word by word.
pub fn plans(format: Format) -> Vec<Plan> {
    let qwen3 =
        |line, base: &[Base], targets: &[&'static str]| Plan::new(Program::Qwen3, line, base, targets);
    let runner = |line, base: &[Base], targets: &[&'static str]| {
        Plan::new(Program::FixtureRunner, line, base, targets)
    };
    let verifier =
        |line, base: &[Base], targets: &[&'static str]| Plan::new(Program::Qwen3Verify, line, base, targets);
    match format {
        Format::Safetensors => {
            let file = &["model.safetensors"];
            let observed =
                "verify --model in --reference in/reference.npz --observed in/observed.safetensors";
            vec![
                qwen3(INSPECT, &[GQA], file),
                qwen3(IMPORT, &[GQA], file),
                qwen3(GENERATE, &[TINY], file),
                runner(VERIFY, &[GQA, REFERENCE], file),
                runner(VERIFY_ADAPTED, &[ADAPTED], &["adapter/adapter_model.safetensors"]),
                runner(
                    observed,
                    &[GQA, REFERENCE, &[("observed.safetensors", "observed.safetensors")]],
                    &["observed.safetensors"],
                ),
            ]
        }
        Format::Index => {
            let file = &["model.safetensors.index.json"];
            let prompt: Base = &[("gqa-sharded/prompt1/reference.npz", "reference.npz")];
            vec![
                qwen3(INSPECT, &[SHARDED], file),
                qwen3(IMPORT, &[SHARDED], file),
                runner(VERIFY, &[SHARDED, prompt], file),
            ]
        }
        Format::Config => {
            let file = &["config.json"];
            vec![
                qwen3(INSPECT, &[GQA], file),
                qwen3("inspect --json --model in", &[&[("checkpoints/bias-tied", "")]], file),
                qwen3(IMPORT, &[&[("checkpoints/long-context", "")]], file),
                qwen3(GENERATE, &[TINY], file),
                runner(VERIFY, &[GQA, REFERENCE], file),
                runner(VERIFY_ADAPTED, &[ADAPTED], &["adapter/adapter_config.json"]),
            ]
        }
        Format::Tokenizer => {
            let files = &["tokenizer.json", "tokenizer.json", "tokenizer_config.json"];
            vec![
                qwen3("tokenize --model in --text a<|im_end|>aa", &[TEXTS], files),
                qwen3("tokenize --model in --json --text 12,3aéx", &[TEXTS], files),
                qwen3("tokenize --model in --decode --text 1,2,3,486", &[TEXTS], files),
                qwen3(RENDER, &[TEXTS, TALK], files),
                qwen3(IMPORT, &[TINY], files),
                qwen3(GENERATE, &[TINY], files),
                qwen3("embed --model in --dimensions 2 --text a<|im_end|>aa", &[EMBEDDER], files),
                qwen3("rerank --model in --query a<|im_end|> --document aa", &[RERANKER], files),
            ]
        }
        Format::Template => {
            let file = &["chat_template.jinja"];
            let tools = "render --model in --messages in/messages.json --tools in/tools.json";
            vec![
                qwen3(RENDER, &[TEXTS, TALK, JINJA], file),
                qwen3(tools, &[TEXTS, TALK, JINJA], file),
                qwen3(RENDER, &[TEXTS, TALK], &["tokenizer_config.json"]),
            ]
        }
        Format::GenerationConfig => {
            let file = &["generation_config.json"];
            vec![
                qwen3(GENERATE, &[TINY], file),
                qwen3("generate --model in --prompt 1 --max-new-tokens 1 --temperature 0.5", &[TINY], file),
                qwen3(IMPORT, &[TINY], file),
            ]
        }
        Format::Record => {
            let file = &["model.bpk"];
            vec![
                qwen3("inspect --model in/model.bpk", &[RECORD], file),
                qwen3("tokenize --model in/model.bpk --text a", &[RECORD], file),
                qwen3("import --model in/model.bpk --out out/model.bpk", &[RECORD], file),
                qwen3(
                    "generate --model in/model.bpk --prompt 1 --max-new-tokens 1 --seed 1",
                    &[RECORD],
                    file,
                ),
            ]
        }
        Format::Gguf => {
            let file = &["model.gguf"];
            vec![
                qwen3("inspect --model in/model.gguf", &[GGUF], file),
                qwen3("tokenize --model in/model.gguf --text a", &[GGUF], file),
                qwen3("import --model in/model.gguf --out out/model.bpk", &[GGUF], file),
                qwen3("generate --model in/model.gguf --prompt 1 --max-new-tokens 1 --seed 1", &[GGUF], file),
            ]
        }
        Format::Npz => vec![
            runner(VERIFY, &[GQA, REFERENCE], &["reference.npz"]),
            runner(
                OBSERVED,
                &[GQA, REFERENCE, &[("gqa-tied/prompt1/reference.npz", "observed.npz")]],
                &["observed.npz", "observed.npz", "reference.npz"],
            ),
        ],
        Format::Npy => vec![
            verifier(
                "--model in --reference in/reference.npz --observed in/observed --diagnose-for 1",
                &[GQA, REFERENCE, &[("npy", "observed")]],
                &["observed/layer_00_output.npy", "observed/final_norm_output.npy"],
            ),
            verifier(
                "--model in --reference in/reference.npz --observed in/layer_00_output.npy --diagnose-for 1",
                &[GQA, REFERENCE, &[("npy/layer_00_output.npy", "layer_00_output.npy")]],
                &["layer_00_output.npy"],
            ),
        ],
        Format::Torch => vec![verifier(
            "--model in --reference in/reference.npz --observed in/observed.pt --diagnose-for 1",
            &[GQA, REFERENCE, &[("observed.pt", "observed.pt")]],
            &["observed.pt"],
        )],
        Format::DebugTree => vec![verifier(
            "--model in --reference in/reference.npz --observed in/observed --diagnose-for 1",
            &[GQA, REFERENCE, &[("tree", "observed")]],
            &[
                "observed/Model_debug_tree_FULL_TENSORS.json",
                "observed/Model_debug_tree_FULL_TENSORS.json",
                "observed/Model.layer_00_output_outputs.safetensors",
            ],
        )],
        Format::Manifest => vec![
            runner("parity --list --manifest in/manifest.json", &[MANIFEST], &["manifest.json"]),
            runner("parity --filter norm --manifest in/manifest.json", &[MANIFEST], &["manifest.json"]),
            runner(
                "parity --manifest in/manifest.json",
                &[MANIFEST],
                &[
                    "manifest.json",
                    "fixtures/checkpoints/gqa-tied/model.safetensors",
                    "fixtures/gqa-tied/layer-1/norm-00.safetensors",
                    "fixtures/gqa-tied/prompt1/reference.npz",
                ],
            ),
        ],
        Format::Messages => vec![
            qwen3(RENDER, &[TEXTS, TALK], &["messages.json"]),
            qwen3(
                "render --model in --messages in/messages.json --tools in/tools.json --add-generation-prompt",
                &[TEXTS, TALK],
                &["messages.json", "tools.json"],
            ),
        ],
        Format::Report => {
            let xtask = |line, base, targets| Plan::new(Program::Xtask, line, &[base], targets);
            let files = &["old.json", "new.json"];
            vec![
                xtask(
                    "diff in/old.json in/new.json",
                    &[("verify.json", "old.json"), ("verify.json", "new.json")],
                    files,
                ),
                xtask(
                    "diff in/old.json in/new.json",
                    &[("parity.json", "old.json"), ("parity.json", "new.json")],
                    files,
                ),
            ]
        }
        Format::DeviceMap => {
            let line =
                "generate --model in --prompt 1 --max-new-tokens 1 --seed 1 --device-map in/devices.json";
            let file = &["devices.json"];
            vec![
                qwen3(line, &[TINY, &[("device-map.json", "devices.json")]], file),
                qwen3(line, &[TINY, &[("device-memory.json", "devices.json")]], file),
            ]
        }
        Format::Flags => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_and_something_that_reads_it() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
            let written = serde_json::to_string(&format).unwrap();
            assert_eq!(written, format!("\"{format}\""));
            assert_eq!(plans(format).is_empty(), format == Format::Flags);
        }
    }
}
