//! What other programs call the tensors, and how they lay them out, is recognised.

use std::path::{Path, PathBuf};

use qwen3_config::{Qwen3Config, Tap};
use qwen3_trace::{Names, Reference, Site, Trace, TraceError};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A tensor of a file: name, shape, values.
type Tensor = (String, Vec<usize>, Vec<f32>);

struct Given {
    config: Qwen3Config,
    reference: Reference,
    folder: tempfile::TempDir,
}

impl Given {
    /// A prompt of one row of seven tokens, with all taps, whose values are random.
    fn new() -> Self {
        let config = Qwen3Config { num_hidden_layers: 2, ..Qwen3Config::tiny() };
        let folder = tempfile::tempdir().unwrap();
        let sparse = |site: &Site| site.tap.is_of_experts();
        let tensors = Site::all(2).filter(|site| !sparse(site)).enumerate().map(|(seed, site)| {
            let shape = site.tap.shape(&config, 1, 7);
            let value = |i: usize| ((i * i + 1) as f32 * (1.7 + 0.37 * seed as f32)).sin();
            (site.to_string(), shape.clone(), (0..shape.iter().product()).map(value).collect())
        });
        let tensors: Vec<Tensor> = tensors.collect();
        let file = folder.path().join("reference.safetensors");
        write(&file, &tensors, true);
        let reference = Reference::open(&file, &config, true).unwrap();
        Self { config, reference, folder }
    }

    fn values(&self, key: &str) -> (Vec<usize>, Vec<f32>) {
        let array = self.reference.trace.array(key).unwrap().unwrap_or_else(|| panic!("no {key}"));
        let values = array.floats(key).unwrap().to_vec();
        (array.shape, values)
    }

    /// A tensor of the reference under another name, without the first `drop` axes.
    fn as_is(&self, name: &str, key: &str, drop: usize) -> Tensor {
        let (shape, values) = self.values(key);
        (name.into(), shape[drop..].to_vec(), values)
    }

    fn file(&self, tensors: &[Tensor]) -> PathBuf {
        let file = self.folder.path().join("mine.safetensors");
        write(&file, tensors, false);
        file
    }

    fn read(&self, tensors: &[Tensor]) -> Result<Trace, TraceError> {
        let trace = Trace::open(&self.file(tensors))?;
        trace.read_as(&self.config, &self.reference.rows, None, Some(&self.reference.trace))
    }

    /// Is it read as the reference has it, and told in such words?
    fn reads(&self, key: &str, tensor: Tensor, words: &str) {
        let name = tensor.0.clone();
        let trace = self.read(&[tensor]).unwrap();
        let (shape, values) = self.values(key);
        let found = trace.array(key).unwrap().unwrap_or_else(|| panic!("{name}: {:?}", trace.misshapen()));
        assert_eq!(found.shape, shape, "{name}");
        assert_eq!(found.floats(key).unwrap(), values, "{name}");
        let taken = trace.taken().iter().map(|taken| (taken.key.as_str(), taken.layout.as_str()));
        assert_eq!(taken.collect::<Vec<_>>(), [(key, words)], "{name}");
        assert_eq!(trace.unread(&self.config).unwrap(), [""; 0]);
    }
}

/// Writes tensors, and the ids of a prompt.
fn write(file: &Path, tensors: &[Tensor], with_ids: bool) {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., values)| bytes(values)).collect();
    let ids: Vec<u8> = (0..7_i64).flat_map(i64::to_le_bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let ids =
        with_ids.then(|| ("input_ids".to_string(), TensorView::new(Dtype::I64, vec![1, 7], &ids).unwrap()));
    safetensors::serialize_to_file(views.chain(ids), None, file).unwrap();
}

/// The values with axes in another order.
fn permuted(shape: &[usize], values: &[f32], order: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let new: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let mut found = Vec::with_capacity(values.len());
    for at in 0..values.len() {
        let mut rest = at;
        let mut index = vec![0; shape.len()];
        for place in (0..new.len()).rev() {
            index[order[place]] = rest % new[place];
            rest /= new[place];
        }
        found.push(values[index.iter().zip(shape).fold(0, |flat, (i, size)| flat * size + i)]);
    }
    (new, found)
}

fn key(layer: usize, tap: Tap) -> String {
    Site::inside(layer, tap).to_string()
}

/// vLLM's layers return what is yet to be added to the residual stream.
#[test]
fn the_halves_of_a_layers_output_are_added() {
    let given = Given::new();
    let (shape, values) = given.values("layer_01_output");
    let half = |name: &str, of: fn(f32) -> f32| -> Tensor {
        (name.into(), shape[1..].to_vec(), values.iter().map(|value| of(*value)).collect())
    };
    for pair in ["model.layers.1", "step/model.layers.1.output", "layers.1.outputs"] {
        let halves = [half(&format!("{pair}.0"), |x| 0.25 * x), half(&format!("{pair}.1"), |x| 0.75 * x)];
        let trace = given.read(&halves).unwrap();
        assert_eq!(trace.array("layer_01_output").unwrap().unwrap().floats("").unwrap(), values);
        assert_eq!(trace.shape("layer_01_output").unwrap().unwrap(), shape);
        let told: Vec<_> = trace.taken().iter().map(|taken| taken.layout.clone()).collect();
        assert!(told.contains(&format!("what is added to `{pair}.0`")), "{told:?}");
        assert_eq!(trace.unread(&given.config).unwrap(), [""; 0]);
        assert!(trace.left().is_empty());
    }
    // Older layers of Transformers return attention's weights beside.
    let weights = ("model.layers.1.1".to_string(), vec![2, 7, 7], vec![0.5; 98]);
    let trace = given.read(&[given.as_is("model.layers.1.0", "layer_01_output", 0), weights]).unwrap();
    assert_eq!(trace.array("layer_01_output").unwrap().unwrap().floats("").unwrap(), values);
    assert_eq!(trace.left().keys().collect::<Vec<_>>(), ["model.layers.1.1"]);
}

#[test]
fn llama_cpp_is_read() {
    let given = Given::new();
    given.reads("layer_01_output", given.as_is("l_out-1", "layer_01_output", 1), "");
    given.reads("logits", given.as_is("result_output", "logits", 1), "");
    let (norm, proj, rope) = (key(1, Tap::KNorm), key(1, Tap::QProj), key(1, Tap::QRope));
    given.reads(&norm, given.as_is("Kcur_normed-1", &norm, 1), "");
    // Twice the same name: projection and RoPE are told apart.
    given.reads(&proj, given.as_is("Qcur-1", &proj, 1), "");
    let (shape, values) = given.values(&rope);
    let (shape, values) = permuted(&shape, &values, &[0, 2, 1, 3]);
    given.reads(
        &rope,
        ("Qcur-1".into(), shape[1..].to_vec(), values),
        "tokens, heads, features in this order",
    );
    // Shapes as ggml writes them.
    let (shape, values) = given.values("layer_00_output");
    let backwards = vec![shape[2], shape[1], 1, 1];
    given.reads(
        "layer_00_output",
        ("l_out-0".into(), backwards, values),
        "the shape is written innermost axis first",
    );
}

#[test]
fn modules_are_read() {
    let given = Given::new();
    let (mlp, attention, norm) = (key(1, Tap::Mlp), key(1, Tap::OProj), key(1, Tap::QNorm));
    given.reads(&mlp, given.as_is("model.layers.1.mlp", &mlp, 0), "");
    given.reads(&attention, given.as_is("base_model.model.model.layers.1.self_attn", &attention, 1), "");
    let (shape, values) = given.values(&norm);
    let together = vec![shape[1], shape[2] * shape[3]];
    let name = || "model.layers.1.self_attn.q_norm".to_string();
    given.reads(&norm, (name(), together, values.clone()), "heads together");
    let (heads_first, moved) = permuted(&shape, &values, &[0, 2, 1, 3]);
    given.reads(&norm, (name(), heads_first, moved), "heads, tokens, features in this order");
    let width = shape[3];
    let pairs = values.chunks(width).flat_map(|x| (0..width).map(|i| x[i / 2 + (i % 2) * width / 2]));
    given.reads(
        &norm,
        (name(), shape.clone(), pairs.collect()),
        "in pairs that RoPE turns, as interleaved RoPE and some GGUF files have them",
    );
}

#[test]
fn a_packed_projection_is_three() {
    let given = Given::new();
    let taps = [Tap::QProj, Tap::KProj, Tap::VProj];
    let all = taps.map(|tap| given.values(&key(0, tap)));
    let tokens = all[0].0[1];
    let columns: usize = all.iter().map(|(shape, _)| shape[2]).sum();
    let mut packed = Vec::new();
    for token in 0..tokens {
        for (shape, values) in &all {
            packed.extend_from_slice(&values[token * shape[2]..(token + 1) * shape[2]]);
        }
    }
    let name = "model.layers.0.self_attn.qkv_proj";
    let trace = given.read(&[(name.into(), vec![tokens, columns], packed)]).unwrap();
    for (tap, (_, values)) in taps.into_iter().zip(&all) {
        let key = key(0, tap);
        assert_eq!(trace.array(&key).unwrap().unwrap().floats(&key).unwrap(), values, "{key}");
    }
    assert_eq!(trace.taken().len(), 3);
}

#[test]
fn axes_of_our_own_keys_are_in_their_order() {
    let given = Given::new();
    let key = key(0, Tap::QNorm);
    let (shape, values) = given.values(&key);
    let (exchanged, moved) = permuted(&shape, &values, &[0, 2, 1, 3]);
    let trace = given.read(&[(key.clone(), exchanged, moved)]).unwrap();
    let error = trace.check(&given.config, &given.reference.rows).unwrap_err().to_string();
    assert!(error.contains("axes 1 and 2 look exchanged"), "{error}");
    // Heads together, and no batch axis, are not another order.
    given.reads(&key, (key.clone(), vec![shape[1], shape[2] * shape[3]], values), "heads together");
}

#[test]
fn what_is_there_twice_or_of_another_shape_is_told() {
    let given = Given::new();
    let tensor = |name: &str| given.as_is(name, "layer_01_output", 0);
    let twice = given.read(&[tensor("l_out-1"), tensor("model.layers.1")]);
    let error = twice.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`l_out-1` and `model.layers.1` are both `layer_01_output`"), "{error}");
    // The key itself goes before other names for it.
    let trace = given.read(&[tensor("l_out-1"), tensor("layer_01_output")]).unwrap();
    assert_eq!(trace.left()["l_out-1"], "as `layer_01_output`");
    // The last layer's output of the last token alone.
    let (shape, values) = given.values("layer_01_output");
    let last = values[values.len() - shape[2]..].to_vec();
    let trace = given.read(&[("l_out-1".into(), vec![1, shape[2]], last)]).unwrap();
    let said = &trace.misshapen()["l_out-1"];
    assert_eq!(*said, format!("shape [1, {}], `layer_01_output` has {shape:?}", shape[2]));
    assert!(!trace.has("layer_01_output").unwrap());
}

#[test]
fn names_are_given_where_nobody_knows_them() {
    let given = Given::new();
    let block = given.as_is("block1/out", "layer_01_output", 0);
    let expected = block.2.len();
    let file = given.file(&[block, ("cache".into(), vec![1], vec![0.0])]);
    let names = given.folder.path().join("names.json");
    let read = |json: &str| {
        std::fs::write(&names, json).unwrap();
        let names = Names::read(&names).unwrap();
        Trace::open(&file).unwrap().read_as(&given.config, &given.reference.rows, Some(&names), None)
    };
    let trace = read(r#"{"block{layer}/out": "layer_{layer}_output", "cache": null}"#).unwrap();
    assert_eq!(trace.values("layer_01_output").unwrap().unwrap().len(), expected);
    assert_eq!(trace.unread(&given.config).unwrap(), [""; 0]);
    let error = |json: &str| read(json).map(|_| ()).unwrap_err().to_string();
    assert!(error(r#"{"block{layer}/out": "layer_{layer}_outputs"}"#).contains("which is no key"));
    assert!(error(r#"{"blocks{layer}": "layer_{layer}_output"}"#).contains("none of its names is in"));
}
