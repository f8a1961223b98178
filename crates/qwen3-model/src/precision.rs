use burn::tensor::DType;
use qwen3_config::Precision;

/// The precision as Burn names it.
pub fn burn_dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::BF16 => DType::BF16,
    }
}

/// Which of the dtypes of weights and computations `dtype` is, if it is one.
pub fn precision_of(dtype: DType) -> Option<Precision> {
    let mut all = Precision::ALL.into_iter();
    all.find(|precision| burn_dtype(*precision) == dtype)
}
