use burn::tensor::{AllocationProperty, Bytes, Element, TensorData};
use qwen3_checkpoint::HostValue;
use qwen3_cpu::HugeBuffer;

/// Bytes of the smallest weight that is given huge pages: one such page.
const HUGE: usize = 2 << 20;

/// What weights are made of.
pub(crate) trait Value: HostValue + Element + qwen3_cpu::Element {}

impl<T: HostValue + Element + qwen3_cpu::Element> Value for T {}

/// A weight of `shape` with the values that `fill` writes over zeros, in memory that a backend that computes on the
/// host reads fast: huge pages, where the system has them.
///
/// # Errors
/// That of `fill`.
pub(crate) fn weight<T: Value, E>(
    shape: &[usize],
    fill: impl FnOnce(&mut [T]) -> Result<(), E>,
) -> Result<TensorData, E> {
    let count: usize = shape.iter().product();
    let bytes = if count * size_of::<T>() < HUGE {
        let mut values = vec![T::default(); count];
        fill(&mut values)?;
        Bytes::from_elems(values)
    } else {
        let mut values = HugeBuffer::<T>::new(count);
        fill(&mut values)?;
        // Native: ndarray would copy anything else at every operation, where it copies this once.
        Bytes::from_shared(bytes::Bytes::from_owner(values), AllocationProperty::Native)
    };
    Ok(TensorData::from_bytes(bytes, shape.to_vec(), T::dtype()))
}
