//! What `Qwen3Config` reads, and what it refuses by name.

use std::path::Path;

use qwen3_config::{
    Experts, Extent, FeedForwardKind, LayerKind, Precision, Qwen3Config, Reach, Rope, Windows,
};
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
        "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    })
}

fn with(field: &str, value: Value) -> Result<Qwen3Config, String> {
    let mut config = base();
    config[field] = value;
    Qwen3Config::from_json(&config.to_string()).map_err(|error| error.to_string())
}

#[test]
fn reads_both_spellings() {
    let old = Qwen3Config::from_json(&base().to_string()).unwrap();
    let mut config = base();
    let object = config.as_object_mut().unwrap();
    object.remove("rope_theta");
    object.remove("torch_dtype");
    object.insert("dtype".into(), json!("bfloat16"));
    let rope = json!({"rope_theta": 1e6, "rope_type": "default"});
    object.insert("rope_parameters".into(), rope);
    object.insert("layer_types".into(), json!(["full_attention", "full_attention"]));
    let new = Qwen3Config::from_json(&config.to_string()).unwrap();
    assert_eq!(old, new);
    assert_eq!(old.rope.theta(), 1e6);
    assert_eq!(old.dtype, Some(Precision::BF16));
    assert_eq!(old.head_dim, 16);
}

#[test]
fn its_own_json_reads_back() {
    let config = Qwen3Config::from_json(&base().to_string()).unwrap();
    assert_eq!(Qwen3Config::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn scaled_frequencies_and_windows_read_back() {
    let yarn = Rope::Yarn {
        theta: 1e6,
        factor: 4.0,
        original: 32_768,
        attention_factor: 1.139,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
    };
    let windows = [
        Windows::None,
        Windows::From { layer: 1, window: 7 },
        Windows::Listed { layers: vec![true, false, true], window: 7 },
    ];
    for rope in [yarn, Rope::Linear { theta: 1e4, factor: 2.5 }] {
        for windows in windows.clone() {
            let config = Qwen3Config { rope, windows, ..Qwen3Config::tiny() };
            assert_eq!(Qwen3Config::from_json(&config.to_json()).unwrap(), config);
        }
    }
}

/// As Transformers reads it: what is not said has its defaults.
#[test]
fn yarn_is_read_in_every_spelling() {
    let rope = |field: &str, value: Value| with(field, value).map(|config| config.rope);
    let attention_factor = 0.1 * 4_f64.ln() + 1.0;
    let (beta_fast, beta_slow) = (32.0, 1.0);
    let expected = Rope::Yarn {
        theta: 1e6,
        factor: 4.0,
        original: 128,
        attention_factor,
        beta_fast,
        beta_slow,
        truncate: true,
    };
    assert_eq!(rope("rope_scaling", json!({"type": "yarn", "factor": 4.0})).unwrap(), expected);
    let new =
        json!({"rope_type": "yarn", "factor": 4, "rope_theta": 1e6, "original_max_position_embeddings": 128});
    assert_eq!(rope("rope_parameters", new).unwrap(), expected);
    let all = json!({
        "rope_type": "yarn", "type": "yarn", "factor": 1.5, "original_max_position_embeddings": 64,
        "attention_factor": 0.5, "beta_fast": 8, "beta_slow": 0.25, "truncate": false,
    });
    let expected = Rope::Yarn {
        theta: 1e6,
        factor: 1.5,
        original: 64,
        attention_factor: 0.5,
        beta_fast: 8.0,
        beta_slow: 0.25,
        truncate: false,
    };
    assert_eq!(rope("rope_scaling", all).unwrap(), expected);
    let linear = rope("rope_scaling", json!({"type": "linear", "factor": 2.0})).unwrap();
    assert_eq!(linear, Rope::Linear { theta: 1e6, factor: 2.0 });
}

#[test]
fn a_model_has_the_tokens_that_yarn_stretches_it_to() {
    let scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 96});
    assert_eq!(with("rope_scaling", scaling).unwrap().max_tokens(), 384);
    let scaling = json!({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32});
    assert_eq!(with("rope_scaling", scaling).unwrap().max_tokens(), 128);
}

#[test]
fn every_layer_is_dense_and_sees_everything() {
    let config = Qwen3Config::tiny();
    let expected = LayerKind {
        reach: Reach::All,
        feed_forward: FeedForwardKind::Dense { intermediate_size: config.intermediate_size },
    };
    for index in 0..config.num_hidden_layers {
        assert_eq!(config.layer(index), expected);
    }
}

#[test]
fn refuses_what_it_cannot_run_and_names_the_field() {
    let cases = [
        ("model_type", json!("llama"), "`model_type`"),
        ("model_type", Value::Null, "`model_type`"),
        ("architectures", json!(["Qwen3ForSequenceClassification"]), "`architectures`"),
        ("hidden_act", json!("gelu"), "`hidden_act`"),
        ("rope_scaling", json!({"rope_type": "yarn"}), "`rope_scaling.factor`"),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 0.5}), "`rope_scaling.factor`"),
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 2, "beta_fast": -1}),
            "`rope_scaling.beta_fast`",
        ),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 2, "mscale": 1}), "`rope_scaling.mscale`"),
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0}),
            "`rope_scaling.original_max_position_embeddings`",
        ),
        ("rope_scaling", json!({"rope_type": "yarn", "type": "linear", "factor": 2}), "`rope_scaling.type`"),
        ("rope_scaling", json!({"type": "linear"}), "`rope_scaling.factor`"),
        ("rope_scaling", json!({"type": "linear", "factor": 0.9}), "`rope_scaling.factor`"),
        ("rope_scaling", json!({"type": "linear", "factor": 2, "truncate": true}), "`rope_scaling.truncate`"),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), "`rope_scaling.type`"),
        ("rope_scaling", json!({"type": "longrope", "short_factor": [1.0]}), "`rope_scaling.type`"),
        ("rope_scaling", json!({"factor": 2.0}), "`rope_scaling.factor`"),
        ("rope_scaling", json!("yarn"), "`rope_scaling`"),
        ("rope_parameters", json!({"rope_type": "llama3", "rope_theta": 1e6}), "`rope_parameters.rope_type`"),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 1e6}}),
            "`rope_parameters.full_attention`",
        ),
        ("rope_parameters", json!({"rope_theta": 1e4}), "`rope_theta`"),
        ("partial_rotary_factor", json!(0.5), "`partial_rotary_factor`"),
        ("quantization_config", json!({"bits": 4}), "`quantization_config`"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "`use_sliding_window`"),
        ("layer_types", json!(["full_attention", "chunked_attention"]), "`layer_types`"),
        ("sliding_window", json!(0), "`sliding_window`"),
        ("max_window_layers", json!(-1), "`max_window_layers`"),
        ("layer_types", json!(["full_attention"]), "`layer_types`"),
        ("num_experts", json!(8), "`num_experts`"),
        ("dtype", json!("float8_e4m3"), "`dtype`"),
        ("dtype", json!("float32"), "`torch_dtype`"),
        ("head_dim", json!(15), "`head_dim`"),
        ("num_key_value_heads", json!(3), "`num_key_value_heads`"),
        ("num_attention_heads", json!(0), "`num_attention_heads`"),
        ("hidden_size", json!(-1), "`hidden_size`"),
        ("hidden_size", json!(1e300), "`hidden_size`"),
        ("vocab_size", json!(u64::MAX), "`vocab_size`"),
        ("vocab_size", Value::Null, "`vocab_size`"),
        ("intermediate_size", json!("96"), "`intermediate_size`"),
        ("rms_norm_eps", json!(0.0), "`rms_norm_eps`"),
        ("rope_theta", json!(-1.0), "`rope_theta`"),
        ("tie_word_embeddings", json!("yes"), "`tie_word_embeddings`"),
    ];
    for (field, value, named) in cases {
        let error = with(field, value.clone()).unwrap_err();
        assert!(error.contains(named), "{field} = {value}: {error}");
    }
    assert!(Qwen3Config::from_json("[]").is_err());
    assert!(Qwen3Config::from_json("{\"rms_norm_eps\": NaN}").is_err());
}

#[test]
fn windows_are_where_transformers_has_them() {
    let reaches = |fields: Value| {
        let mut config = base();
        config["num_hidden_layers"] = json!(3);
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let config = Qwen3Config::from_json(&config.to_string()).unwrap();
        (0..3).map(|layer| config.layer(layer).reach).collect::<Vec<_>>()
    };
    let (all, seven) = (Reach::All, Reach::Window(7));
    let from =
        |layer: u64| json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": layer});
    assert_eq!(reaches(from(0)), [seven, seven, seven]);
    assert_eq!(reaches(from(2)), [all, all, seven]);
    assert_eq!(reaches(from(3)), [all, all, all]);
    // Without `use_sliding_window` the window is none.
    assert_eq!(reaches(json!({"sliding_window": 7, "max_window_layers": 1})), [all, all, all]);
    let no_window = json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 1});
    assert_eq!(reaches(no_window), [all, all, all]);
    let defaults = json!({"use_sliding_window": true, "max_window_layers": 2});
    assert_eq!(reaches(defaults), [all, all, Reach::Window(4096)]);
    // What is listed counts, whatever `max_window_layers` says.
    let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let mut listed = from(3);
    listed["layer_types"] = types;
    assert_eq!(reaches(listed), [seven, all, seven]);
}

/// A base of twelve layers with experts.
fn with_experts(fields: Value) -> Result<Qwen3Config, String> {
    let mut config = base();
    let object = config.as_object_mut().unwrap();
    let experts = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": 12,
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    });
    object.extend(experts.as_object().unwrap().clone());
    object.extend(fields.as_object().unwrap().clone());
    object.retain(|_, value| *value != json!("absent"));
    Qwen3Config::from_json(&config.to_string()).map_err(|error| error.to_string())
}

#[test]
fn experts_are_where_transformers_has_them() {
    let experts = Experts { count: 8, per_token: 2, intermediate_size: 24, normalised: false };
    let sparse = |fields: Value| {
        let config = with_experts(fields).unwrap();
        assert_eq!(Qwen3Config::from_json(&config.to_json()).unwrap(), config);
        let is_sparse = |layer: &usize| match config.layer(*layer).feed_forward {
            FeedForwardKind::Sparse(found) => found == experts,
            FeedForwardKind::Dense { intermediate_size } => {
                assert_eq!(intermediate_size, 96);
                false
            }
        };
        (0..12).filter(is_sparse).collect::<Vec<_>>()
    };
    let all: Vec<usize> = (0..12).collect();
    assert_eq!(sparse(json!({})), all);
    assert_eq!(sparse(json!({"mlp_only_layers": null, "decoder_sparse_step": 1})), all);
    assert_eq!(sparse(json!({"num_experts": "absent", "num_local_experts": 8})), all);
    assert_eq!(sparse(json!({"decoder_sparse_step": 3})), [2, 5, 8, 11]);
    assert_eq!(sparse(json!({"decoder_sparse_step": 3, "mlp_only_layers": [5, 6, 99]})), [2, 8, 11]);
    let normalised = with_experts(json!({"norm_topk_prob": true})).unwrap();
    assert!(normalised.sparse.unwrap().experts.normalised);
}

#[test]
fn a_model_with_experts_has_defaults_of_its_own() {
    let config = with_experts(json!({"head_dim": "absent"})).unwrap();
    assert_eq!(config.head_dim, 8);
    // One mask for all layers, whatever `max_window_layers` says.
    let windows = json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 5});
    let config = with_experts(windows).unwrap();
    assert!((0..12).all(|layer| config.layer(layer).reach == Reach::Window(7)));
    assert_eq!(Qwen3Config::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn refuses_impossible_experts() {
    for (fields, named) in [
        (json!({"num_experts_per_tok": 9}), "`num_experts_per_tok` and `num_experts` disagree"),
        (json!({"num_experts": 0}), "`num_experts` is 0"),
        (json!({"num_experts": "absent"}), "`num_experts` is missing"),
        (json!({"num_local_experts": 4}), "`num_experts` and `num_local_experts` disagree"),
        (json!({"num_experts_per_tok": 0}), "`num_experts_per_tok` is 0"),
        (json!({"num_experts_per_tok": "absent"}), "`num_experts_per_tok` is missing"),
        (json!({"moe_intermediate_size": "absent"}), "`moe_intermediate_size` is missing"),
        (json!({"decoder_sparse_step": 0}), "`decoder_sparse_step` is 0"),
        (json!({"mlp_only_layers": [-1]}), "`mlp_only_layers`"),
        (json!({"norm_topk_prob": 1}), "`norm_topk_prob` is 1"),
        (json!({"architectures": ["Qwen3ForCausalLM"]}), "`architectures`"),
        (json!({"model_type": "qwen3", "architectures": null}), "`num_experts`"),
        (json!({"head_dim": "absent", "num_attention_heads": 128}), "`head_dim` is 0"),
        (
            json!({"use_sliding_window": true, "sliding_window": 7, "num_hidden_layers": 2,
                   "layer_types": ["sliding_attention", "full_attention"]}),
            "`layer_types` and `use_sliding_window` disagree",
        ),
    ] {
        let error = with_experts(fields.clone()).unwrap_err();
        assert!(error.contains(named), "{fields}: {error}");
    }
}

#[test]
fn reports_fields_that_nobody_knows() {
    let config = with("attention_multiplier", json!(2.0)).unwrap();
    assert_eq!(config.unrecognized, ["attention_multiplier"]);
}

/// The official configs, when the project's shared assets lie beside the checkout.
#[test]
fn reads_every_official_size() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/configs");
    if !folder.is_dir() {
        eprintln!("not checked: no official configs at {}", folder.display());
        return;
    }
    let sizes = [
        ("0.6B", 1024, 28, 596_049_920),
        ("1.7B", 2048, 28, 1_720_574_976),
        ("4B", 2560, 36, 4_022_468_096),
        ("8B", 4096, 36, 8_190_735_360),
        ("14B", 5120, 40, 14_768_307_200),
        ("32B", 5120, 64, 32_762_123_264),
    ];
    for (size, hidden, layers, parameters) in sizes {
        let file = folder.join(format!("Qwen3-{size}-config.json"));
        let config = Qwen3Config::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((config.hidden_size, config.num_hidden_layers), (hidden, layers));
        assert_eq!((config.head_dim, config.rope.theta()), (128, 1e6));
        assert_eq!(config.num_parameters(), parameters, "Qwen3-{size}");
        assert!(config.unrecognized.is_empty(), "{:?}", config.unrecognized);
    }
    // Published: 30.5 and 235 billion, of which 3.3 and 22 are active.
    let sizes = [
        ("30B-A3B", 1e6, 30_532_122_624, 3_353_032_704),
        ("235B-A22B-Instruct-2507", 5e6, 235_093_634_560, 22_190_763_520),
    ];
    for (size, theta, parameters, active) in sizes {
        let file = folder.join(format!("Qwen3-{size}-config.json"));
        let config = Qwen3Config::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((config.head_dim, config.rope.theta()), (128, theta));
        assert_eq!(config.num_parameters(), parameters, "Qwen3-{size}");
        assert_eq!(config.num_active_parameters(), active, "Qwen3-{size}");
        assert!(config.unrecognized.is_empty(), "{:?}", config.unrecognized);
    }
}

/// A model may be saved without its head; what is put in the head's place is another computation.
#[test]
fn the_class_may_be_the_decoders() {
    let config = |class: &str, tied: bool| {
        let json = format!(
            r#"{{"model_type": "qwen3", "architectures": ["{class}"], "vocab_size": 10, "hidden_size": 8,
                "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 4,
                "tie_word_embeddings": {tied}}}"#
        );
        Qwen3Config::from_json(&json)
    };
    let untied = config("Qwen3Model", false).unwrap();
    assert_eq!(untied, config("Qwen3ForCausalLM", false).unwrap());
    assert_eq!(untied.num_parameters() - Extent::Encoder.parameters(&untied), 80);
    let tied = config("Qwen3Model", true).unwrap();
    assert_eq!(tied.num_parameters(), Extent::Encoder.parameters(&tied));
    let error = config("Qwen3ForSequenceClassification", true).unwrap_err().to_string();
    assert!(error.contains("architectures") && error.contains("Qwen3Model"), "{error}");
}

/// The checkpoints that were made for their texts, for how they are stored or for their weights, and not for their
/// architecture.
const OTHERS: [&str; 5] = ["embedding-headless", "experts-ties", "fp8", "reranker-tied", "trained-tiny"];

/// The presets are the architectures that Transformers has made numbers for.
#[test]
fn presets_are_the_configs_of_the_tiny_checkpoints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints");
    let presets = [
        ("bias-tied", Qwen3Config::tiny_biased()),
        ("experts", Qwen3Config::tiny_experts()),
        ("experts-mixed", Qwen3Config::tiny_experts_mixed()),
        ("gqa-sharded", Qwen3Config::tiny_untied()),
        ("gqa-tied", Qwen3Config::tiny()),
        ("long-context", Qwen3Config::tiny_long_context()),
        ("mha-untied", Qwen3Config::tiny_mha()),
        ("window", Qwen3Config::tiny_windows()),
        ("window-yarn", Qwen3Config::tiny_windows_yarn()),
        ("yarn", Qwen3Config::tiny_yarn()),
    ];
    for (name, preset) in &presets {
        let file = folder.join(name).join("config.json");
        let config = Qwen3Config::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(*preset, config, "{name}");
        assert_eq!(Qwen3Config::from_json(&preset.to_json()).unwrap(), *preset, "{name}");
    }
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut names = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !OTHERS.contains(&&name[..]))
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, presets.map(|(name, _)| name));
}
