use burn::backend::DispatchTensorKind;
use burn::tensor::Tensor;

/// Does a backend copy what is transposed before it multiplies it, on every call? The large operand of a product is then
/// best on the left, as it lies. ndarray and flex do. Libtorch does not, and shares the rows of a result out to its
/// threads, so that one token has to be on the left; a backend that compiles its kernels does not, and would compile
/// one for each remainder of the number of tokens, by which it vectorises the output.
pub fn copies_transposed<const D: usize>(x: &Tensor<D>) -> bool {
    // Nothing is copied: a tensor is a handle.
    match x.clone().into_dispatch().kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        // What computes there is not known here. On a host, copying every weight for every token would take longest.
        #[cfg(feature = "remote")]
        DispatchTensorKind::Remote(_) => true,
        #[allow(unreachable_patterns, reason = "which variants exist depends on the features")]
        _ => false,
    }
}
