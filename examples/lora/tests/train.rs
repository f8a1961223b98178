//! The example learns, and what it saves is an adapter.

use std::fs;

#[test]
fn the_adapter_that_is_saved_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("adapter");
    let outcome = lora_example::train(&out, 4).unwrap();
    assert!(outcome.after < 0.7 * outcome.before, "{outcome:?}");
    let config = fs::read_to_string(out.join("adapter_config.json")).unwrap();
    assert!(config.contains("\"peft_type\": \"LORA\""), "{config}");
}
