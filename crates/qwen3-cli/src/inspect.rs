//! `qwen3 inspect`: what a checkpoint, a record or a GGUF file holds.

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use anyhow::Result;
use qwen3_command::printable;
use qwen3_import::{Checkpoint, CheckpointError, RecordFile};
use qwen3_model::{Extent, Precision, Qwen3Config, SessionOptions};
use serde::Serialize;

use crate::failure::Blame;
use crate::files::{Files, ModelArg, Need, Weights};

/// Contexts whose memory is told, in tokens, as far as the model has so many positions.
const CONTEXTS: [usize; 4] = [1024, 4096, 16_384, 32_768];

/// Arguments of `qwen3 inspect`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A tensor of a checkpoint or record.
#[derive(Serialize)]
pub struct Entry {
    /// Its key.
    pub name: String,
    /// Its dtype in lower case.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The name of the file that holds it.
    pub file: String,
}

impl Entry {
    /// How many values it has.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

#[derive(Serialize)]
struct Report {
    model: String,
    format: &'static str,
    config: serde_json::Value,
    parameters: usize,
    /// Those that a token passes through: with experts, fewer.
    active_parameters: usize,
    /// Does it give logits, and not hidden states alone?
    has_head: bool,
    /// Empty where there are no weights.
    tensors: Vec<Entry>,
    dtypes: BTreeMap<String, Stored>,
    memory: BTreeMap<&'static str, Memory>,
}

/// What is stored in one dtype.
#[derive(Default, Serialize)]
struct Stored {
    tensors: usize,
    values: usize,
}

/// Bytes that a model takes in one dtype.
#[derive(Serialize)]
struct Memory {
    weights: usize,
    /// As long as no window is full.
    cache_per_token: usize,
    /// Weights and cache, by the tokens of the context.
    contexts: BTreeMap<usize, usize>,
}

impl Memory {
    fn new(config: &Qwen3Config, parameters: usize, dtype: Precision) -> Self {
        let weights = parameters.saturating_mul(dtype.bytes());
        let chunk = SessionOptions::default().chunk_size;
        let whole = |tokens: usize| {
            let layers = 0..config.num_hidden_layers;
            let caches = layers.map(|layer| config.layer_cache_bytes(layer, tokens, chunk, dtype));
            caches.fold(weights, usize::saturating_add)
        };
        let longest = config.max_tokens();
        let contexts = CONTEXTS.into_iter().filter(|tokens| *tokens < longest);
        Self {
            weights,
            cache_per_token: config.cache_bytes_per_token(dtype),
            contexts: contexts.chain([longest]).map(|n| (n, whole(n))).collect(),
        }
    }
}

/// Reads headers only, and prints.
pub fn run(args: &Args) -> Result<()> {
    let report = report(&args.model.model, &args.model.files(Need::Texts)?)?;
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(out.flush()?)
}

fn report(model: &str, files: &Files) -> Result<Report> {
    let format = match &files.weights {
        Weights::Checkpoint(path) if path.is_file() => "gguf",
        Weights::Checkpoint(_) => "checkpoint",
        Weights::Record(_) => "record",
    };
    let config = files.weights.config()?;
    let tensors = match tensors(&files.weights) {
        // A folder with a config alone still says how large the model is.
        Err(CheckpointError::NoWeights { .. }) => Vec::new(),
        tensors => tensors.bad_input()?,
    };
    let extent = if tensors.is_empty() { Extent::Whole } else { files.weights.extent()? };
    if let (Weights::Checkpoint(folder), false) = (&files.weights, tensors.is_empty()) {
        Checkpoint::open(folder).and_then(|open| open.check(extent)).bad_input()?;
    }
    let parameters = extent.parameters(&config);
    let mut dtypes = BTreeMap::<String, Stored>::new();
    for tensor in &tensors {
        let stored = dtypes.entry(tensor.dtype.clone()).or_default();
        stored.tensors += 1;
        stored.values = stored.values.saturating_add(tensor.values());
    }
    let memory = Precision::ALL.map(|dtype| (dtype.name(), Memory::new(&config, parameters, dtype)));
    Ok(Report {
        model: model.into(),
        format,
        parameters,
        active_parameters: config.num_active_parameters().min(parameters),
        has_head: extent == Extent::Whole,
        config: serde_json::from_str(&config.to_json())?,
        tensors,
        dtypes,
        memory: memory.into(),
    })
}

/// The tensors of a checkpoint or record, by name. Reads headers only.
///
/// # Errors
/// When the files are not sound.
pub fn tensors(weights: &Weights) -> Result<Vec<Entry>, CheckpointError> {
    let entry = |name: String, dtype: String, shape: Vec<usize>, file: &std::path::Path| Entry {
        name,
        dtype: dtype.to_lowercase(),
        shape,
        file: file.file_name().unwrap_or_default().to_string_lossy().into(),
    };
    Ok(match weights {
        Weights::Checkpoint(folder) => {
            let tensors = Checkpoint::open(folder)?.tensors().into_iter();
            tensors
                .map(|(name, found)| entry(name, found.encoding.to_string(), found.shape, &found.file))
                .collect()
        }
        Weights::Record(file) => {
            let tensors = RecordFile::open(file)?.tensors();
            tensors
                .into_iter()
                .map(|(name, (dtype, shape))| entry(name, format!("{dtype:?}"), shape, file))
                .collect()
        }
    })
}

fn print(out: &mut impl Write, report: &Report) -> Result<()> {
    let text = |key: &str| match &report.config[key] {
        serde_json::Value::Null => "-".to_string(),
        value => printable(&value.to_string()).into_owned(),
    };
    writeln!(out, "{} ({})", printable(&report.model), report.format)?;
    for key in [
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "tie_word_embeddings",
    ] {
        writeln!(out, "  {key:<24} {:>12}", text(key))?;
    }
    const OF_SOME: [&str; 6] = [
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "decoder_sparse_step",
        "sliding_window",
        "max_window_layers",
    ];
    // Where windows are listed, it does not count.
    let listed = !report.config["layer_types"].is_null();
    for key in OF_SOME {
        let counts = !(listed && key == "max_window_layers");
        if counts && !report.config[key].is_null() {
            writeln!(out, "  {key:<24} {:>12}", text(key))?;
        }
    }
    if let Some(kind) = report.config["rope_scaling"]["rope_type"].as_str() {
        writeln!(out, "  {:<24} {kind:>12}", "rope_scaling")?;
    }
    writeln!(out, "  {:<24} {:>12}", "parameters", report.parameters)?;
    if report.active_parameters < report.parameters {
        writeln!(out, "  {:<24} {:>12}", "active parameters", report.active_parameters)?;
    }
    if !report.has_head {
        writeln!(out, "  {:<24} {:>12}", "head", "none: it embeds texts, and writes none")?;
    }
    for (dtype, stored) in &report.dtypes {
        writeln!(
            out,
            "  {:<24} {:>12} in {} tensors",
            format!("stored as {dtype}"),
            stored.values,
            stored.tensors
        )?;
    }
    if report.tensors.is_empty() {
        writeln!(out, "  no weights here: what follows is by the config")?;
    }
    let mib = |bytes: usize| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    writeln!(out, "\n  {:<24} {:>12} {:>12} {:>12}", "memory in MiB", "f32", "f16", "bf16")?;
    let row = |out: &mut dyn Write, name: &str, of: &dyn Fn(&Memory) -> usize| {
        let cells = Precision::ALL.map(|dtype| mib(of(&report.memory[dtype.name()])));
        let [f32, f16, bf16] = cells;
        writeln!(out, "  {name:<24} {f32:>12} {f16:>12} {bf16:>12}")
    };
    row(out, "weights", &|memory| memory.weights)?;
    let contexts = report.memory["f32"].contexts.keys();
    for &tokens in contexts {
        let name = format!("with {tokens} tokens");
        row(out, &name, &|memory| memory.contexts[&tokens])?;
    }
    if !report.tensors.is_empty() {
        writeln!(out, "\n  {:<56} {:<5} shape", "tensor", "dtype")?;
    }
    for tensor in &report.tensors {
        let Entry { name, dtype, shape, .. } = tensor;
        writeln!(out, "  {:<56} {dtype:<5} {shape:?}", printable(name))?;
    }
    Ok(())
}
