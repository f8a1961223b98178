//! Nothing that was observed passes unread.

mod npz;

use std::path::{Path, PathBuf};

use npz::edited;
use qwen3_blame::{Examination, ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Precision, Reference, Trace, TraceError};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Looks at the reference itself, changed.
fn look(edit: impl Fn(&mut String, &mut Vec<u8>) -> bool) -> Result<Examination, TraceError> {
    let temporary = tempfile::tempdir().unwrap();
    let file = fixtures().join("gqa-sharded/prompt2/reference.npz");
    let checkpoint = Checkpoint::open(fixtures().join("checkpoints/gqa-sharded")).unwrap();
    let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
    let observed = Trace::open(&edited(&file, temporary.path(), edit)).unwrap();
    let mut quiet = |_: &str| {};
    let options = ExamineOptions::new(Precision::F32, &mut quiet);
    examine(&checkpoint, &reference, &observed, options)
}

#[test]
fn a_name_that_is_nearly_right_is_refused() {
    for (slip, meant) in [
        ("layer_1_output", "layer_01_output"),
        ("Layer_01_output", "layer_01_output"),
        ("layer_01.output", "layer_01_output"),
        ("final_norm_outputs", "final_norm_output"),
        ("step_logit", "step_logits"),
    ] {
        let found = look(|name, _| {
            if name == meant {
                *name = slip.into();
            }
            true
        });
        let error = found.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{slip}`")) && error.contains(&format!("`{meant}`")), "{error}");
        assert!(error.contains("edited.npz"), "{error}");
    }
}

#[test]
fn step_logits_of_other_steps_are_refused() {
    let found = look(|name, _| match name.as_str() {
        "step_logits" => false,
        // Two axes of three, beside a good tensor.
        "margins" => {
            *name = "step_logits".into();
            true
        }
        _ => true,
    });
    let error = found.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`step_logits` has shape"), "{error}");
}

#[test]
fn what_nothing_reads_is_listed() {
    let found = look(|name, _| {
        if name == "layer_01_output" {
            *name = "my_hidden_state".into();
        }
        !name.starts_with("noise_floor")
    });
    let found = found.unwrap();
    assert_eq!(found.unread, ["my_hidden_state"]);
    assert!(found.verdicts.pass());
}
