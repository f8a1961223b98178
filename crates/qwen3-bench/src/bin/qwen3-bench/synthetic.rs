//! Models of random weights, in the shapes of real ones: how fast a model is does not depend on what it knows.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use half::bf16;
use qwen3_command::{Synthetic, Temporary};
use qwen3_config::{Official, Qwen3Config, Weight};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::{Dtype, View, serialize_to_file};

/// The architecture of a shape.
pub fn config(shape: Synthetic) -> Qwen3Config {
    let official = |name| Official::find(name).expect("it is listed").config();
    match shape {
        Synthetic::Tiny => Qwen3Config {
            vocab_size: 512,
            hidden_size: 128,
            intermediate_size: 256,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            ..official("Qwen3-0.6B")
        },
        Synthetic::B0_6 => official("Qwen3-0.6B"),
        Synthetic::B1_7 => official("Qwen3-1.7B"),
        Synthetic::B4 => official("Qwen3-4B"),
    }
}

/// The folder of a model of this shape inside `work`, made when it is not there.
///
/// # Errors
/// When it cannot be written.
pub fn folder(shape: Synthetic, work: &Path) -> Result<PathBuf> {
    let folder = work.join(format!("synthetic-{shape}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(work).with_context(|| format!("{} cannot be made", work.display()))?;
    let config = config(shape);
    eprintln!("bench: making {}, {:.1} GB", folder.display(), 2e-9 * config.num_parameters() as f64);
    let unfinished = Temporary::inside(work, ".synthetic-")
        .with_context(|| format!("{} cannot be written to", work.display()))?;
    let made = unfinished.path().join("model");
    std::fs::create_dir(&made)?;
    std::fs::write(made.join("config.json"), config.to_json())?;
    let tensors = config.weights().enumerate().map(|(number, weight)| {
        let key = weight.key.clone();
        (key, Random { seed: number as u64, weight })
    });
    serialize_to_file(tensors, None, &made.join("model.safetensors"))?;
    match std::fs::rename(&made, &folder) {
        // Another process made it in the meantime.
        Err(_) if folder.is_dir() => {}
        renamed => renamed.with_context(|| format!("{} cannot be made", folder.display()))?,
    }
    Ok(folder)
}

/// A weight whose values are drawn when they are written: matrices so that activations stay of order one, norms
/// around one.
struct Random {
    seed: u64,
    weight: Weight,
}

impl View for Random {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.weight.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let norm = self.weight.key.ends_with("norm.weight");
        let input = self.weight.shape.last().copied().unwrap_or(1) as f32;
        let (mean, deviation) = if norm { (1.0, 0.3) } else { (0.0, input.sqrt().recip()) };
        // As far as numbers that are equally likely between two ends reach.
        let reach = deviation * 3f32.sqrt();
        let mut bytes = vec![0; self.data_len()];
        StdRng::seed_from_u64(self.seed).fill_bytes(&mut bytes);
        for pair in bytes.chunks_exact_mut(2) {
            let drawn = f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0;
            pair.copy_from_slice(&bf16::from_f32(mean + reach * drawn).to_le_bytes());
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        2 * self.weight.shape.iter().product::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_made_once() {
        let work = tempfile::tempdir().unwrap();
        let made = folder(Synthetic::Tiny, work.path()).unwrap();
        let file = made.join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let config =
            Qwen3Config::from_json(&std::fs::read_to_string(made.join("config.json")).unwrap()).unwrap();
        assert_eq!(read.len(), config.weights().count());
        let tensor = read.tensor("model.layers.1.mlp.down_proj.weight").unwrap();
        assert_eq!(tensor.shape(), [128, 256]);
        let values =
            tensor.data().chunks_exact(2).map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f64());
        let rms = (values.clone().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        assert!((rms * 16.0 - 1.0).abs() < 0.02, "{rms}");
        std::fs::write(&file, "mine").unwrap();
        assert_eq!(folder(Synthetic::Tiny, work.path()).unwrap(), made);
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn shapes_are_the_official_ones() {
        let parameters = |shape| config(shape).num_parameters();
        assert_eq!(parameters(Synthetic::B0_6), 596_049_920);
        assert_eq!(parameters(Synthetic::B1_7), 1_720_574_976);
        assert_eq!(parameters(Synthetic::B4), 4_022_468_096);
    }
}
