//! The reference of a verification: a `reference.npz` with the prompt it was made with.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use qwen3_model::Qwen3Config;
use serde_json::Value;

use super::activations::Activations;
use crate::blame::Tokens;
use crate::subject::positions;

/// What a model should give for a prompt.
pub struct Reference {
    /// Its tensors.
    pub activations: Activations,
    /// The keys among them that can be compared, in the order of computation.
    pub keys: Vec<String>,
    /// The prompt, `[batch][seq]`, padding included.
    pub ids: Vec<Vec<u32>>,
    /// Positions and padding.
    pub tokens: Tokens,
    /// The tokens that greedy decoding chose after the prompt, `[batch][steps]`.
    pub generated: Vec<Vec<u32>>,
    /// Top-1 minus top-2 logit at each step, `[batch][steps]`, if the file has them.
    pub margins: Option<Vec<Vec<f64>>>,
    /// The prompt in words, or its ids.
    pub test_input: String,
}

impl Reference {
    /// Opens and checks the file against the checkpoint's config. Unless it `expects` something, it may
    /// hold only a prompt.
    ///
    /// # Errors
    /// When the file is malformed, a tensor is misshapen, or a token is not in the vocabulary.
    pub fn open(path: &Path, config: &Qwen3Config, expects: bool) -> Result<Self> {
        let activations = Activations::open(path)?;
        let place = path.display();
        let ids = activations
            .grid("input_ids")?
            .with_context(|| format!("{place}: no tensor `input_ids`"))?;
        let [batch, seq] = [ids.len(), ids[0].len()];
        let visible = match activations.grid("attention_mask")? {
            Some(mask) => {
                ensure!(
                    mask.len() == batch && mask[0].len() == seq,
                    "{place}: `attention_mask` and `input_ids` differ in shape"
                );
                let seen = |row: &Vec<i64>| row.iter().map(|seen| *seen != 0).collect();
                mask.iter().map(seen).collect()
            }
            None => vec![vec![true; seq]; batch],
        };
        let tokens = Tokens {
            positions: visible.iter().map(|row| positions(row)).collect(),
            visible,
        };
        for row in &tokens.visible {
            let left = row.windows(2).all(|pair| !pair[0] || pair[1]);
            ensure!(
                left && row.contains(&true),
                "{place}: `attention_mask` is not left padding"
            );
        }
        let ids = to_ids(&ids, config, path, "input_ids")?;
        let generated = match activations.grid("generated_ids")? {
            Some(all) => {
                let all = to_ids(&all, config, path, "generated_ids")?;
                let continues = |(row, prompt): (&Vec<u32>, &Vec<u32>)| row.starts_with(prompt);
                ensure!(
                    all.len() == batch && all.iter().zip(&ids).all(continues),
                    "{place}: `generated_ids` does not continue `input_ids`"
                );
                all.iter().map(|row| row[seq..].to_vec()).collect()
            }
            None => vec![Vec::new(); batch],
        };
        let needed = seq + generated[0].len();
        ensure!(
            needed <= config.max_position_embeddings,
            "{place}: {needed} tokens, the checkpoint has {} positions",
            config.max_position_embeddings
        );
        let keys = activations.check(config, &tokens)?;
        ensure!(
            !expects || !keys.is_empty(),
            "{place}: none of the keys of a reference (embedding_output, layer_00_output, ...)"
        );
        for key in &keys {
            activations.check_finite(key)?;
        }
        let steps = generated[0].len();
        if let Some(array) = activations.array("step_logits")? {
            let wanted = [batch, steps, config.vocab_size];
            ensure!(
                array.shape == wanted,
                "{place}: `step_logits` has shape {:?}, expected {wanted:?}",
                array.shape
            );
            activations.check_finite("step_logits")?;
        }
        Ok(Self {
            margins: margins(&activations, batch, generated[0].len())?,
            test_input: test_input(path, &ids, &tokens),
            activations,
            keys,
            ids,
            tokens,
            generated,
        })
    }

    /// Checks that `observed` is of this prompt, as far as it tells: its `input_ids`, `attention_mask` and
    /// the beginning of `generated_ids`.
    ///
    /// # Errors
    /// When it is of another, naming file, key and place.
    pub fn check_same_prompt(&self, observed: &Activations) -> Result<()> {
        let place = observed.path().display();
        let [batch, seq] = self.tokens.dims();
        if let Some(mask) = observed.grid("attention_mask")? {
            let seen: Vec<Vec<bool>> = mask
                .iter()
                .map(|row| row.iter().map(|seen| *seen != 0).collect())
                .collect();
            ensure!(
                seen == self.tokens.visible,
                "{place}: `attention_mask` is not the reference's"
            );
        }
        for key in ["input_ids", "generated_ids"] {
            let Some(grid) = observed.grid(key)? else {
                continue;
            };
            let length = grid[0].len();
            ensure!(
                grid.len() == batch && (length == seq || key != "input_ids" && length > seq),
                "{place}: `{key}` of shape [{}, {length}] is not of the reference's prompt, [{batch}, {seq}]",
                grid.len()
            );
            for (row, ids) in grid.iter().enumerate() {
                for (column, expected) in self.ids[row].iter().enumerate() {
                    let found = ids[column];
                    ensure!(
                        found == i64::from(*expected) || !self.tokens.visible[row][column],
                        "{place}: `{key}` is another prompt than the reference's: {found} instead of \
                         {expected} at [{row}, {column}]"
                    );
                }
            }
        }
        Ok(())
    }

    /// The prompt's ids in one row.
    pub fn flat_ids(&self) -> Vec<u32> {
        self.ids.concat()
    }
}

fn to_ids(
    grid: &[Vec<i64>],
    config: &Qwen3Config,
    path: &Path,
    key: &str,
) -> Result<Vec<Vec<u32>>> {
    let id = |id: &i64| {
        let known = usize::try_from(*id).is_ok_and(|id| id < config.vocab_size);
        ensure!(
            known,
            "{}: `{key}` holds {id}, which is not below vocab_size {}",
            path.display(),
            config.vocab_size
        );
        Ok(*id as u32)
    };
    let row = |row: &Vec<i64>| row.iter().map(id).collect();
    grid.iter().map(row).collect()
}

fn margins(file: &Activations, batch: usize, steps: usize) -> Result<Option<Vec<Vec<f64>>>> {
    let Some(array) = file.array("margins")?.filter(|_| steps > 0) else {
        return Ok(None);
    };
    file.check_finite("margins")?;
    ensure!(
        array.shape == [batch, steps],
        "{}: `margins` has shape {:?}, expected [{batch}, {steps}]",
        file.path().display(),
        array.shape
    );
    let values = array.floats("margins")?;
    let rows = values.chunks(steps.max(1));
    let row = |row: &[f32]| row.iter().map(|margin| f64::from(*margin)).collect();
    Ok(Some(rows.map(row).collect()))
}

/// The prompt that `reference.json` beside the file tells, or the ids.
fn test_input(path: &Path, ids: &[Vec<u32>], tokens: &Tokens) -> String {
    const MOST_JSON: u64 = 16 << 20;
    let told = path.with_extension("json");
    let small = fs::metadata(&told).is_ok_and(|meta| meta.len() <= MOST_JSON);
    let text = small.then(|| fs::read_to_string(&told).ok()).flatten();
    let json = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(prompt) = json.as_ref().and_then(|json| json["prompt"].as_str()) {
        return prompt.into();
    }
    let rows = ids.iter().zip(&tokens.visible).map(|(ids, seen)| {
        let ids = ids.iter().zip(seen).filter(|(_, seen)| **seen);
        let ids: Vec<_> = ids.take(32).map(|(id, _)| id.to_string()).collect();
        format!("[{}]", ids.join(", "))
    });
    format!("token ids {}", rows.collect::<Vec<_>>().join(" "))
}
