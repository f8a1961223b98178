//! Runs of which too little was observed to say what their precision is: whose limits they keep is said all the same.

use std::path::Path;

use qwen3_blame::{ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Precision, Reference, TensorFile, Trace, TraceWriter, Values};

#[test]
fn logits_alone_tell_which_limits_they_keep() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logits.safetensors");
    for name in ["gqa-sharded", "bias-tied"] {
        let run = fixtures.join("observed").join(name).join("arithmetic_bf16.npz");
        let run = TensorFile::open(&run).unwrap();
        let logits = run.read("logits").unwrap();
        let Values::Float(values) = logits.values else { panic!("no floats") };
        let checkpoint = Checkpoint::open(fixtures.join("checkpoints").join(name)).unwrap();
        let prompts = std::fs::read_dir(fixtures.join(name)).unwrap().map(|entry| entry.unwrap().path());
        let fits = |path: &std::path::PathBuf| {
            let file = path.join("reference.npz");
            let reference =
                file.is_file().then(|| Reference::open(&file, checkpoint.config(), true).unwrap())?;
            let same = reference.trace.values("logits").unwrap()?.len() == values.len();
            same.then_some(reference)
        };
        let references: Vec<Reference> = prompts.filter_map(|path| fits(&path)).collect();
        let told = references.iter().filter(|reference| {
            let mut trace = TraceWriter::new(&file);
            trace.insert("logits", &logits.shape, values.clone()).unwrap();
            trace.write().unwrap();
            let mut quiet = |_: &str| {};
            let options = ExamineOptions::new(Precision::F32, &mut quiet);
            let found = examine(&checkpoint, reference, &Trace::open(&file).unwrap(), options).unwrap();
            assert!(!found.verdicts.pass() && found.diagnosis.causes.is_empty(), "{name}");
            found.diagnosis.notes.iter().any(|note| note.contains("keeps that of") && note.contains("bf16 ("))
        });
        // Of the prompt that they are of, and of no other.
        assert_eq!(told.count(), 1, "{name} of {}", references.len());
    }
}
