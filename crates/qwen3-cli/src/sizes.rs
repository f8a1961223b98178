//! `qwen3 sizes`: how large the official models are.

use std::io::{Write, stdout};

use anyhow::Result;
use qwen3_model::{OFFICIAL_FP8, Official, Precision};
use serde::Serialize;

/// Arguments of `qwen3 sizes`.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How large a model is.
#[derive(Serialize)]
struct Sizes {
    model: &'static str,
    parameters: usize,
    active_parameters: usize,
    non_embedding_parameters: usize,
    bytes: Bytes,
    cache_bytes_per_token: Cache,
}

/// Of the weights, by what they are stored as.
#[derive(Serialize)]
struct Bytes {
    f32: usize,
    bf16: usize,
    f16: usize,
    fp8: usize,
}

/// Of keys and values of all layers.
#[derive(Serialize)]
struct Cache {
    f32: usize,
    bf16: usize,
    f16: usize,
}

impl Sizes {
    fn of(official: Official) -> Self {
        let config = official.config();
        let [f32, f16, bf16] = Precision::ALL.map(|dtype| config.weight_bytes(dtype));
        let cache = Precision::ALL.map(|dtype| config.cache_bytes_per_token(dtype));
        Self {
            model: official.name,
            parameters: config.num_parameters(),
            active_parameters: config.num_active_parameters(),
            non_embedding_parameters: config.non_embedding_parameters(),
            bytes: Bytes { f32, bf16, f16, fp8: config.fp8_bytes(OFFICIAL_FP8) },
            cache_bytes_per_token: Cache { f32: cache[0], f16: cache[1], bf16: cache[2] },
        }
    }
}

/// Prints a line for each model.
pub fn run(args: &Args) -> Result<()> {
    let sizes: Vec<Sizes> = Official::all().map(Sizes::of).collect();
    let text = if args.json { format!("{}\n", serde_json::to_string_pretty(&sizes)?) } else { table(&sizes) };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// In Markdown.
fn table(sizes: &[Sizes]) -> String {
    let mut text = String::from(
        "| model | parameters | active | without embeddings | f32 | bf16 | f16 | fp8 | KV per token: f32 | bf16 | f16 |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for sizes in sizes {
        let Sizes { model, parameters, active_parameters, non_embedding_parameters, .. } = sizes;
        let Sizes { bytes, cache_bytes_per_token, .. } = sizes;
        let Bytes { f32, bf16, f16, fp8 } = bytes;
        let cells = [*parameters, *active_parameters, *non_embedding_parameters, *f32, *bf16, *f16, *fp8];
        let Cache { f32, bf16, f16 } = cache_bytes_per_token;
        let cells = cells.into_iter().chain([*f32, *bf16, *f16]).map(grouped);
        text += &format!("| {model} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (first, rest) = digits.split_at(first);
    let rest = rest.as_bytes().chunks(3).map(|three| String::from_utf8_lossy(three).into_owned());
    std::iter::once(first.to_string()).chain(rest).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 999, 1000, 123_456, 1_234_567].map(grouped),
            ["0", "999", "1,000", "123,456", "1,234,567"]
        );
    }

    /// docs/SIZES.md has the table that the command prints.
    #[test]
    fn the_documented_table_is_this_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SIZES.md");
        let text = std::fs::read_to_string(file).unwrap();
        let (_, table_and_rest) = text.split_once("<!-- sizes: `qwen3 sizes` -->\n").unwrap();
        let (found, _) = table_and_rest.split_once("<!-- end of sizes -->").unwrap();
        let expected = table(&Official::all().map(Sizes::of).collect::<Vec<_>>());
        assert_eq!(found, expected, "put what `qwen3 sizes` prints between the marks of {file}");
    }
}
