//! The official models: their configs, and how large they are.

use std::path::Path;

use qwen3_config::{OFFICIAL_FP8, Official, Precision, Qwen3Config};

/// What model cards say, in billions: parameters, those without embeddings, and of models with experts the active ones.
const PUBLISHED: &[(&str, f64, f64, Option<f64>)] = &[
    ("Qwen3-0.6B", 0.6, 0.44, None),
    ("Qwen3-1.7B", 1.7, 1.4, None),
    ("Qwen3-4B", 4.0, 3.6, None),
    ("Qwen3-8B", 8.2, 6.95, None),
    ("Qwen3-14B", 14.8, 13.2, None),
    ("Qwen3-32B", 32.8, 31.2, None),
    ("Qwen3-30B-A3B", 30.5, 29.9, Some(3.3)),
    ("Qwen3-235B-A22B-Instruct-2507", 235.0, 234.0, Some(22.0)),
    ("Qwen3-Embedding-0.6B", 0.6, 0.44, None),
];

/// Is `count` what a card rounds to `billions`, which has so many places?
fn rounds_to(count: usize, billions: f64) -> bool {
    if billions.fract() == 0.0 && billions > 100.0 {
        return (count as f64 / 1e9).round() == billions;
    }
    let tenths = billions * 10.0;
    let places = if (tenths - tenths.round()).abs() < 1e-9 { 10.0 } else { 100.0 };
    ((count as f64 / 1e9 * places).round() / places - billions).abs() < 1e-9
}

#[test]
fn parameters_are_the_published_ones() {
    let names: Vec<_> = Official::all().map(|official| official.name).collect();
    let published: Vec<_> = PUBLISHED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, published);
    for (name, all, non_embedding, active) in PUBLISHED {
        let config = Official::find(name).unwrap().config();
        assert!(rounds_to(config.num_parameters(), *all), "{name}: {}", config.num_parameters());
        let found = config.non_embedding_parameters();
        assert!(rounds_to(found, *non_embedding), "{name}: {found} without embeddings");
        let found = config.num_active_parameters();
        match active {
            // Cards cut these off.
            Some(billions) => {
                assert!((0.0..0.2).contains(&(found as f64 / 1e9 - billions)), "{name}: {found} active")
            }
            None => assert_eq!(found, config.num_parameters(), "{name}"),
        }
    }
}

/// When the project's shared assets lie beside the checkout: each of their configs that is known here, which are all.
#[test]
fn shapes_are_those_of_the_official_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/configs");
    if !folder.is_dir() {
        eprintln!("not checked: no official configs at {}", folder.display());
        return;
    }
    let mut compared = 0;
    for official in Official::all() {
        let file = folder.join(format!("{}-config.json", official.name));
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        assert_eq!(official.config(), Qwen3Config::from_json(&text).unwrap(), "{}", official.name);
        compared += 1;
    }
    assert!(compared >= 8, "{compared} official configs");
}

/// By hand, of the smallest: 28 layers, whose projections have 15,728,640 values in 960 blocks.
#[test]
fn bytes_of_the_smallest() {
    let config = Official::find("Qwen3-0.6B").unwrap().config();
    assert_eq!(config.weight_bytes(Precision::F32), 4 * 596_049_920);
    assert_eq!(config.weight_bytes(Precision::BF16), 2 * 596_049_920);
    assert_eq!(config.fp8_bytes(OFFICIAL_FP8), 2 * 596_049_920 - 28 * (15_728_640 - 2 * 960));
    assert_eq!(config.cache_bytes_per_token(Precision::BF16), 28 * 2 * 8 * 128 * 2);
}
