//! `verify --adapter`: PEFT's references, with the adapter and without it.

use std::fs;

use crate::common::{assert_refused, causes, report, root};

const MODEL: &str = "fixtures/checkpoints/yarn";

fn adapter(name: &str) -> [String; 2] {
    let reference = format!("fixtures/{name}/prompt1/reference.npz");
    [format!("fixtures/adapters/{name}"), reference]
}

#[test]
fn adapters_give_what_peft_gives() {
    for name in ["yarn-rslora", "yarn-lora"] {
        let [adapter, reference] = adapter(name);
        let given = ["--model", MODEL, "--adapter", &adapter, "--reference", &reference];
        for more in [&["--backend", "ndarray"][..], &["--observed", &reference]] {
            let (code, report) = report(&[&given[..], more].concat());
            assert_eq!(code, 0, "{name} {more:?}: {report}");
            assert_eq!(report["adapter"], adapter);
        }
    }
}

/// The model without its adapter is off, and it is said why.
#[test]
fn a_missing_adapter_is_named() {
    let [adapter, reference] = adapter("yarn-rslora");
    let (code, plain) = report(&["--model", MODEL, "--reference", &reference]);
    assert_eq!(code, 1);
    // Nobody said that there is one.
    assert!(!causes(&plain["diagnosis"]).iter().any(|id| id.starts_with("adapter")), "{plain}");
    // The activations of the model alone, beside the reference of the model with the adapter.
    let observed = "fixtures/observed/yarn-rslora/adapter_missing.npz";
    let given = ["--model", MODEL, "--adapter", &adapter, "--reference", &reference, "--observed", observed];
    let (code, report) = report(&given);
    assert_eq!((code, causes(&report["diagnosis"])), (1, vec!["adapter_missing"]));
}

#[test]
fn another_adapter_is_refused() {
    let [adapter, reference] = adapter("yarn-rslora");
    let other = "fixtures/checkpoints/gqa-tied";
    let given = ["--model", other, "--adapter", &adapter, "--reference", &reference];
    assert_refused(&given, &["adapter_model.safetensors", "expected"]);
    let given = ["--model", MODEL, "--adapter", MODEL, "--reference", &reference];
    assert_refused(&given, &["adapter_config.json"]);
    // A report never takes the place of what it is about.
    let folder = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(root().join(&adapter).join(file), folder.path().join(file)).unwrap();
    }
    let config = folder.path().join("adapter_config.json");
    let adapter = folder.path().to_str().unwrap();
    let given = ["--model", MODEL, "--adapter", adapter, "--reference", &reference];
    assert_refused(&[&given[..], &["--json", config.to_str().unwrap()]].concat(), &["it is an input"]);
}
