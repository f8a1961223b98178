//! Fine-tunes the small trained model with LoRA: it learns to count in threes, in a training loop of Burn's that shows its
//! progress, and the adapter is saved as PEFT saves one.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::{Lora, Module, ParamGroup};
use burn::tensor::{DType, Device, Int, Tensor};
use burn_nn::loss::CrossEntropyLossConfig;
use burn_optim::AdamConfig;
use burn_train::metric::{AccuracyMetric, LossMetric};
use burn_train::{ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep};
use qwen3_import::{Adapter, AdapterConfig, Target, TargetModules, adapter_of, attach_adapter, load};
use qwen3_model::Qwen3;
use qwen3_text::Tokenizer;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
const RANK: usize = 4;
const ALPHA: f64 = 8.0;
const LEARNING_RATE: f64 = 5e-3;
/// Numbers in a text.
const COUNTED: usize = 8;

/// What a training led to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The mean loss of the texts that were held out, before.
    pub before: f32,
    /// The same, with the adapter as it was read back.
    pub after: f32,
}

/// The model as a student: Burn's training loop wants its own traits.
#[derive(Module, Debug)]
struct Student {
    model: Qwen3,
}

/// A text of so many tokens, and for each token the one that follows.
#[derive(Clone, Debug)]
struct Text {
    ids: Tensor<2, Int>,
    next: Tensor<1, Int>,
}

impl Student {
    fn judged(&self, text: Text) -> ClassificationOutput {
        let [_, tokens] = text.ids.dims();
        let logits = self.model.forward(text.ids); // [1, tokens, vocab_size]
        let vocab = logits.dims()[2];
        let logits = logits.reshape([tokens, vocab]); // [tokens, vocab_size]
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits.clone(), text.next.clone());
        ClassificationOutput::new(loss, logits, text.next)
    }
}

impl TrainStep for Student {
    type Input = Text;
    type Output = ClassificationOutput;

    fn step(&self, text: Text) -> TrainOutput<ClassificationOutput> {
        let judged = self.judged(text);
        TrainOutput::new(self, judged.loss.backward(), judged)
    }
}

impl InferenceStep for Student {
    type Input = Text;
    type Output = ClassificationOutput;

    fn step(&self, text: Text) -> ClassificationOutput {
        self.judged(text)
    }
}

/// One text at a time: nothing has to be padded.
#[derive(Clone)]
struct OneText;

impl Batcher<Vec<u32>, Text> for OneText {
    fn batch(&self, mut items: Vec<Vec<u32>>, device: &Device) -> Text {
        let ids: Vec<i64> = items.remove(0).into_iter().map(i64::from).collect();
        let tensor = |ids: &[i64]| Tensor::<1, Int>::from_data(ids, device);
        let last = ids.len() - 1;
        Text { ids: tensor(&ids[..last]).unsqueeze(), next: tensor(&ids[1..]) }
    }
}

/// `5 8 11 ..`, for every start; a third of the starts is held out.
fn texts(tokenizer: &Tokenizer) -> Result<[Vec<Vec<u32>>; 2], Box<dyn Error>> {
    let (mut learned, mut held_out) = (Vec::new(), Vec::new());
    for start in 1..=24 {
        let numbers: Vec<_> = (0..COUNTED).map(|step| (start + 3 * step).to_string()).collect();
        let ids = tokenizer.encode(&numbers.join(" "))?;
        if start % 3 == 0 { held_out.push(ids) } else { learned.push(ids) }
    }
    Ok([learned, held_out])
}

/// The mean loss of the texts.
fn mean_loss(model: &Qwen3, texts: &[Vec<u32>], device: &Device) -> f32 {
    let student = Student { model: model.clone() };
    let losses = texts.iter().map(|ids| {
        let judged = student.judged(OneText.batch(vec![ids.clone()], device));
        judged.loss.into_scalar::<f32>()
    });
    losses.sum::<f32>() / texts.len() as f32
}

/// Trains for `epochs`, saves the adapter in the folder `out`, and reads it back.
///
/// # Errors
/// When the model cannot be read, the training fails, or the folder cannot be written.
pub fn train(out: &Path, epochs: usize) -> Result<Outcome, Box<dyn Error>> {
    let device = Device::flex();
    device.seed(1);
    let base = load(TINY, &device, DType::F32)?;
    let [learned, held_out] = texts(&Tokenizer::open(TINY)?)?;
    let before = mean_loss(&base, &held_out, &device);

    // Burn's own LoRA on the seven projections of each layer; everything else is frozen by it.
    let model = load(TINY, &device.clone().autodiff(), DType::F32)?;
    let group = ParamGroup::from_predicate("_proj.weight");
    let student = Student { model }.apply_lora(Lora::new(RANK, ALPHA).set_param_group(group));
    let loader = |texts: &[Vec<u32>]| -> Arc<dyn DataLoader<Text>> {
        DataLoaderBuilder::new(OneText).batch_size(1).shuffle(1).build(InMemDataset::new(texts.to_vec()))
    };
    let training = SupervisedTraining::new(out.join("training"), loader(&learned), loader(&held_out))
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .num_epochs(epochs)
        .summary();
    let learner = Learner::new(student, AdamConfig::new().init(), LEARNING_RATE);
    let result = training.launch(learner);
    if let Some(error) = result.error {
        return Err(error.to_string().into());
    }

    let config = AdapterConfig::new(RANK, ALPHA, TargetModules::of(&Target::ALL));
    adapter_of(&result.model.model, config).save(out)?;
    let adapter = Adapter::open(out, &base.config)?;
    let after = mean_loss(&attach_adapter(base, &adapter)?, &held_out, &device);
    Ok(Outcome { before, after })
}
