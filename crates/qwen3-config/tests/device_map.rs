//! Which devices a model's parts are put on, and what is refused.

use proptest::prelude::*;
use qwen3_config::{
    DeviceMap, DeviceMapError, DeviceMapFile, DeviceName, Extent, Footprint, ModelPart, Precision,
    Qwen3Config,
};

/// Ten layers, an untied head.
fn config() -> Qwen3Config {
    Qwen3Config { num_hidden_layers: 10, tie_word_embeddings: false, ..Qwen3Config::tiny() }
}

fn footprint() -> Footprint {
    Footprint { extent: Extent::Whole, dtype: Precision::F32, batch: 2, context: 50, chunk: 8 }
}

fn read(text: &str) -> Result<DeviceMap<String>, String> {
    let name = |device: DeviceName| Ok(device.name);
    let file = DeviceMapFile::from_json(text).map_err(|error| error.to_string())?;
    file.place(&config(), Extent::Whole, Precision::F32, 2, 8)
        .map_err(|error| error.to_string())?
        .try_map(name)
}

/// Bytes of the embedding, of a layer with its cache, and of the end with an untied head.
fn sizes() -> (u64, u64, u64) {
    let config = config();
    let layer = 4 * (config.layer_parameters(3) + 2 * 50 * config.cache_values());
    let embedding = 4 * config.vocab_size * config.hidden_size;
    (embedding as u64, layer as u64, (embedding + 4 * config.hidden_size) as u64)
}

#[test]
fn ranges_are_where_the_file_says() {
    let map = read(r#"{"devices": [{"device": "a", "layers": [0, 3]}, {"device": "b", "layers": [4, 9]}]}"#)
        .unwrap();
    let device = |part| map.device(part).as_str();
    assert_eq!(
        [device(ModelPart::Embedding), device(ModelPart::Layer(0)), device(ModelPart::Layer(3))],
        ["a"; 3]
    );
    assert_eq!([device(ModelPart::Layer(4)), device(ModelPart::Layer(9)), device(ModelPart::End)], ["b"; 3]);
    let (embedding, layer, end) = sizes();
    assert_eq!(map.bytes(&config(), footprint()), [embedding + 4 * layer, 6 * layer + end]);
}

#[test]
fn a_map_that_is_not_of_all_layers_is_refused_by_its_key() {
    let two = |first: &str, second: &str| {
        read(&format!(
            r#"{{"devices": [{{"device": "a", "layers": {first}}}, {{"device": "b", "layers": {second}}}]}}"#
        ))
        .unwrap_err()
    };
    let gap =
        "field `devices[1].layers` is [5, 9], expected a range that begins with layer 4, which no device has";
    assert_eq!(two("[0, 3]", "[5, 9]"), gap);
    let overlap = "field `devices[1].layers` is [3, 9], expected a range that begins with layer 4: devices before it \
                   have those up to 3";
    assert_eq!(two("[0, 3]", "[3, 9]"), overlap);
    let beyond = "field `devices[1].layers` is [4, 10], expected layers below 10, which the model has";
    assert_eq!(two("[0, 3]", "[4, 10]"), beyond);
    let short =
        "field `devices[1].layers` is [4, 8], expected a range that ends with layer 9, the model's last";
    assert_eq!(two("[0, 3]", "[4, 8]"), short);
    let reversed =
        "field `devices[0].layers` is [3, 0], expected its first layer and its last, which is no less";
    assert_eq!(two("[3, 0]", "[4, 9]"), reversed);
    assert!(
        two("[1, 3]", "[4, 9]")
            .contains("`devices[0].layers` is [1, 3], expected a range that begins with layer 0")
    );
    assert!(
        two("[0]", "[4, 9]").contains("`devices[0].layers` is [0], expected the numbers of its first layer")
    );
}

#[test]
fn keys_are_named() {
    for (text, expected) in [
        ("[]", "not a JSON object"),
        ("{}", "field `devices` is missing"),
        (r#"{"devices": []}"#, "field `devices` is [], expected a list of devices"),
        (r#"{"devices": [3]}"#, "field `devices[0]` is 3"),
        (r#"{"devices": [{"layers": [0, 9]}]}"#, "field `devices[0].device` is missing"),
        (r#"{"devices": [{"device": 1, "layers": [0, 9]}]}"#, "field `devices[0].device` is 1"),
        (r#"{"devices": [{"device": "a"}]}"#, "field `devices[0].layers` is missing"),
        (
            r#"{"devices": [{"device": "a", "layer": [0, 9]}]}"#,
            "field `devices[0].layer` is [0,9], which is not supported",
        ),
        (r#"{"context": 9, "devices": [{"device": "a", "layers": [0, 9]}]}"#, "field `context` is 9"),
        (r#"{"devices": [{"device": "a", "memory": 9}]}"#, "field `context` is missing"),
        (r#"{"context": 0, "devices": [{"device": "a", "memory": 9}]}"#, "field `context` is 0"),
        (r#"{"context": 1, "devices": [{"device": "a", "memory": -9}]}"#, "field `devices[0].memory` is -9"),
        (
            r#"{"context": 1, "devices": [{"device": "a", "memory": 9}, {"device": "b", "layers": [0, 9]}]}"#,
            "field `devices[1].layers` is [0,9], which is not supported",
        ),
        (
            r#"{"devices": [{"device": "a", "layers": [0, 9]}, {"device": "b", "memory": 9}]}"#,
            "field `devices[1].memory` is 9, which is not supported",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn devices_are_filled_to_the_byte() {
    let (embedding, layer, end) = sizes();
    let fill = |budgets: &[u64]| {
        let devices = budgets.iter().copied().enumerate();
        DeviceMap::fill(&config(), footprint(), devices)
    };
    let stages =
        |map: &DeviceMap<usize>| map.stages().map(|(device, layers)| (*device, layers)).collect::<Vec<_>>();
    let whole = embedding + 10 * layer + end;
    assert_eq!(stages(&fill(&[whole]).unwrap()), [(0, 0..10)]);
    let map = fill(&[embedding + 4 * layer, 6 * layer + end]).unwrap();
    assert_eq!(stages(&map), [(0, 0..4), (1, 4..10)]);
    // A byte less, and a layer goes to the next, for which there is no room then.
    let DeviceMapError::Full { field, left, parts, needed, missing } =
        fill(&[embedding + 4 * layer - 1, 6 * layer + end]).unwrap_err()
    else {
        panic!("another error")
    };
    assert_eq!((&field[..], &parts[..]), ("devices[1].memory", "layer 9, the last norm and the head"));
    assert_eq!((left, needed, missing), (end, layer + end, layer));
    // What is too small is left out; a head may have a device to itself.
    let map = fill(&[embedding - 1, embedding + 10 * layer, end - 1, end]).unwrap();
    assert_eq!(stages(&map), [(1, 0..10), (3, 10..10)]);
    assert_eq!(map.bytes(&config(), footprint()), [embedding + 10 * layer, end]);
    let error = fill(&[5]).unwrap_err().to_string();
    let expected = format!(
        "{} bytes of memory are missing: of `devices[0].memory` 5 are left for the embedding, layers 0 to 9, the last \
         norm and the head, which take {whole}",
        whole - 5
    );
    assert_eq!(error, expected);
}

/// The whole of a tied model on one device needs the embedding once, on two twice.
#[test]
fn a_tied_head_counts_where_it_is_apart() {
    let config = Qwen3Config { tie_word_embeddings: true, ..config() };
    let (embedding, layer, end) = sizes();
    let alone = embedding + 10 * layer + end - embedding;
    let fill =
        |budgets: &[u64]| DeviceMap::fill(&config, footprint(), budgets.iter().map(|budget| ((), *budget)));
    assert_eq!(fill(&[alone]).unwrap().stages().len(), 1);
    assert_eq!(fill(&[alone - 1, end]).unwrap().stages().len(), 2);
    assert!(fill(&[alone - 1, end - 1]).is_err());
}

proptest! {
    /// Whatever the budgets: parts are placed in order, none is over its budget, and a refusal is no mistake: the
    /// sum of what is asked for is more than there is, or some device's rest is too small for the next part.
    #[test]
    fn no_device_holds_more_than_its_budget(budgets in prop::collection::vec(0_u64..2_000_000, 1..6)) {
        let devices = budgets.iter().copied().enumerate();
        if let Ok(map) = DeviceMap::fill(&config(), footprint(), devices) {
            let mut next = 0;
            for (_, layers) in map.stages() {
                prop_assert_eq!(layers.start, next);
                next = layers.end;
            }
            prop_assert_eq!(next, 10);
            for ((device, _), bytes) in map.stages().zip(map.bytes(&config(), footprint())) {
                prop_assert!(bytes <= budgets[*device]);
            }
        } else {
            let (embedding, layer, end) = sizes();
            let largest = embedding.max(layer).max(end);
            let whole = embedding + 10 * layer + end;
            let room: u64 = budgets.iter().map(|budget| budget.saturating_sub(largest)).sum();
            prop_assert!(room < whole, "{} of {}", room, whole);
        }
    }
}

/// A model that embeds has no head of its own to find a place for; a tied one is there all the same.
#[test]
fn a_head_counts_where_it_is_meant() {
    let (embedding, layer, end) = sizes();
    let of = |extent, tied, memory| {
        let config = Qwen3Config { tie_word_embeddings: tied, ..config() };
        let footprint = Footprint { extent, ..footprint() };
        DeviceMap::fill(&config, footprint, [("a", embedding + 10 * layer), ("b", memory)])
            .map(|map| map.bytes(&config, footprint))
            .map_err(|error| error.to_string())
    };
    let norm = end - embedding;
    assert_eq!(of(Extent::Encoder, false, norm).unwrap(), [embedding + 10 * layer, norm]);
    let missing = of(Extent::Encoder, false, norm - 1).unwrap_err();
    assert!(missing.starts_with("1 bytes") && missing.contains("for the last norm, which"), "{missing}");
    for (extent, tied) in [(Extent::Whole, false), (Extent::Whole, true), (Extent::Encoder, true)] {
        assert_eq!(of(extent, tied, end).unwrap(), [embedding + 10 * layer, end], "{extent:?} {tied}");
        let missing = of(extent, tied, norm).unwrap_err();
        assert!(missing.contains("the last norm and the head"), "{missing}");
    }
}
