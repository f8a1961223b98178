//! LoRA adapters that are refused, and what is said of them.

use qwen3_import::Target;
use safetensors::Dtype;
use serde_json::json;

use crate::adapters::{ADAPTER, CONFIG, RANK, adapter_config, factors, folder, key, open, values};
use crate::common::{Folder, Stored, Tensors, raw_safetensors, safetensors};

#[test]
fn configs_that_ask_for_something_else_are_refused() {
    for (field, value, word) in [
        ("peft_type", json!("IA3"), "IA3"),
        ("peft_type", json!(null), "missing"),
        ("use_dora", json!(true), "true"),
        ("lora_bias", json!(true), "true"),
        ("bias", json!("all"), "all"),
        ("fan_in_fan_out", json!(true), "true"),
        ("modules_to_save", json!(["lm_head"]), "lm_head"),
        ("rank_pattern", json!({"q_proj": 4}), "q_proj"),
        ("alpha_pattern", json!({"q_proj": 4}), "q_proj"),
        ("layers_to_transform", json!([0]), "[0]"),
        ("layers_to_transform", json!(0), "0"),
        ("init_lora_weights", json!("pissa"), "pissa"),
        ("init_lora_weights", json!("pissa_niter_4"), "pissa"),
        ("init_lora_weights", json!("olora"), "olora"),
        ("init_lora_weights", json!("loftq"), "loftq"),
        ("init_lora_weights", json!("something_new"), "something_new"),
        ("use_qalora", json!(true), "true"),
        ("target_parameters", json!(["experts"]), "experts"),
        ("trainable_token_indices", json!([1]), "[1]"),
        ("megatron_config", json!({"a": 1}), "a"),
        ("something_new", json!(1), "1"),
        ("r", json!(0), "positive"),
        ("r", json!(-1), "positive"),
        ("r", json!(1.5), "positive"),
        ("r", json!(null), "missing"),
        ("lora_alpha", json!("2"), "finite"),
        ("lora_alpha", json!(null), "missing"),
        ("use_rslora", json!(1), "true or false"),
        ("target_modules", json!(null), "missing"),
        ("target_modules", json!([]), "names"),
        ("target_modules", json!([1]), "names"),
        ("target_modules", json!("(?=q).*"), "look-around"),
        ("target_modules", json!("("), "regular expression"),
    ] {
        let mut config = adapter_config();
        config[field] = value;
        let folder = folder(&config, &factors());
        let error = open(&folder).unwrap_err().to_string();
        for word in [folder.path(CONFIG).to_str().unwrap(), field, word] {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    // Modules that the model does not have, beside one that it has.
    let queries: Tensors = factors().into_iter().filter(|(key, _)| key.contains("q_proj")).collect();
    for absent in ["w1", "lm_head", "embed_tokens", "proj"] {
        let mut config = adapter_config();
        config["target_modules"] = json!(["q_proj", absent]);
        let folder = folder(&config, &queries);
        let expected = "linear maps of the model's layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
        let detail = format!("field `target_modules` is {absent:?}, expected {expected}");
        folder.blames(open(&folder), "Config", CONFIG, &detail);
    }
    let text = adapter_config().to_string();
    for (from, to, words) in [
        ("\"lora_alpha\":2.0", "\"lora_alpha\":NaN", ["lora_alpha", "NaN", "finite"]),
        ("\"lora_alpha\":2.0", "\"lora_alpha\": -Infinity", ["lora_alpha", "-Infinity", "finite"]),
        ("\"lora_alpha\":2.0", "\"lora_alpha\":1e999", ["lora_alpha", "1e999", "range"]),
        ("\"lora_alpha\":2.0", "\"r\":3", ["DuplicateKey", "`r`", "more than once"]),
    ] {
        let folder = folder(&adapter_config(), &factors());
        assert!(text.contains(from));
        let folder = folder.write(CONFIG, text.replace(from, to));
        let error = open(&folder).unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(words.iter().all(|word| error.contains(word)) && error.contains(CONFIG), "{error}");
    }
}

#[test]
fn files_that_are_not_sound_are_refused() {
    let refused = |folder: Folder, kind: &str, file: &str, detail: &str| {
        folder.blames(open(&folder), kind, file, detail);
    };
    let sound = || folder(&adapter_config(), &factors());
    let with = |change: &dyn Fn(&mut Tensors)| {
        let mut factors = factors();
        change(&mut factors);
        folder(&adapter_config(), &factors)
    };
    let (q_a, q_b) = (key(0, Target::QProj, "A"), key(0, Target::QProj, "B"));
    let missing = Folder::new(&json!({}));
    missing.blames(open(&missing), "Io", CONFIG, "");
    let missing = Folder::new(&json!({})).write(CONFIG, adapter_config().to_string());
    missing.blames(open(&missing), "Io", ADAPTER, "");
    refused(missing.write("adapter_model.bin", "pickle"), "Malformed", ADAPTER, "pickle");
    for cut in [0, 7, 100, 2000] {
        let bytes = safetensors(&factors());
        refused(sound().write(ADAPTER, &bytes[..cut]), "Malformed", ADAPTER, "");
    }
    let hostile = raw_safetensors(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[9999999999,9999999999],\"data_offsets\":[0,4]}}",
        &[0; 4],
    );
    refused(sound().write(ADAPTER, hostile), "Malformed", ADAPTER, "");
    refused(sound().write(ADAPTER, u64::MAX.to_le_bytes()), "Malformed", ADAPTER, "header");
    refused(sound().write(CONFIG, "{"), "Malformed", CONFIG, "EOF");
    refused(folder(&adapter_config(), &Tensors::new()), "Malformed", ADAPTER, "no tensor");
    for half in [&q_a, &q_b] {
        refused(with(&|factors| drop(factors.remove(half))), "MissingKey", ADAPTER, half);
    }
    // A pair that the config says is there.
    refused(
        with(&|factors| factors.retain(|key, _| !key.contains(".1.mlp.gate"))),
        "MissingKey",
        ADAPTER,
        &key(1, Target::GateProj, "A"),
    );
    for stray in [
        "base_model.model.lm_head.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
    ] {
        refused(
            with(&|factors| drop(factors.insert(stray.into(), Stored::new(Dtype::F32, &[1], &[1.0])))),
            "UnusedKey",
            ADAPTER,
            stray,
        );
    }
    let other = q_a.replace(".weight", ".default.weight");
    refused(
        with(&|factors| drop(factors.insert(other.clone(), factors[&q_a].clone()))),
        "DuplicateKey",
        ADAPTER,
        &q_a,
    );
    let shaped = |key: &str, shape: [usize; 2]| {
        let stored = Stored::new(Dtype::F32, &shape, &values(shape[0] * shape[1], 1));
        with(&|factors| drop(factors.insert(key.into(), stored.clone())))
    };
    // The rank of the file is not the config's.
    refused(shaped(&q_a, [4, 8]), "Shape", ADAPTER, &format!("{q_a} [4, 8] for [3, 8]"));
    refused(shaped(&q_b, [16, 4]), "Shape", ADAPTER, &format!("{q_b} [16, 4] for [16, 3]"));
    // Another model's.
    refused(shaped(&q_a, [RANK, 16]), "Shape", ADAPTER, &format!("{q_a} [3, 16] for [3, 8]"));
    refused(shaped(&q_b, [8, RANK]), "Shape", ADAPTER, &format!("{q_b} [8, 3] for [16, 3]"));
    let flat = Stored::new(Dtype::F32, &[24], &values(24, 1));
    refused(
        with(&|factors| drop(factors.insert(q_a.clone(), flat.clone()))),
        "Malformed",
        ADAPTER,
        "two dimensions",
    );
    refused(
        with(&|factors| factors.get_mut(&q_a).unwrap().set(5, f32::NAN)),
        "NonFinite",
        ADAPTER,
        &format!("{q_a}[5] = NaN as F32"),
    );
    refused(
        with(&|factors| *factors.get_mut(&q_a).unwrap() = factors[&q_a].cast(Dtype::F64)),
        "TensorDType",
        ADAPTER,
        &format!("{q_a} F64"),
    );
    let deeper = with(&|factors| {
        for half in ["A", "B"] {
            let stored = factors[&key(0, Target::QProj, half)].clone();
            factors.insert(key(2, Target::QProj, half), stored);
        }
    });
    let stray =
        format!("{} of model.layers.2.self_attn.q_proj, not layers 0 to 1", key(2, Target::QProj, "A"));
    refused(deeper, "NoSuchModule", ADAPTER, &stray);
}
