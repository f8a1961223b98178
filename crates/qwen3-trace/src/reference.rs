//! The reference of a verification: a `reference.npz` with the prompt it was made with.

use std::fs;
use std::path::Path;

use qwen3_config::{Qwen3Config, Rows, Site};
use serde_json::Value;

use crate::error::ensure;
use crate::{Trace, TraceError};

/// What a model should give for a prompt.
pub struct Reference {
    /// Its tensors.
    pub trace: Trace,
    /// Those among them that can be compared, in the order of computation.
    pub sites: Vec<Site>,
    /// The prompt, `[batch][seq]`, padding included.
    pub ids: Vec<Vec<u32>>,
    /// Positions and padding.
    pub rows: Rows,
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
    pub fn open(path: &Path, config: &Qwen3Config, expects: bool) -> Result<Self, TraceError> {
        let trace = Trace::open(path)?;
        let ids = trace
            .grid("input_ids")?
            .ok_or_else(|| TraceError::NoTensor { file: path.into(), tensor: "input_ids".into() })?;
        let [batch, seq] = [ids.len(), ids[0].len()];
        let visible = match mask(&trace)? {
            Some(visible) => visible,
            None => vec![vec![true; seq]; batch],
        };
        ensure(visible.len() == batch && visible[0].len() == seq, path, || {
            "`attention_mask` and `input_ids` differ in shape".into()
        })?;
        let left = |row: &Vec<bool>| row.is_sorted() && row.contains(&true);
        ensure(visible.iter().all(left), path, || "`attention_mask` is not left padding".into())?;
        let rows = Rows::of_mask(visible);
        let ids = to_ids(&ids, config, path, "input_ids")?;
        let generated = match trace.grid("generated_ids")? {
            Some(all) => {
                let all = to_ids(&all, config, path, "generated_ids")?;
                let continues = |(row, prompt): (&Vec<u32>, &Vec<u32>)| row.starts_with(prompt);
                let continue_all = all.len() == batch && all.iter().zip(&ids).all(continues);
                ensure(continue_all, path, || "`generated_ids` does not continue `input_ids`".into())?;
                all.iter().map(|row| row[seq..].to_vec()).collect()
            }
            None => vec![Vec::new(); batch],
        };
        let steps = generated[0].len();
        let (needed, most) = (seq + steps, config.max_tokens());
        ensure(needed <= most, path, || format!("{needed} tokens, the checkpoint has {most} positions"))?;
        let trace = trace.read_as(config, &rows, None, None)?;
        let sites = trace.check(config, &rows)?;
        ensure(!expects || !sites.is_empty(), path, || {
            "none of the keys of a reference (embedding_output, layer_00_output, ...)".into()
        })?;
        for site in &sites {
            trace.check_finite(&site.to_string())?;
        }
        check_shape(&trace, "step_logits", &[batch, steps, config.vocab_size])?;
        Ok(Self {
            margins: margins(&trace, batch, steps)?,
            test_input: test_input(path, &ids, &rows),
            trace,
            sites,
            ids,
            rows,
            generated,
        })
    }

    /// How many tokens were generated after the prompt.
    pub fn steps(&self) -> usize {
        self.generated[0].len()
    }

    /// Has it the tensor of `site`?
    pub fn has(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    /// Checks that `observed` is of this prompt, as far as it tells: its `input_ids`, `attention_mask` and
    /// the beginning of `generated_ids`.
    ///
    /// # Errors
    /// When it is of another, naming file, key and place.
    pub fn check_same_prompt(&self, observed: &Trace) -> Result<(), TraceError> {
        let file = observed.path();
        let [batch, seq] = self.rows.dims();
        if let Some(visible) = mask(observed)? {
            ensure(visible == self.rows.visible, file, || "`attention_mask` is not the reference's".into())?;
        }
        for key in ["input_ids", "generated_ids"] {
            let Some(grid) = observed.grid(key)? else {
                continue;
            };
            let (rows, length) = (grid.len(), grid[0].len());
            let longer = key != "input_ids" && length > seq;
            ensure(rows == batch && (length == seq || longer), file, || {
                format!(
                    "`{key}` of shape [{rows}, {length}] is not of the reference's prompt, [{batch}, {seq}]"
                )
            })?;
            for (row, ids) in grid.iter().enumerate() {
                for (column, expected) in self.ids[row].iter().enumerate() {
                    let found = ids[column];
                    let same = found == i64::from(*expected) || !self.rows.visible[row][column];
                    ensure(same, file, || {
                        format!(
                            "`{key}` is another prompt than the reference's: {found} instead of {expected} \
                             at [{row}, {column}]"
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Prompt and the first `steps - 1` tokens of `followed`, `[batch][steps]`, which generate `steps` tokens; one
    /// sequence after the other.
    pub fn continued_ids(&self, followed: &[Vec<u32>], steps: usize) -> Vec<u32> {
        let after = followed.iter().map(|row| &row[..row.len().min(steps - 1)]);
        self.ids.iter().zip(after).flat_map(|(prompt, after)| prompt.iter().chain(after)).copied().collect()
    }

    /// The prompt's ids in one row.
    pub fn flat_ids(&self) -> Vec<u32> {
        self.ids.concat()
    }
}

fn mask(file: &Trace) -> Result<Option<Vec<Vec<bool>>>, TraceError> {
    let seen = |row: &Vec<i64>| row.iter().map(|seen| *seen != 0).collect();
    let mask = file.grid("attention_mask")?;
    Ok(mask.map(|mask| mask.iter().map(seen).collect()))
}

fn to_ids(
    grid: &[Vec<i64>],
    config: &Qwen3Config,
    path: &Path,
    key: &str,
) -> Result<Vec<Vec<u32>>, TraceError> {
    let vocab = config.vocab_size;
    let id = |id: &i64| {
        let known = usize::try_from(*id).is_ok_and(|id| id < vocab);
        ensure(known, path, || format!("`{key}` holds {id}, which is not below vocab_size {vocab}"))?;
        Ok(*id as u32)
    };
    let row = |row: &Vec<i64>| row.iter().map(id).collect();
    grid.iter().map(row).collect()
}

/// Checks that tensor `key`, where the file has it, is finite and of this shape.
fn check_shape(file: &Trace, key: &str, expected: &[usize]) -> Result<(), TraceError> {
    file.check_shape(key, expected)?;
    file.check_finite(key)
}

fn margins(file: &Trace, batch: usize, steps: usize) -> Result<Option<Vec<Vec<f64>>>, TraceError> {
    if steps == 0 {
        return Ok(None);
    }
    check_shape(file, "margins", &[batch, steps])?;
    let values = file.values("margins")?;
    Ok(values.map(|values| values.chunks(steps).map(<[f64]>::to_vec).collect()))
}

/// The prompt that `reference.json` beside the file tells, or the ids.
fn test_input(path: &Path, ids: &[Vec<u32>], rows: &Rows) -> String {
    const MOST_JSON: u64 = 16 << 20;
    let told = path.with_extension("json");
    let small = fs::metadata(&told).is_ok_and(|meta| meta.len() <= MOST_JSON);
    let text = small.then(|| fs::read_to_string(&told).ok()).flatten();
    let json = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(prompt) = json.as_ref().and_then(|json| json["prompt"].as_str()) {
        return prompt.into();
    }
    let shown = ids.iter().zip(&rows.visible).map(|(ids, seen)| {
        let ids = ids.iter().zip(seen).filter(|(_, seen)| **seen);
        let ids: Vec<_> = ids.take(32).map(|(id, _)| id.to_string()).collect();
        format!("[{}]", ids.join(", "))
    });
    format!("token ids {}", shown.collect::<Vec<_>>().join(" "))
}
