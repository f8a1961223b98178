//! Runs a case on a device: the part that is under test, and nothing that judges it.

mod attention;
mod gradients;
mod greedy;
mod inputs;
mod model;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_store::ModuleSnapshot;
use qwen3_config::layer_key;
use qwen3_import::{Adapter, Checkpoint, CheckpointSource, attach_adapter, load, load_record, save_record};
use qwen3_model::{
    Attention, DecoderLayer, FeedForward, Kernel, Observed, Qwen3, Qwen3Config, RmsNorm, RotaryEmbedding,
    Site, StepPlan, Tap, Taps,
};
use qwen3_trace::{Rows, TensorFile};

use self::inputs::read_rows;
pub use self::inputs::{read_columns, read_mask};
use crate::backend::owned;
use crate::manifest::{Manifest, Norm, Place, Subject};

/// A tensor that a subject computed.
#[derive(Debug)]
pub struct Output {
    /// Its name in the fixture.
    pub name: String,
    /// Its values, in whatever dtype the backend gave them.
    pub data: TensorData,
}

impl Output {
    fn new(name: impl Into<String>, data: TensorData) -> Self {
        Self { name: name.into(), data: owned(data) }
    }
}

/// Where a case runs and what it runs on.
pub struct Bench<'a> {
    /// The device.
    pub device: &'a Device,
    /// The precision.
    pub dtype: DType,
    /// How operations that have a kernel are computed.
    pub kernel: Kernel,
    /// The manifest, whose files have been verified.
    pub manifest: &'a Manifest,
}

impl Bench<'_> {
    /// Computes every output of a case from the inputs in `file`, in the order of computation.
    ///
    /// # Errors
    /// Only about fixtures: a missing tensor, an odd shape, a checkpoint that does not load.
    pub fn run(&self, subject: &Subject, file: &TensorFile) -> Result<Vec<Output>> {
        match subject {
            Subject::RmsNorm { place, norm, .. } => self.rms_norm(place, *norm, file),
            Subject::Mlp(place, _) => self.mlp(place, file),
            Subject::Attention(place, _) => self.attention(place, file),
            Subject::DecoderLayer(place, _) => self.decoder_layer(place, file),
            Subject::FullModel(checkpoint, _) => self.full_model(checkpoint, file),
            Subject::Prefill { checkpoint, chunk_size, .. } => self.prefill(checkpoint, *chunk_size, file),
            Subject::ScaledDotProductAttention(sizes, _) => self.attention_alone(sizes, file),
            Subject::Gradients(checkpoint, _) => self.gradients(checkpoint, file),
            Subject::Greedy(checkpoint, _) => self.greedy(checkpoint, file),
            Subject::RecordRoundtrip(checkpoint) => self.record_roundtrip(checkpoint),
        }
    }

    fn rms_norm(&self, place: &Place, norm: Norm, file: &TensorFile) -> Result<Vec<Output>> {
        let checkpoint = self.open(&place.checkpoint)?;
        let config = checkpoint.config().clone();
        let prefix = layer_key(place.layer, norm.name());
        let mut source = self.source(&checkpoint)?;
        let norm = RmsNorm::build(&mut source, &prefix, config.hidden_size, config.rms_norm_eps)?;
        let x = self.floats(file, "input_hidden_states", &config)?;
        Ok(vec![Output::new("output", norm.forward(x).into_data())])
    }

    fn mlp(&self, place: &Place, file: &TensorFile) -> Result<Vec<Output>> {
        let checkpoint = self.open(&place.checkpoint)?;
        let config = checkpoint.config().clone();
        let prefix = layer_key(place.layer, "mlp");
        let mut source = self.source(&checkpoint)?;
        let kind = config.layer(place.layer).feed_forward;
        let mlp = FeedForward::build(&mut source, &prefix, &config, kind)?;
        let x = self.floats(file, "input_x", &config)?;
        Ok(vec![Output::new("output", mlp.forward(x, &mut Taps::none()).into_data())])
    }

    fn attention(&self, place: &Place, file: &TensorFile) -> Result<Vec<Output>> {
        let checkpoint = self.open(&place.checkpoint)?;
        let config = checkpoint.config().clone();
        let prefix = layer_key(place.layer, "self_attn");
        let mut source = self.source(&checkpoint)?;
        let attention = Attention::build(&mut source, &prefix, &config, config.layer(place.layer).reach)?;

        let rope = RotaryEmbedding::new(config.head_dim, &config.rope);
        let rows = read_rows(file)?;
        let mut outputs = Vec::from(rope_tables(&rope, &rows.positions, ["cos", "sin"]));
        let step = StepPlan::new(&config).uncached(&rows, self.device);
        let x = self.hidden_states(file, &rows, &config)?;

        let mut observe = |site: Site, value: Observed| match (site.tap, value) {
            (Tap::QRope, Observed::Rank4(q)) => {
                outputs.push(Output::new("query_states", q.into_data()));
            }
            (Tap::KRope, Observed::Rank4(k)) => {
                outputs.push(Output::new("key_states", k.into_data()));
            }
            (Tap::VProj, Observed::Rank3(v)) => {
                let [batch, seq, _] = v.dims();
                let heads = [batch, seq, config.num_key_value_heads, config.head_dim];
                let v = v.reshape(heads).swap_dims(1, 2); // [batch, kv_heads, seq, head_dim]
                outputs.push(Output::new("value_states", v.into_data()));
            }
            _ => {}
        };
        let output = attention.forward(x, &step, None, &mut Taps::new(&mut observe));
        outputs.push(Output::new("output", output.into_data()));
        Ok(outputs)
    }

    fn decoder_layer(&self, place: &Place, file: &TensorFile) -> Result<Vec<Output>> {
        let checkpoint = self.open(&place.checkpoint)?;
        let config = checkpoint.config().clone();
        let mut source = self.source(&checkpoint)?;
        let layer = DecoderLayer::build(&mut source, &config, place.layer)?;

        let rows = read_rows(file)?;
        let step = StepPlan::new(&config).uncached(&rows, self.device);
        let x = self.hidden_states(file, &rows, &config)?;
        let mut outputs = Vec::new();
        let mut observe = |site: Site, value| {
            outputs.push(Output::new(site.tap.name(), observed_data(value)));
        };
        layer.forward(x, &step, None, &mut Taps::new(&mut observe));
        Ok(outputs)
    }

    /// Every parameter of the model loaded from a record that was saved from the checkpoint, under its
    /// key in the record. The expectation is
    /// [`checkpoint_parameters`](Self::checkpoint_parameters).
    ///
    /// # Errors
    /// When the checkpoint does not load, or the record is another model.
    pub fn record_roundtrip(&self, checkpoint: &str) -> Result<Vec<Output>> {
        let model = self.load(checkpoint)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.bpk");
        save_record(&model, &file, self.dtype)?;
        let config = model.config.to_json();
        drop(model);
        let again = load_record(&file, self.device, self.dtype)?;
        ensure!(config == again.config.to_json(), "the config changed on its way through the record");
        parameters(&again)
    }

    /// The expectation of a `record_roundtrip`.
    ///
    /// # Errors
    /// When the checkpoint does not load.
    pub fn checkpoint_parameters(&self, checkpoint: &str) -> Result<Vec<Output>> {
        parameters(&self.load(checkpoint)?)
    }

    fn folder(&self, checkpoint: &str) -> Result<PathBuf> {
        Ok(self.manifest.path(&self.manifest.checkpoints[checkpoint].path)?)
    }

    fn open(&self, checkpoint: &str) -> Result<Checkpoint> {
        let open = Checkpoint::open(self.folder(checkpoint)?)?;
        Ok(match self.adapter(checkpoint)? {
            Some(folder) => open.with_adapter(folder)?,
            None => open,
        })
    }

    fn load(&self, checkpoint: &str) -> Result<Qwen3> {
        let model = load(self.folder(checkpoint)?, self.device, self.dtype)?.with_kernel(self.kernel);
        Ok(match self.adapter(checkpoint)? {
            Some(folder) => {
                let adapter = Adapter::open(folder, &model.config)?;
                attach_adapter(model, &adapter)?
            }
            None => model,
        })
    }

    /// The folder of the adapter that a checkpoint is run with.
    fn adapter(&self, checkpoint: &str) -> Result<Option<PathBuf>> {
        let files = &self.manifest.checkpoints[checkpoint].adapter;
        Ok(files.as_ref().map(|files| self.manifest.path(&files.path)).transpose()?)
    }

    /// The weights of a checkpoint.
    fn source<'a>(&self, checkpoint: &'a Checkpoint) -> Result<CheckpointSource<'a>> {
        Ok(CheckpointSource::new(checkpoint, self.device, self.dtype)?.with_kernel(self.kernel))
    }

    /// An input `[batch, seq, hidden_size]`.
    fn floats(&self, file: &TensorFile, name: &str, config: &Qwen3Config) -> Result<Tensor<3>> {
        let x = self.input::<3>(file, name)?;
        ensure!(
            x.dims()[2] == config.hidden_size,
            "tensor `{name}` has shape {:?}, expected [batch, seq, {}]",
            x.dims(),
            config.hidden_size
        );
        Ok(x)
    }

    /// The input `hidden_states`, one token for each of `rows`' positions.
    fn hidden_states(&self, file: &TensorFile, rows: &Rows, config: &Qwen3Config) -> Result<Tensor<3>> {
        let x = self.floats(file, "hidden_states", config)?;
        let expected = rows.dims();
        ensure!(
            x.dims()[..2] == expected,
            "tensor `hidden_states` has shape {:?}, but `position_ids` {expected:?}",
            x.dims()
        );
        Ok(x)
    }
}

fn parameters(model: &Qwen3) -> Result<Vec<Output>> {
    model
        .collect(None, None, true)
        .into_iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            Ok(Output::new(name, burn_store::bridge::into_data(tensor)?))
        })
        .collect()
}

fn observed_data(value: Observed) -> TensorData {
    match value {
        Observed::Rank3(tensor) => tensor.into_data(),
        Observed::Rank4(tensor) => tensor.into_data(),
    }
}

/// Both tables as Transformers lays them out: every row of half the head, twice.
fn rope_tables(
    rope: &RotaryEmbedding,
    positions: &[Vec<usize>],
    [cos_name, sin_name]: [&str; 2],
) -> [Output; 2] {
    let (cos, sin) = rope.tables(positions.iter().flatten().copied());
    let rows = positions.len() * positions[0].len();
    let half = cos.len() / rows;
    let shape = [positions.len(), positions[0].len(), 2 * half];
    let double = |table: Vec<f32>| {
        let values = table.chunks(half).flat_map(|row| [row, row].concat());
        TensorData::new(values.collect::<Vec<_>>(), shape)
    };
    [Output::new(cos_name, double(cos)), Output::new(sin_name, double(sin))]
}
