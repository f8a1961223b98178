//! Where attention is nearly tied, all that disturbs a layer leads the same way: noise has no cause, though a mistake
//! with a number can be bent to look like it, and a mistake with a number is told with what else would fit.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use qwen3_blame::{Examination, ExamineOptions, LayerTaps, LayerWeights, Variant, examine, run_layer};
use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Precision, Rows, Tap};
use qwen3_trace::{Mode, Reference, Trace};
use zip::ZipWriter;
use zip::write::FileOptions;

const HIDDEN: usize = 8;
const TOKENS: usize = 2;

/// Numbers between -1 and 1 that look random.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

/// A layer with one head of four features, whose queries and keys are long, and no MLP: for two tokens, one number
/// decides what comes out.
fn checkpoint(folder: &Path, seed: u64) -> Checkpoint {
    let config = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 8,
        "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "head_dim": 4, "vocab_size": 4, "max_position_embeddings": 16, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false, "torch_dtype": "float32"}"#;
    fs::write(folder.join("config.json"), config).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = [
        ("model.embed_tokens.weight".to_string(), vec![4, HIDDEN], 1.0),
        ("model.norm.weight".to_string(), vec![HIDDEN], 0.0),
        (layer("input_layernorm"), vec![HIDDEN], 0.0),
        (layer("post_attention_layernorm"), vec![HIDDEN], 0.0),
        (layer("self_attn.q_norm"), vec![4], 0.0),
        (layer("self_attn.k_norm"), vec![4], 0.0),
        (layer("self_attn.q_proj"), vec![4, HIDDEN], 1.0),
        (layer("self_attn.k_proj"), vec![4, HIDDEN], 1.0),
        (layer("self_attn.v_proj"), vec![4, HIDDEN], 3.0),
        (layer("self_attn.o_proj"), vec![HIDDEN, 4], 3.0),
        (layer("mlp.gate_proj"), vec![8, HIDDEN], 1.0),
        (layer("mlp.up_proj"), vec![8, HIDDEN], 1.0),
        (layer("mlp.down_proj"), vec![HIDDEN, 8], f32::MIN_POSITIVE),
    ];
    let (mut draws, mut header, mut data) = (Draws(seed), serde_json::Map::new(), Vec::new());
    for (name, shape, scale) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product() {
            let value = match scale {
                0.0 if name.contains("_norm") => 30.0 + draws.next(),
                0.0 => 1.0 + 0.1 * draws.next(),
                _ => scale * draws.next(),
            };
            data.extend(value.to_le_bytes());
        }
        let tensor =
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name, tensor);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&data).unwrap();
    Checkpoint::open(folder).unwrap()
}

fn array(name: &str, kind: &str, shape: &[usize], data: Vec<u8>) -> (String, Vec<u8>) {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '<{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    (format!("{name}.npy"), bytes)
}

/// A file of the layer's input and output.
fn write(path: &Path, x: &[f64], output: &[f64]) {
    let floats = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let ids = [0_i64, 1].iter().flat_map(|id| id.to_le_bytes()).collect();
    let shape = [1, TOKENS, HIDDEN];
    let mut file = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in [
        array("input_ids", "i8", &[1, TOKENS], ids),
        array("embedding_output", "f8", &shape, floats(x)),
        array("layer_00_output", "f8", &shape, floats(output)),
    ] {
        file.start_file(name, FileOptions::default()).unwrap();
        file.write_all(&bytes).unwrap();
    }
    file.finish().unwrap();
}

/// The layer on two tokens.
struct Layer {
    checkpoint: Checkpoint,
    weights: LayerWeights,
    rows: Rows,
    x: Vec<f64>,
}

impl Layer {
    /// With attention so sharp and so nearly tied that noise is led one way: as another eps of the keys leads.
    fn new(folder: &Path) -> Self {
        let found = (0..5000).find_map(|seed| {
            let checkpoint = checkpoint(folder, seed);
            let weights = LayerWeights::read(&checkpoint, 0).unwrap();
            let embedding: Vec<f32> = checkpoint.values("model.embed_tokens.weight", &[4, HIDDEN]).unwrap();
            let x = embedding[..TOKENS * HIDDEN].iter().map(|value| f64::from(*value)).collect();
            let layer = Self { checkpoint, weights, rows: Rows::unpadded(1, TOKENS), x };
            let right = layer.output(&layer.right(), &layer.x);
            let off =
                |output: &[f64]| -> Vec<f64> { output.iter().zip(&right).map(|(a, b)| a - b).collect() };
            let noise = off(&layer.output(&layer.right(), &layer.disturbed(&mut Draws(seed))));
            let mistake = off(&layer.output(&Variant { head_eps: 2e-6, ..layer.right() }, &layer.x));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = dot(&noise, &mistake) / (dot(&noise, &noise) * dot(&mistake, &mistake)).sqrt();
            (cosine.abs() > 0.9995).then_some(layer)
        });
        found.expect("one of them is nearly tied")
    }

    /// The input as rounding to f32 disturbs it.
    fn disturbed(&self, draws: &mut Draws) -> Vec<f64> {
        self.x.iter().map(|x| x * (1.0 + 6e-8 * f64::from(draws.next()))).collect()
    }

    fn right(&self) -> Variant {
        Variant::right(self.checkpoint.config())
    }

    fn run(&self, variant: &Variant, x: &[f64]) -> LayerTaps {
        run_layer(&self.weights, self.checkpoint.config(), variant, &self.rows, x, None)
    }

    fn output(&self, variant: &Variant, x: &[f64]) -> Vec<f64> {
        self.run(variant, x).get(Tap::LayerOutput).to_vec()
    }

    fn examine(&self, folder: &Path, output: &[f64]) -> Examination {
        let [right, seen] = ["reference.npz", "observed.npz"].map(|name| folder.join(name));
        write(&right, &self.x, &self.output(&self.right(), &self.x));
        write(&seen, &self.x, output);
        let reference = Reference::open(&right, self.checkpoint.config(), true).unwrap();
        let mut quiet = |_: &str| {};
        let options = ExamineOptions::new(Precision::F32, &mut quiet);
        examine(&self.checkpoint, &reference, &Trace::open(&seen).unwrap(), options).unwrap()
    }
}

#[test]
fn noise_that_is_led_one_way_has_no_cause() {
    let folder = tempfile::tempdir().unwrap();
    let layer = Layer::new(folder.path());
    let right = layer.output(&layer.right(), &layer.x);
    let mut draws = Draws(3);
    let mut alarms = 0;
    for _ in 0..4 {
        let disturbed = layer.output(&layer.right(), &layer.disturbed(&mut draws));
        let off = |factor: f64| -> Vec<f64> {
            right.iter().zip(&disturbed).map(|(right, off)| right + factor * (off - right)).collect()
        };
        let honest = layer.examine(folder.path(), &off(1.0));
        let ratio = honest.verdicts.of(Mode::Accumulated).map(|v| v.calibrated).fold(0.0, f64::max);
        assert!(ratio < 1.0, "an honest run is beyond its limits: {ratio}");
        for over in [1.2, 2.0, 4.0] {
            let found = layer.examine(folder.path(), &off(over / ratio));
            alarms += usize::from(!found.verdicts.pass());
            assert_eq!(found.diagnosis.causes, [], "{over} limits");
        }
    }
    assert_eq!(alarms, 12);
}

#[test]
fn a_fitted_number_is_told_with_its_uncertainty() {
    let folder = tempfile::tempdir().unwrap();
    let layer = Layer::new(folder.path());
    let wrong = Variant { head_eps: 3.3e-3, ..layer.right() };
    let found = layer.examine(folder.path(), &layer.output(&wrong, &layer.x));
    let cause = &found.diagnosis.causes[0];
    let fitted = cause.fitted.unwrap();
    assert_eq!((cause.id.as_str(), fitted.value), ("eps", 3.3e-3));
    assert!(fitted.low < 3.3e-3 && 3.3e-3 < fitted.high && fitted.high < 1.1 * fitted.low, "{fitted:?}");
    assert!(cause.explanation.contains("; what fits lies between 3."), "{}", cause.explanation);
}
