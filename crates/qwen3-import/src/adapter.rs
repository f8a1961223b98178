//! LoRA adapters of PEFT's on Burn modules, as Burn's own LoRA.

use std::collections::BTreeMap;

use burn::module::{LoraAdapter, Module, ModuleMapper, Param, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_checkpoint::{Adapter, AdapterConfig, Factors, Target};
use qwen3_model::{DecoderLayer, Linear, Qwen3};

use crate::ImportError;

/// `model` with `adapter` on it, unmerged: every weight stays as it is, and what the adapter adds is computed beside its
/// product, in f32 and then in the model's dtype, as PEFT `lora.Linear.forward` does.
///
/// The adapter is Burn's own (`LoraAdapter`, as `Module::apply_lora` puts it on new models), so that training, devices
/// and records know it: its `a` is PEFT's `lora_B`, its `b` is PEFT's `lora_A`. As after `apply_lora` only the adapter
/// is trained. An adapter that was on the model is gone.
///
/// ```no_run
/// # fn main() -> Result<(), qwen3_import::ImportError> {
/// use burn::tensor::{DType, Device};
/// use qwen3_import::{Adapter, attach_adapter, load, merge_adapter};
///
/// let model = load("Qwen3-0.6B", &Device::default(), DType::F32)?;
/// let adapter = Adapter::open("my-adapter", &model.config)?;
/// let model = attach_adapter(model, &adapter)?; // runs as it is, or
/// let model = merge_adapter(model); // as fast as without one
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`Adapter::check`].
pub fn attach_adapter(model: Qwen3, adapter: &Adapter) -> Result<Qwen3, ImportError> {
    adapter.check(&model.config)?;
    let mut model = model.no_grad();
    let layers = std::mem::take(&mut model.model.layers).into_iter().enumerate();
    model.model.layers = layers.map(|(index, layer)| attach(detached(layer), index, adapter)).collect();
    Ok(model)
}

/// `layer` without what an adapter put on it: Burn would keep the old one beside a new one.
fn detached(mut layer: DecoderLayer) -> DecoderLayer {
    for target in Target::ALL {
        let Some(linear) = layer.linear_mut(target.path()) else { continue };
        if linear.weight.adapter().is_some() {
            linear.weight = Param::initialized(linear.weight.id, linear.weight.base());
        }
    }
    layer
}

/// `layer`, which is number `index`, with what an adapter that fits the model has for it.
pub(crate) fn attach(mut layer: DecoderLayer, index: usize, adapter: &Adapter) -> DecoderLayer {
    let scale = adapter.config().scale();
    for target in Target::ALL {
        let Some(factors) = adapter.factors(index, target) else { continue };
        let linear = linear_mut(&mut layer, target);
        let lora = on_device(factors, scale, &linear.weight.base().device());
        linear.weight = linear.weight.clone().apply_reparameterization(Given(lora));
    }
    layer
}

/// `model` with the adapter that is on it merged into the weights: `W + scale * B A`, computed in f32 and rounded once
/// to the model's dtype, as PEFT `merge_adapter` does. A model without one is left as it is.
pub fn merge_adapter(model: Qwen3) -> Qwen3 {
    let dtype = model.dtype();
    // Burn merges in the dtype of the factors, and leaves the weight in it.
    model.materialize().map(&mut Cast(dtype))
}

/// The opposite of [`merge_adapter`]: `adapter` is taken out of the weights of a `model` that it was merged into, and put
/// on it, as PEFT `unmerge_adapter` does.
///
/// Weights are what they were up to the rounding of both sums: in f32 to `2^-24` of the merged weight and of themselves,
/// in half precision, where merging lost bits for good, accordingly more.
///
/// # Errors
/// Those of [`Adapter::check`].
pub fn unmerge_adapter(model: Qwen3, adapter: &Adapter) -> Result<Qwen3, ImportError> {
    adapter.check(&model.config)?;
    let scale = adapter.config().scale();
    let mut model = model;
    for (index, target, factors) in adapter.all() {
        let linear = linear_mut(&mut model.model.layers[index], target);
        let merged = linear.weight.base();
        let change = on_device(factors, scale, &merged.device()).delta(); // [out, in]
        let dtype = merged.dtype();
        let weight = (merged.cast(DType::F32) - change).cast(dtype);
        linear.weight = Param::from_tensor(weight);
    }
    attach_adapter(model, adapter)
}

/// The adapter that is on `model`, to be saved: what [`attach_adapter`] put there, or training made of it. `config` is
/// written with it, its rank and scale have to be those of the model's.
///
/// # Panics
/// When there is no adapter on the model, or one of another rank or scale than `config` says.
pub fn adapter_of(model: &Qwen3, config: AdapterConfig) -> Adapter {
    let mut all = BTreeMap::new();
    for (index, layer) in model.model.layers.iter().enumerate() {
        for target in Target::ALL {
            let lora = layer.linear(target.path()).and_then(|linear| linear.weight.adapter());
            let Some(lora) = lora else { continue };
            let (found, expected) = (lora.scale, config.scale());
            assert!(
                (found - expected).abs() <= 1e-12 * expected.abs(),
                "scale {found}, the config says {expected}"
            );
            let values = |factor: &Param<Tensor<2>>| -> Vec<f32> {
                factor.val().into_data().convert::<f32>().iter::<f32>().collect()
            };
            let [rank, _] = lora.b.val().dims();
            all.insert((index, target), Factors { a: values(&lora.b), b: values(&lora.a), rank });
        }
    }
    Adapter::new(config, all)
}

/// The linear map `target` of a layer that has it.
fn linear_mut(layer: &mut DecoderLayer, target: Target) -> &mut Linear {
    layer.linear_mut(target.path()).expect("the adapter was checked against the config")
}

/// The factors as Burn's adapter of a weight `[out, in]`, in f32 whatever the model's dtype is.
fn on_device(factors: &Factors, scale: f64, device: &Device) -> LoraAdapter {
    let [out, input] = factors.shape();
    let tensor = |values: &[f32], shape: [usize; 2]| {
        let data = TensorData::new(values.to_vec(), shape);
        Param::from_tensor(Tensor::from_data(data, (device, DType::F32)))
    };
    LoraAdapter {
        a: tensor(&factors.b, [out, factors.rank]),
        b: tensor(&factors.a, [factors.rank, input]),
        scale,
    }
}

/// Puts an adapter with known factors on a matrix, where `Lora` would draw new ones.
struct Given(LoraAdapter);

impl Reparameterizer for Given {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        _path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        (param.set_require_grad(false), (D == 2).then(|| self.0.clone()))
    }
}

/// Rounds what is not in the dtype.
struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| if tensor.dtype() == self.0 { tensor } else { tensor.cast(self.0) })
    }
}
