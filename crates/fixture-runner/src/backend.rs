//! What this build and this machine have of the backends.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};
use qwen3_model::burn_dtype;
use qwen3_trace::{Backend, Precision, Switches};

/// The backend's device, once something small has been computed on it; or why there is none.
///
/// # Errors
/// When this build lacks the backend, or the machine lacks what it needs.
pub fn open(backend: Backend) -> Result<Device, String> {
    let device = device(backend)?;
    probe(&device)?;
    Ok(device)
}

#[allow(deprecated, reason = "ndarray and tch are what this release is pinned for")]
fn device(backend: Backend) -> Result<Device, String> {
    match backend {
        #[cfg(feature = "ndarray")]
        Backend::Ndarray => Ok(Device::ndarray()),
        #[cfg(feature = "flex")]
        Backend::Flex => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "tch")]
        Backend::Tch => Ok(Device::libtorch()),
        #[cfg(feature = "cuda")]
        Backend::Cuda => Ok(Device::cuda(0)),
        #[allow(unreachable_patterns, reason = "which arms exist depends on the features")]
        _ => Err(format!("built without the `{backend}` feature")),
    }
}

/// Computes something small. A backend without a driver panics at its first tensor.
fn probe(device: &Device) -> Result<(), String> {
    let device = device.clone();
    // The first panic, in whichever thread, says why; those of the threads that wait for it do not.
    let first = Arc::new(OnceLock::new());
    let kept = Arc::clone(&first);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        kept.get_or_init(|| panic.payload_as_str().map(String::from));
    }));
    let sum = std::panic::catch_unwind(move || Tensor::<1>::ones([3], &device).sum().into_scalar::<f32>());
    std::panic::set_hook(hook);
    match sum {
        Ok(3.0) => Ok(()),
        Ok(other) => Err(format!("1 + 1 + 1 gives {other} on this device")),
        Err(_) => {
            let said = first.get().cloned().flatten();
            Err(said.unwrap_or_else(|| "the device cannot be opened".into()))
        }
    }
}

/// The dtypes that a device computes in, widest first.
pub fn dtypes(device: &Device) -> Vec<Precision> {
    let supported = |dtype: &Precision| device.supports_dtype(burn_dtype(*dtype));
    Precision::ALL.into_iter().filter(supported).collect()
}

/// Compile-time switches that change what a verdict means.
pub fn switches(backend: Backend) -> Option<Switches> {
    backend
        .compiles_kernels()
        .then_some(Switches { fusion: cfg!(feature = "fusion"), autotune: cfg!(feature = "autotune") })
}

/// A copy of `data` in memory of its own.
///
/// On wgpu, what a tensor is read into is a mapped staging buffer, which Burn 0.22.1 gives to the next
/// read of the same size while the first is still held: every result that is kept has to be copied.
pub fn owned(data: TensorData) -> TensorData {
    TensorData::from_bytes_vec(data.as_bytes().to_vec(), data.shape().clone(), data.dtype())
}
