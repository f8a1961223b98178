//! `qwen3 tokenize`: text to ids and back.

use std::io::{self, BufWriter, IsTerminal, Read, Write, stdin, stdout};

use anyhow::{Context, Result};
use qwen3_text::Tokenizer;
use serde::Serialize;
use serde_json::json;

use crate::failure::{Blame, bad_input};
use crate::files::{ModelArg, Need};
use crate::generate::shown;

/// Arguments of `qwen3 tokenize`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// The text, or with --decode the ids; without it, standard input to its end, byte for byte
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Turn ids, separated by spaces or commas, into text
    #[arg(long)]
    decode: bool,
    /// With --decode: leave special tokens out
    #[arg(long, requires = "decode")]
    skip_special: bool,
    /// Print JSON: `ids` and `tokens`, or with --decode `ids` and `text`
    #[arg(long)]
    json: bool,
}

/// Reads, converts and prints.
pub fn run(args: &Args) -> Result<()> {
    let files = args.model.files(Need::Texts)?;
    let tokenizer = Tokenizer::open(&files.texts).bad_input()?;
    let input = match &args.text {
        Some(text) => text.clone(),
        None => read_all()?,
    };
    let mut out = BufWriter::new(stdout().lock());
    if args.decode {
        let ids = parse_ids(&input)?;
        let text = tokenizer.decode(&ids, args.skip_special).bad_input()?;
        if args.json {
            writeln!(out, "{}", json!({ "ids": ids, "text": text }))?;
        } else {
            out.write_all(shown(&text).as_bytes())?;
            if stdout().is_terminal() {
                writeln!(out)?;
            }
        }
        return Ok(out.flush()?);
    }
    // All before the first is written, so that an error comes before any of them; kept and written in pieces, as one
    // list and one text they would take several times the input.
    let pieces: Vec<Vec<u32>> = tokenizer.encode_in_pieces(&input).collect::<Result<_, _>>().bad_input()?;
    drop(input);
    let ids = || pieces.iter().flatten();
    if args.json {
        write!(out, "{{\"ids\":")?;
        list(&mut out, ids())?;
        write!(out, ",\"tokens\":")?;
        list(&mut out, ids().map(|id| tokenizer.token(*id)))?;
        writeln!(out, "}}")?;
    } else {
        for (at, id) in ids().enumerate() {
            write!(out, "{}{id}", if at > 0 { " " } else { "" })?;
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

/// Writes a JSON list.
fn list(out: &mut impl Write, items: impl Iterator<Item = impl Serialize>) -> Result<()> {
    for (at, item) in items.enumerate() {
        write!(out, "{}", if at > 0 { ',' } else { '[' })?;
        serde_json::to_writer(&mut *out, &item).map_err(io::Error::from)?;
    }
    Ok(write!(out, "]")?)
}

fn read_all() -> Result<String> {
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
    String::from_utf8(bytes).context("standard input is not UTF-8").bad_input()
}

/// Ids between spaces, commas and brackets, so that JSON's lists are read too.
fn parse_ids(text: &str) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || ",[]".contains(c));
    words
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| bad_input(format!("`{word}` is not a token id"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_words_and_lists() {
        assert_eq!(parse_ids("[1, 2,\n3]").unwrap(), [1, 2, 3]);
        assert_eq!(parse_ids(" 4 5\n").unwrap(), [4, 5]);
        assert!(parse_ids("1 x").is_err());
        assert!(parse_ids("-1").is_err());
    }
}
