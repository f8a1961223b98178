//! Runs a case on a device: the part that is under test, and nothing that judges it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::store::ModuleSnapshot;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_import::{Checkpoint, load, load_record, save_record};
use qwen3_model::{
    Attention, DecoderLayer, Logits, Mlp, Observed, Qwen3, Qwen3Config, RmsNorm, RotaryEmbedding,
    Session, SessionOptions, Site, Step, Tap, Taps,
};

use crate::data::TensorFile;
use crate::manifest::{Case, Kind};

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
        Self {
            name: name.into(),
            data,
        }
    }
}

/// Where a case runs and what it runs on.
pub struct Bench<'a> {
    /// The device.
    pub device: &'a Device,
    /// The precision.
    pub dtype: DType,
    /// The checkpoint's directory, already verified.
    pub checkpoint: &'a Path,
}

impl Bench<'_> {
    /// Computes every output of `case` from the inputs in `file`, in the order of computation.
    ///
    /// # Errors
    /// Only about fixtures: a missing tensor, an odd shape, a checkpoint that does not load.
    pub fn run(&self, case: &Case, file: Option<&TensorFile>) -> Result<Vec<Output>> {
        let inputs = || file.context("the case has no inputs");
        match case.kind {
            Kind::RmsNorm => self.rms_norm(case, inputs()?),
            Kind::Mlp => self.mlp(case, inputs()?),
            Kind::Attention => self.attention(case, inputs()?),
            Kind::DecoderLayer => self.decoder_layer(case, inputs()?),
            Kind::FullModel => self.full_model(inputs()?),
            Kind::RecordRoundtrip => self.record_roundtrip(),
        }
    }

    fn rms_norm(&self, case: &Case, file: &TensorFile) -> Result<Vec<Output>> {
        let mut checkpoint = Checkpoint::open(self.checkpoint)?;
        let config = checkpoint.config().clone();
        let module = case.module.as_deref().context("`module` is missing")?;
        let prefix = format!("model.layers.{}.{module}", layer(case)?);
        let mut source = checkpoint.source(self.device, self.dtype)?;
        let norm = RmsNorm::build(
            &mut source,
            &prefix,
            config.hidden_size,
            config.rms_norm_eps,
        )?;
        let x = self.floats(file, "input_hidden_states", &config)?;
        Ok(vec![Output::new("output", norm.forward(x).into_data())])
    }

    fn mlp(&self, case: &Case, file: &TensorFile) -> Result<Vec<Output>> {
        let mut checkpoint = Checkpoint::open(self.checkpoint)?;
        let config = checkpoint.config().clone();
        let prefix = format!("model.layers.{}.mlp", layer(case)?);
        let mut source = checkpoint.source(self.device, self.dtype)?;
        let mlp = Mlp::build(&mut source, &prefix, &config)?;
        let x = self.floats(file, "input_x", &config)?;
        Ok(vec![Output::new("output", mlp.forward(x).into_data())])
    }

    fn attention(&self, case: &Case, file: &TensorFile) -> Result<Vec<Output>> {
        let mut checkpoint = Checkpoint::open(self.checkpoint)?;
        let config = checkpoint.config().clone();
        let prefix = format!("model.layers.{}.self_attn", layer(case)?);
        let mut source = checkpoint.source(self.device, self.dtype)?;
        let attention = Attention::build(&mut source, &prefix, &config)?;

        let rope = RotaryEmbedding::new(config.head_dim, config.rope_theta);
        let rows = Rows::read(file)?;
        let mut outputs = Vec::from(rope_tables(&rope, &rows.positions, ["cos", "sin"]));
        let step = Step::uncached(&rope, &rows.positions, &rows.visible, self.device);
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

    fn decoder_layer(&self, case: &Case, file: &TensorFile) -> Result<Vec<Output>> {
        let mut checkpoint = Checkpoint::open(self.checkpoint)?;
        let config = checkpoint.config().clone();
        let mut source = checkpoint.source(self.device, self.dtype)?;
        let layer = DecoderLayer::build(&mut source, &config, layer(case)?)?;

        let rope = RotaryEmbedding::new(config.head_dim, config.rope_theta);
        let rows = Rows::read(file)?;
        let step = Step::uncached(&rope, &rows.positions, &rows.visible, self.device);
        let x = self.hidden_states(file, &rows, &config)?;
        let mut outputs = Vec::new();
        let mut observe = |site: Site, value| {
            outputs.push(Output::new(site.tap.name(), observed_data(value)));
        };
        layer.forward(x, &step, None, &mut Taps::new(&mut observe));
        Ok(outputs)
    }

    /// A whole prefill with taps; then, in a second session, a chunked prefill and one cached step per
    /// generated token, fed with the reference's tokens so that one difference does not hide the next.
    fn full_model(&self, file: &TensorFile) -> Result<Vec<Output>> {
        let model = load(self.checkpoint, self.device, self.dtype)?;
        let (ids, visible) = (Grid::read(file, "input_ids")?, read_mask(file)?);
        let prompts = prompts(&ids, visible.as_deref())?;
        let longest = ids.rows[0].len();

        let mut outputs = Vec::new();
        let generated = match file.has("generated_ids") {
            true => Some(Grid::read(file, "generated_ids")?),
            false => None,
        };
        let capacity = generated
            .as_ref()
            .map_or(longest, |ids| longest.max(ids.rows[0].len()));
        let options = SessionOptions {
            batch: prompts.len(),
            capacity,
            chunk_size: longest,
        };
        let mut observe = |site: Site, value| {
            outputs.push(Output::new(site.to_string(), observed_data(value)));
        };
        Session::new(&model, options)?.prefill_with(
            &prompts,
            Logits::All,
            &mut Taps::new(&mut observe),
        )?;
        if file.has("rope_cos") {
            let shape = file.read("rope_cos")?.shape;
            let positions = vec![(0..shape[0]).collect()];
            let tables = rope_tables(&model.rope(), &positions, ["rope_cos", "rope_sin"]);
            outputs.extend(tables.map(|table| {
                let values = table.data.iter::<f32>().collect::<Vec<_>>();
                Output::new(table.name, TensorData::new(values, shape.clone()))
            }));
        }
        if let Some(generated) = generated {
            let chunk_size = longest.div_ceil(2);
            let options = SessionOptions {
                chunk_size,
                ..options
            };
            outputs.extend(decode(&model, options, &prompts, &generated, longest)?);
        }
        Ok(outputs)
    }

    /// Every parameter of the model loaded from a record that was saved from the checkpoint, under its
    /// key in the record. The expectation is [`parameters`] of the checkpoint's own load.
    fn record_roundtrip(&self) -> Result<Vec<Output>> {
        let model = load(self.checkpoint, self.device, self.dtype)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.bpk");
        save_record(&model, &file, self.dtype)?;
        let config = model.config.to_json();
        drop(model);
        let again = load_record(&file, self.device, self.dtype)?;
        ensure!(
            config == again.config.to_json(),
            "the config changed on its way through the record"
        );
        parameters(&again)
    }

    /// The expectation of a `record_roundtrip`.
    ///
    /// # Errors
    /// When the checkpoint does not load.
    pub fn checkpoint_parameters(&self) -> Result<Vec<Output>> {
        parameters(&load(self.checkpoint, self.device, self.dtype)?)
    }

    /// An input `[batch, seq, hidden_size]`.
    fn floats(&self, file: &TensorFile, name: &str, config: &Qwen3Config) -> Result<Tensor<3>> {
        let array = file.read(name)?;
        let shape = match array.shape[..] {
            [batch, seq, hidden] if hidden == config.hidden_size => [batch, seq, hidden],
            _ => bail!(
                "tensor `{name}` has shape {:?}, expected [batch, seq, {}]",
                array.shape,
                config.hidden_size
            ),
        };
        let data = TensorData::new(array.floats(name)?.to_vec(), shape);
        let data = data.convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (self.device, self.dtype)))
    }

    /// The input `hidden_states`, one token for each of `rows`' positions.
    fn hidden_states(
        &self,
        file: &TensorFile,
        rows: &Rows,
        config: &Qwen3Config,
    ) -> Result<Tensor<3>> {
        let x = self.floats(file, "hidden_states", config)?;
        let expected = [rows.positions.len(), rows.positions[0].len()];
        ensure!(
            x.dims()[..2] == expected,
            "tensor `hidden_states` has shape {:?}, but `position_ids` {expected:?}",
            x.dims()
        );
        Ok(x)
    }
}

fn layer(case: &Case) -> Result<usize> {
    case.layer.context("`layer` is missing")
}

fn parameters(model: &Qwen3) -> Result<Vec<Output>> {
    model
        .collect(None, None, false)
        .into_iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            Ok(Output::new(name, burn::store::bridge::into_data(tensor)?))
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
    [
        Output::new(cos_name, double(cos)),
        Output::new(sin_name, double(sin)),
    ]
}

/// `step_logits` and the `generated_ids` that follow from them.
fn decode(
    model: &Qwen3,
    options: SessionOptions,
    prompts: &[Vec<u32>],
    generated: &Grid,
    longest: usize,
) -> Result<Vec<Output>> {
    ensure!(
        generated.rows.len() == prompts.len() && generated.rows[0].len() >= longest,
        "`generated_ids` does not continue `input_ids`"
    );
    let mut session = Session::new(model, options)?;
    let mut logits = session.prefill(prompts)?;
    let mut steps = Vec::new();
    let mut chosen = Vec::new();
    for column in longest..options.capacity {
        if column > longest {
            let tokens = generated.rows.iter().map(|row| token(row[column - 1]));
            logits = session.step(&tokens.collect::<Result<Vec<_>>>()?)?;
        }
        steps.push(logits.clone().unsqueeze_dim::<3>(1)); // [batch, 1, vocab_size]
        let best: Tensor<2, Int> = logits.clone().argmax(1); // [batch, 1]
        chosen.push(best.into_data().iter::<i64>().collect::<Vec<_>>());
    }
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let rows = generated.rows.iter().enumerate().flat_map(|(row, ids)| {
        let chosen = chosen.iter().map(move |best| best[row]);
        ids[..longest].iter().copied().chain(chosen)
    });
    let shape = [generated.rows.len(), options.capacity];
    let ids = TensorData::new(rows.collect::<Vec<i64>>(), shape);
    Ok(vec![
        Output::new("step_logits", Tensor::cat(steps, 1).into_data()),
        Output::new("generated_ids", ids),
    ])
}

/// A matrix of integers from a fixture; at least one row and one column.
struct Grid {
    rows: Vec<Vec<i64>>,
}

impl Grid {
    fn read(file: &TensorFile, name: &str) -> Result<Self> {
        let array = file.read(name)?;
        match (array.ints(name)?, &array.shape[..]) {
            (values, [batch, seq]) if *batch > 0 && *seq > 0 => Ok(Self {
                rows: values.chunks(*seq).map(<[i64]>::to_vec).collect(),
            }),
            (_, shape) => bail!("tensor `{name}` is not a non-empty matrix (shape {shape:?})"),
        }
    }
}

/// Positions and padding of a layer case.
struct Rows {
    positions: Vec<Vec<usize>>,
    visible: Vec<Vec<bool>>,
}

impl Rows {
    fn read(file: &TensorFile) -> Result<Self> {
        let grid = Grid::read(file, "position_ids")?;
        let positions = grid.rows.iter().map(|row| {
            let row = row.iter().map(|position| usize::try_from(*position));
            row.collect::<Result<Vec<_>, _>>()
        });
        let positions = positions
            .collect::<Result<Vec<_>, _>>()
            .context("tensor `position_ids` has a negative position")?;
        let visible = match read_mask(file)? {
            Some(mask) => {
                let same = |(mask, row): (&Vec<bool>, &Vec<usize>)| mask.len() == row.len();
                ensure!(
                    mask.len() == positions.len() && mask.iter().zip(&positions).all(same),
                    "`attention_mask` and `position_ids` differ in shape"
                );
                mask
            }
            None => positions.iter().map(|row| vec![true; row.len()]).collect(),
        };
        Ok(Self { positions, visible })
    }
}

/// The `attention_mask` of a file, if it has one: true at tokens, false at padding.
pub fn read_mask(file: &TensorFile) -> Result<Option<Vec<Vec<bool>>>> {
    if !file.has("attention_mask") {
        return Ok(None);
    }
    let grid = Grid::read(file, "attention_mask")?;
    let mask = |row: &Vec<i64>| row.iter().map(|value| *value != 0).collect();
    Ok(Some(grid.rows.iter().map(mask).collect()))
}

/// The tokens of each row, left padding taken off.
fn prompts(ids: &Grid, visible: Option<&[Vec<bool>]>) -> Result<Vec<Vec<u32>>> {
    if let Some(mask) = visible {
        ensure!(
            mask.len() == ids.rows.len() && mask[0].len() == ids.rows[0].len(),
            "`attention_mask` and `input_ids` differ in shape"
        );
    }
    let prompt = |(row, ids): (usize, &Vec<i64>)| {
        let padding = visible.map_or(0, |mask| {
            mask[row].iter().take_while(|seen| !**seen).count()
        });
        ids[padding..].iter().map(|id| token(*id)).collect()
    };
    ids.rows.iter().enumerate().map(prompt).collect()
}

fn token(id: i64) -> Result<u32> {
    u32::try_from(id).with_context(|| format!("{id} is not a token id"))
}
