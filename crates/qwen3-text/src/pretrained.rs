//! Models by where they are, or what they are called.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use qwen3_import::{ImportError, load, load_record};
use qwen3_model::Qwen3;
use thiserror::Error;

/// Why a model that is asked for by name is not there.
#[derive(Debug, Error)]
pub enum PretrainedError {
    /// There is no file or folder of this name, and it is no name on the hub, or nobody may look there.
    #[error(
        "{}: no such file or folder{}",
        name.display(),
        if cfg!(feature = "hub") { "" } else { "; names on the hub need the feature `hub` of qwen3-text" }
    )]
    NoModel {
        /// The name.
        name: PathBuf,
    },
    /// Its files are not sound.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// It is not in the cache and cannot be had from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] qwen3_hub::HubError),
}

/// `Qwen3::from_pretrained`.
pub trait FromPretrained: Sized {
    /// The model `name` on `device`, its weights cast to `dtype` (f32, f16 or bf16): a checkpoint's folder, a record, or,
    /// with the feature `hub`, a name on the Hugging Face hub, which is downloaded once
    /// ([`pretrained_path`]).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), qwen3_text::PretrainedError> {
    /// use burn::tensor::{DType, Device};
    /// use qwen3_text::FromPretrained;
    /// use qwen3_model::Qwen3;
    /// let model = Qwen3::from_pretrained("Qwen/Qwen3-0.6B", &Device::default(), DType::F32)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`pretrained_path`], [`load`] and [`load_record`].
    fn from_pretrained(
        name: impl AsRef<Path>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, PretrainedError>;
}

impl FromPretrained for Qwen3 {
    fn from_pretrained(
        name: impl AsRef<Path>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, PretrainedError> {
        let path = pretrained_path(name)?;
        Ok(if path.is_dir() { load(path, device, dtype)? } else { load_record(path, device, dtype)? })
    }
}

/// Where the model `name` is: the folder or file of that name, or, with the feature `hub`, the folder of the model that
/// is called so on the Hugging Face hub, as `Qwen/Qwen3-0.6B`. That is the one in the cache of Hugging Face's own
/// programs, and what is missing there is downloaded first, silently, and compared with the hub's sizes and hashes;
/// `qwen3_hub::Hub` does the same and tells how far it is. The tokenizer is in the folder too.
///
/// # Errors
/// [`PretrainedError::NoModel`], and with the feature `hub` `PretrainedError::Hub`.
pub fn pretrained_path(name: impl AsRef<Path>) -> Result<PathBuf, PretrainedError> {
    let name = name.as_ref();
    if name.exists() {
        return Ok(name.into());
    }
    #[cfg(feature = "hub")]
    if let Some(model) = name.to_str().and_then(qwen3_hub::HubModel::parse) {
        return Ok(qwen3_hub::Hub::from_env().folder(&model, qwen3_hub::Need::Weights, &mut |_| ())?);
    }
    Err(PretrainedError::NoModel { name: name.into() })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use qwen3_import::save_record;

    use super::*;

    #[test]
    fn a_folder_and_a_record_are_told_apart() {
        let device = Device::flex();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/gqa-tied");
        let of_folder = Qwen3::from_pretrained(&folder, &device, DType::F32).unwrap();
        let out = tempfile::tempdir().unwrap();
        let record = out.path().join("model.bpk");
        save_record(&of_folder, &record, DType::F32).unwrap();
        let of_record = Qwen3::from_pretrained(&record, &device, DType::F32).unwrap();
        assert_eq!(of_record.config, of_folder.config);
        let error = Qwen3::from_pretrained(out.path().join("absent"), &device, DType::F32).unwrap_err();
        assert!(matches!(&error, PretrainedError::NoModel { .. }), "{error}");
    }
}
