//! Good files, which the inputs are made from.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::json::Json;
use crate::mutate::{gguf, npy, pickle, safetensors, zip};
use crate::process::{End, Limits, run};
use crate::program::{Program, Programs};
use crate::scratch::Scratch;

/// What of the manifest is taken: enough for one case of a few kinds.
const CASES: [&str; 5] = [
    "gqa-tied/layer-1/norm-00",
    "gqa-tied/layer-1/mlp",
    "gqa-tied/prompt1",
    "basic_self_attn",
    "gqa-tied/record",
];
/// The layers of the small trained model by their device, and a device that is filled with them.
const DEVICES: &str =
    r#"{"devices": [{"device": "flex", "layers": [0, 1]}, {"device": "flex", "layers": [2, 3]}]}"#;
const MEMORY: &str = r#"{"context": 64, "devices": [{"device": "flex", "memory": 9000000}]}"#;
const PATIENT: Limits = Limits { time: Duration::from_secs(120), memory: 8 << 30 };

/// Folders with good files.
pub struct Seeds {
    /// The repository.
    root: PathBuf,
    made: Scratch,
}

impl Seeds {
    /// Takes the repository's fixtures and lets the programs make a record and reports.
    ///
    /// # Errors
    /// When a fixture is missing or a program fails.
    pub fn new(root: &Path, programs: &Programs) -> Result<Self> {
        let seeds = Self { root: root.into(), made: Scratch::new()? };
        fs::create_dir(seeds.made.input("manifest"))?;
        seeds.manifest().context("manifest.json")?;
        seeds.texts().context("texts")?;
        seeds.observed().context("observed activations")?;
        seeds.gguf().context("a GGUF file")?;
        fs::write(seeds.made.input("device-map.json"), DEVICES)?;
        fs::write(seeds.made.input("device-memory.json"), MEMORY)?;
        if programs.qwen3.is_some() {
            let model = seeds.fixture("checkpoints/trained-tiny");
            seeds.make(programs, Program::Qwen3, &["import", "--model", &model, "--out", "in/model.bpk"])?;
        }
        if programs.fixture_runner.is_some() {
            let (model, reference) =
                (seeds.fixture("checkpoints/gqa-tied"), seeds.fixture("gqa-tied/prompt1/reference.npz"));
            let verify = ["verify", "--model", &model, "--reference", &reference, "--json", "in/verify.json"];
            seeds.make(programs, Program::FixtureRunner, &verify)?;
            let parity = ["parity", "--manifest", "in/manifest/manifest.json", "--json", "in/parity.json"];
            seeds.make(programs, Program::FixtureRunner, &parity)?;
        }
        Ok(seeds)
    }

    fn fixture(&self, path: &str) -> String {
        self.root.join("fixtures").join(path).to_string_lossy().into_owned()
    }

    fn make(&self, programs: &Programs, program: Program, args: &[&str]) -> Result<()> {
        let path = programs.path(program).context("asked for above")?;
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        let run = run(path, &args, self.made.path(), PATIENT)?;
        ensure!(run.end == End::Code(0), "{args:?} fails on good input: {:?} {}", run.end, run.stderr);
        Ok(())
    }

    /// A file or folder by its name here: `model.bpk`, `model.gguf`, `verify.json`, `parity.json`, `manifest`, `npy`, `tree`, .. or a
    /// path below `fixtures`.
    pub fn path(&self, name: &str) -> PathBuf {
        let made = self.made.input(name);
        if made.exists() { made } else { self.root.join("fixtures").join(name) }
    }

    /// The bytes of such a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path(name)).with_context(|| format!("{}", self.path(name).display()))
    }

    /// Writes a conversation with tools, and the chat template as a file.
    fn texts(&self) -> Result<()> {
        let talks: Value = serde_json::from_slice(&self.read("text/conversations.json")?)?;
        let with_tools = talks.as_array().and_then(|talks| {
            talks.iter().find(|talk| talk["tools"].is_array() && talk["messages"].as_array().is_some())
        });
        let talk = with_tools.context("no conversation with tools")?;
        let config: Value =
            serde_json::from_slice(&self.read("checkpoints/trained-tiny/tokenizer_config.json")?)?;
        let template = config["chat_template"].as_str().context("no chat template")?;
        fs::write(self.made.input("messages.json"), Json::from(&talk["messages"]).bytes())?;
        fs::write(self.made.input("tools.json"), Json::from(&talk["tools"]).bytes())?;
        fs::write(self.made.input("chat_template.jinja"), template)?;
        Ok(())
    }

    /// Writes the small trained model as a GGUF file.
    fn gguf(&self) -> Result<()> {
        let read = |name: &str| self.read(&format!("checkpoints/trained-tiny/{name}"));
        let json = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&read(name)?)?) };
        let file = gguf::good(&json("config.json")?, &json("tokenizer.json")?, &read("model.safetensors")?);
        fs::write(self.made.input("model.gguf"), file.context("the trained model is not as it was")?)?;
        Ok(())
    }

    /// Writes the f32 arrays of a reference in the other formats of activations.
    fn observed(&self) -> Result<()> {
        let arrays = zip::read(&self.read("gqa-tied/prompt1/reference.npz")?).context("no npz")?;
        let (mut header, mut data) = (Vec::new(), Vec::new());
        let (mut tensors, mut calls) = (Vec::new(), Vec::new());
        let (folder, tree) = (self.made.input("npy"), self.made.input("tree"));
        fs::create_dir(&folder)?;
        fs::create_dir(&tree)?;
        for (name, npy) in arrays {
            let name = name.trim_end_matches(".npy");
            if !name.starts_with("layer_") && !name.ends_with("_output") {
                continue;
            }
            if let Some((shape, values)) = npy::floats(&npy) {
                let (start, end) = (data.len(), data.len() + values.len());
                header.push((
                    name.to_string(),
                    json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}),
                ));
                data.extend(values);
                fs::write(folder.join(format!("{name}.npy")), &npy)?;
                let file = format!("Model.{name}_outputs.safetensors");
                let one =
                    json!({"data": {"dtype": "F32", "shape": shape, "data_offsets": [0, values.len()]}});
                fs::write(tree.join(&file), safetensors::join(&Json::from(&one).bytes(), values))?;
                let size = format!("torch.Size({shape:?})");
                let output = json!({"shape": size, "dtype": "torch.float32", "value": format!("./{file}")});
                calls.push(json!({"module_path": format!("Model.{name}"), "outputs": output}));
                tensors.push((name.to_string(), shape, values.to_vec()));
            }
        }
        fs::write(self.made.input("observed.pt"), pickle::good(&tensors))?;
        let calls = json!({"module_path": "Model", "children": calls});
        fs::write(tree.join("Model_debug_tree_FULL_TENSORS.json"), Json::from(&calls).bytes())?;
        ensure!(!header.is_empty(), "no float32 arrays");
        let header = Json::from(&Value::Object(header.into_iter().collect())).bytes();
        fs::write(self.made.input("observed.safetensors"), safetensors::join(&header, &data))?;
        Ok(())
    }

    /// Writes a manifest of a few cases, with the files that it lists.
    fn manifest(&self) -> Result<()> {
        let mut manifest: Value = serde_json::from_slice(&fs::read(self.root.join("manifest.json"))?)?;
        let taken = |case: &Value| {
            let id = case["id"].as_str().unwrap_or_default();
            CASES.iter().any(|part| id.contains(part))
        };
        let cases = manifest["cases"].as_array_mut().context("no cases")?;
        cases.retain(taken);
        ensure!(cases.len() >= CASES.len(), "only {} of the cases {CASES:?}", cases.len());
        let named = serde_json::to_string(cases)?;
        let files = manifest["files"].as_object_mut().context("no files")?;
        files.retain(|file, _| named.contains(&format!("\"{file}\"")));
        let files: Vec<_> = files.keys().cloned().collect();
        let checkpoints = manifest["checkpoints"].as_object_mut().context("no checkpoints")?;
        checkpoints.retain(|name, _| named.contains(&format!("\"checkpoint\":\"{name}\"")));
        manifest["observed"] = json!([]);
        manifest["text"] = json!([]);
        manifest["random"] = json!([]);
        let folder = self.made.input("manifest");
        for checkpoint in manifest["checkpoints"].as_object().into_iter().flatten() {
            let path = checkpoint.1["path"].as_str().context("no path")?;
            crate::scratch::copy(&self.root.join(path), &folder.join(path))?;
        }
        for file in files {
            let target = folder.join(&file);
            fs::create_dir_all(target.parent().context("a file of no folder")?)?;
            fs::copy(self.root.join(&file), target)?;
        }
        fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
        Ok(())
    }
}
