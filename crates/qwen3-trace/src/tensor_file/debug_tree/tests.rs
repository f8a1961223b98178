use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tensor_file::tests::floats;
use crate::{Array, TensorFile, TraceError as E, Values};

const TREE: &str = "Qwen3ForCausalLM_debug_tree_FULL_TENSORS.json";

fn tensor(shape: &str, value: impl Into<Value>) -> Value {
    let shape = format!("torch.Size({shape})");
    json!({"shape": shape, "dtype": "torch.float32", "value": value.into(), "mean": "tensor(1.)"})
}

/// What a pass of a model with a layer leaves, without what is not asked for.
fn tree() -> Value {
    let path = |name: &str| format!("Qwen3ForCausalLM.{name}");
    let file = |shape: &str, name: &str| tensor(shape, format!("./{name}.safetensors"));
    let ids = json!({"shape": "torch.Size([1, 2])", "dtype": "torch.int64", "value": ["tensor([[3, 4]])"]});
    let inside = json!([
        {"module_path": path("model.layers.0.self_attn.q_proj"), "outputs": file("[1, 2]", "q")},
        {
            "module_path": path("model.layers.0.mlp.gate"),
            "outputs": [["None"], file("[1, 2]", "q"), file("[9]", "no")],
        },
    ]);
    let positions = json!([file("[2]", "cos"), file("[2]", "sin")]);
    json!({
        "module_path": "Qwen3ForCausalLM",
        "inputs": {"args": [], "kwargs": {"input_ids": ids}},
        "children": [
            {
                "module_path": path("model.layers.0"),
                "inputs": {
                    "args": [file("[1, 2]", "in")],
                    "kwargs": {"attention_mask": "None", "position_embeddings": positions},
                },
                "outputs": null,
                "children": inside,
            },
            {
                "module_path": path("lm_head"),
                "inputs": {"args": ["None"]},
                "outputs": file("[1, 2]", "head"),
            },
        ],
    })
}

fn write(tree: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(TREE), tree.to_string()).unwrap();
    for (file, value) in [("in", 1.0), ("cos", 2.0), ("sin", 3.0), ("q", 4.0), ("head", 5.0)] {
        let shape: &[usize] = if file.len() == 3 { &[2] } else { &[1, 2] };
        let bytes = floats(&[("data", shape, &[value, -value])]);
        fs::write(folder.path().join(format!("{file}.safetensors")), bytes).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<TensorFile, E> {
    TensorFile::open(&folder.join(TREE))
}

#[test]
fn outputs_have_the_paths_of_modules() {
    let folder = write(&tree());
    for path in [folder.path().to_path_buf(), folder.path().join(TREE)] {
        let file = TensorFile::open(&path).unwrap();
        let layer = "model.layers.0";
        let inputs = ["args.0", "kwargs.position_embeddings.0", "kwargs.position_embeddings.1"];
        let mut names = vec!["inputs.kwargs.input_ids".to_string(), "lm_head".into()];
        names.extend(inputs.map(|input| format!("{layer}.inputs.{input}")));
        names.extend(["mlp.gate", "self_attn.q_proj"].map(|module| format!("{layer}.{module}")));
        assert_eq!(file.names(), names);
        assert!(file.has("lm_head") && !file.has("Qwen3ForCausalLM.lm_head") && !file.has(layer));
        let read = |name: &str| {
            let array = file.read(name).unwrap();
            assert_eq!(file.shape(name).unwrap(), array.shape);
            array.values
        };
        assert_eq!(read("lm_head"), Values::Float(vec![5.0, -5.0]));
        assert_eq!(read("model.layers.0.self_attn.q_proj"), Values::Float(vec![4.0, -4.0]));
        assert_eq!(read("model.layers.0.mlp.gate"), Values::Float(vec![4.0, -4.0]));
        assert_eq!(read("model.layers.0.inputs.args.0"), Values::Float(vec![1.0, -1.0]));
        assert_eq!(
            read("model.layers.0.inputs.kwargs.position_embeddings.1"),
            Values::Float(vec![3.0, -3.0])
        );
        let ids = Array { shape: vec![1, 2], values: Values::Int(vec![3, 4]) };
        assert_eq!(file.read("inputs.kwargs.input_ids").unwrap(), ids);
    }
}

/// The tree with another output of `lm_head`; the error of reading that.
fn error_of(value: Value) -> String {
    let mut tree = tree();
    tree["children"][1]["outputs"] = value;
    let folder = write(&tree);
    let error = open(folder.path()).and_then(|file| file.read("lm_head")).unwrap_err();
    error.to_string()
}

#[test]
fn values_lie_beside_the_tree_and_are_complete() {
    for path in ["../q.safetensors", "/etc/passwd", "./a/../q.safetensors", "a/q.safetensors", "..", "", "./"]
    {
        let error = error_of(tensor("[1, 2]", path));
        assert!(error.contains(TREE) && error.contains("is no file beside the tree"), "{path}: {error}");
    }
    for (value, reason) in [
        (tensor("[1, 2]", "./gone.safetensors"), "gone.safetensors"),
        (tensor("[2, 1]", "./q.safetensors"), "shape [2, 1] in the tree, [1, 2] in q.safetensors"),
        (
            tensor("[1, 2]", vec!["tensor([[1.0000e+00,", "         ...]])"]),
            "tensor `lm_head`: printed with values left out",
        ),
        (tensor("[1, 2]", vec!["tensor([[1.2345e+00, 1.0]])"]), "record with use_repr=False"),
        (tensor("[1, -2]", "./q.safetensors"), "tensor `lm_head` has no shape"),
        (tensor("[1, 2]", vec![1]), "tensor `lm_head` has a value that is no text"),
    ] {
        let error = error_of(value);
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let exact = tensor("[1, 2]", vec!["tensor([[1.50000000e+00,", "         2.00000000e+00]])"]);
    let mut tree = tree();
    tree["children"][1]["outputs"] = exact;
    let folder = write(&tree);
    let values = open(folder.path()).unwrap().read("lm_head").unwrap().values;
    assert_eq!(values, Values::Float(vec![1.5, 2.0]));
}

#[test]
fn a_module_that_ran_twice_has_no_one_output() {
    let mut tree = tree();
    let again = tree["children"][1].clone();
    tree["children"].as_array_mut().unwrap().push(again);
    let folder = write(&tree);
    let file = open(folder.path()).unwrap();
    assert!(
        file.read("lm_head")
            .unwrap_err()
            .to_string()
            .contains("tensor `lm_head`: its module ran more than once")
    );
    assert!(file.read("model.layers.0.self_attn.q_proj").is_ok());
}

#[test]
fn what_is_no_tree_is_refused() {
    let message = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TREE), text).unwrap();
        let error = TensorFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(TREE), "{error}");
        error
    };
    for (text, reason) in [
        ("{", "EOF"),
        ("[]", "no tree"),
        (r#"{"module_path": 1}"#, "no tree"),
        (r#"{"module_path": "A"}"#, "no tensor is in it"),
        (r#"{"module_path": "A", "children": [{}]}"#, "a call without a `module_path`"),
        (
            r#"{"module_path": "A", "outputs": {"shape": "torch.Size([1])", "dtype": "torch.int64"}}"#,
            "shapes without values",
        ),
        (&"[".repeat(100_000), "recursion"),
    ] {
        assert!(message(text).contains(reason), "{reason}: {}", message(text));
    }
    let long = json!({"module_path": "A", "children": [{"module_path": "n".repeat(2000), "outputs": tensor("[1]", "./a")}]});
    assert!(message(&long.to_string()).contains("a name of more than 1024 bytes"));
    let folder = write(&tree());
    fs::write(folder.path().join("B_FULL_TENSORS.json"), "{}").unwrap();
    assert!(
        TensorFile::open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("more than one *_FULL_TENSORS.json")
    );
    let large = fs::File::create(folder.path().join(TREE)).unwrap();
    large.set_len(17 << 20).unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("at most 16777216 are read"));
}
