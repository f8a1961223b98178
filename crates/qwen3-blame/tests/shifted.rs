//! Outputs of layers under other names, beside what only looks like it, and heads that are smaller without a sink.

use std::collections::BTreeMap;
use std::path::Path;

use qwen3_blame::{Diagnosis, ExamineOptions, LayerWeights, Variant, examine, run_layer};
use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Site, Tap};
use qwen3_trace::{Array, Precision, Reference, Trace, Values};

const LAYERS: usize = 3;

struct Subject {
    checkpoint: Checkpoint,
    reference: Reference,
}

impl Subject {
    fn new() -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let checkpoint = Checkpoint::open(fixtures.join("checkpoints/gqa-sharded")).unwrap();
        let file = fixtures.join("gqa-sharded/prompt2/reference.npz");
        let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
        Self { checkpoint, reference }
    }

    /// What comes out of embedding, layers, norm and head, as it should.
    fn outputs(&self) -> BTreeMap<String, Array> {
        let keys = (0..LAYERS + 3).map(|step| Site::output(step, LAYERS).to_string());
        keys.map(|key| (key.clone(), self.reference.trace.array(&key).unwrap().unwrap())).collect()
    }

    fn diagnosis(&self, tensors: BTreeMap<String, Array>) -> Diagnosis {
        self.diagnosis_in(Precision::F32, tensors)
    }

    fn diagnosis_in(&self, dtype: Precision, tensors: BTreeMap<String, Array>) -> Diagnosis {
        let mut quiet = |_: &str| {};
        let options = ExamineOptions::new(dtype, &mut quiet);
        let observed = Trace::in_memory(Path::new("mine.npz"), tensors);
        let found = examine(&self.checkpoint, &self.reference, &observed, options).unwrap();
        assert!(!found.verdicts.pass());
        found.diagnosis
    }
}

fn ids(diagnosis: &Diagnosis) -> Vec<&str> {
    diagnosis.causes.iter().map(|cause| cause.id.as_str()).collect()
}

fn named(step: usize) -> String {
    Site::output(step, LAYERS).to_string()
}

/// From one layer on, and with another mistake behind the layers.
#[test]
fn names_are_off_beside_a_mistake_of_the_head() {
    let subject = Subject::new();
    let right = subject.outputs();
    let mut tensors = right.clone();
    tensors.insert(named(2), right[&named(1)].clone());
    tensors.insert(named(3), right[&named(2)].clone());
    assert_eq!(ids(&subject.diagnosis(tensors.clone())), ["taps_shifted"]);
    let Values::Float(logits) = &mut tensors.get_mut("logits").unwrap().values else { panic!() };
    logits.iter_mut().for_each(|x| *x = 30.0 * (*x / 30.0).tanh());
    assert_eq!(ids(&subject.diagnosis(tensors)), ["taps_shifted", "logits_softcap"]);
}

/// In half precision each step is judged by the one before it, of whatever name that is.
#[test]
fn names_are_off_in_half_precision() {
    let subject = Subject::new();
    let right = subject.outputs();
    let mut tensors = right.clone();
    for step in 1..=LAYERS {
        tensors.insert(named(step), right[&named(step + 1)].clone());
    }
    for dtype in [Precision::F32, Precision::BF16] {
        assert_eq!(ids(&subject.diagnosis_in(dtype, tensors.clone())), ["taps_shifted"], "{dtype}");
    }
}

/// A model without its last layer gives what comes before it, and one name is no order.
#[test]
fn one_output_that_is_anothers_is_not_enough() {
    let subject = Subject::new();
    let mut tensors = subject.outputs();
    tensors.insert(named(3), tensors[&named(2)].clone());
    assert!(!ids(&subject.diagnosis(tensors.clone())).contains(&"taps_shifted"));
    // Names that are off in both ways.
    let mut tensors = subject.outputs();
    let (first, second) = (tensors[&named(1)].clone(), tensors[&named(2)].clone());
    tensors.extend([(named(1), second), (named(2), first)]);
    assert!(!ids(&subject.diagnosis(tensors)).contains(&"taps_shifted"));
}

/// A sink makes a head smaller by as much as its scores are small, which differs from token to token.
#[test]
fn heads_that_are_smaller_by_a_factor_have_no_sinks() {
    let subject = Subject::new();
    let config = subject.checkpoint.config();
    let x = subject.reference.trace.values("embedding_output").unwrap().unwrap();
    let weights = LayerWeights::read(&subject.checkpoint, 0).unwrap();
    let taps = run_layer(&weights, config, &Variant::right(config), &subject.reference.rows, &x, None);
    let heads = taps.get(Tap::Context).chunks(config.head_dim).enumerate();
    let factor = |head: usize| [0.6, 0.7, 0.8, 0.9][head % config.num_attention_heads % 4];
    let smaller = heads.flat_map(|(head, values)| values.iter().map(move |x| (x * factor(head)) as f32));
    let [batch, seq] = subject.reference.rows.dims();
    let shape = Tap::Context.shape(config, batch, seq);
    let array = Array { shape, values: Values::Float(smaller.collect()) };
    let diagnosis = subject.diagnosis(BTreeMap::from([("layer_00.self_attn.context".into(), array)]));
    assert_eq!(ids(&diagnosis), [""; 0]);
}
