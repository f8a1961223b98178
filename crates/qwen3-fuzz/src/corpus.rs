//! `fixtures/hostile`: input that was, or could have been, read wrongly once, and what is expected of it.
//!
//! `hostile.json` lists the cases. A case is made of seeds, of the files in the folder of its name, of texts with
//! repeated parts, and of links, cuts and flipped bits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::input::{Input, lay};
use crate::json::Json;
use crate::process::{End, Run};
use crate::program::Program;
use crate::scratch::{Scratch, copy};
use crate::seeds::Seeds;

/// The table's name in the folder.
pub const TABLE: &str = "hostile.json";

/// A case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, which is that of its folder, if it has one.
    pub name: String,
    /// Why it is here.
    pub about: String,
    /// Seeds and where they go below `in`.
    #[serde(default)]
    pub base: Vec<(String, String)>,
    /// Files below `in` and what is written to them.
    #[serde(default)]
    pub write: Vec<(String, Parts)>,
    /// JSON files below `in`, a key of their object, and the JSON that becomes its value.
    #[serde(default)]
    pub set: Vec<(String, String, Parts)>,
    /// Names below `in` that become symbolic links, and where these lead.
    #[serde(default)]
    pub link: Vec<(String, String)>,
    /// Files below `in` that are cut to so many bytes.
    #[serde(default)]
    pub cut: Vec<(String, u64)>,
    /// Bytes of files below `in` whose lowest bit is flipped.
    #[serde(default)]
    pub flip: Vec<(String, usize)>,
    /// The program.
    pub program: Program,
    /// Its words.
    pub args: Vec<String>,
    /// Is it the command line that is bad, and not a file?
    #[serde(default)]
    pub usage: bool,
    /// The exit code, 2 when left out; null where the case may be read or refused, as long as it ends well.
    #[serde(default = "refused")]
    pub exit: Option<i32>,
    /// What the error line has in it.
    #[serde(default)]
    pub error: Vec<String>,
}

/// Texts, each so many times.
pub type Parts = Vec<(String, usize)>;

fn text(parts: &Parts) -> String {
    parts.iter().map(|(text, times)| text.repeat(*times)).collect()
}

fn refused() -> Option<i32> {
    Some(2)
}

/// The cases of the corpus in `folder`.
///
/// # Errors
/// When the table cannot be read, or a folder has no case.
pub fn read(folder: &Path) -> Result<Vec<Case>> {
    let table = folder.join(TABLE);
    let text = fs::read(&table).with_context(|| table.display().to_string())?;
    let cases: Vec<Case> = serde_json::from_slice(&text).with_context(|| table.display().to_string())?;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let known = name == TABLE || cases.iter().any(|case| case.name == name);
        ensure!(known, "{}: no case of this name", folder.join(name).display());
    }
    Ok(cases)
}

impl Case {
    /// The case's files in an empty folder, and its command.
    ///
    /// # Errors
    /// When a seed is missing.
    pub fn input(&self, corpus: &Path, seeds: &Seeds, scratch: &Scratch) -> Result<Input> {
        self.base.iter().try_for_each(|(from, to)| lay(seeds, scratch, from, to))?;
        let own = corpus.join(&self.name);
        if own.is_dir() {
            copy(&own, &scratch.path().join("in"))?;
        }
        for (file, parts) in &self.write {
            fs::write(scratch.input(file), text(parts))?;
        }
        for (file, key, parts) in &self.set {
            let path = scratch.input(file);
            let mut json = Json::parse(&fs::read(&path)?).with_context(|| format!("{file} is not JSON"))?;
            json.set(key, Json::raw(text(parts)));
            fs::write(path, json.bytes())?;
        }
        for (name, target) in &self.link {
            let path = scratch.input(name);
            if path.exists() {
                fs::remove_file(&path)?;
            }
            symlink(target, path)?;
        }
        for (file, length) in &self.cut {
            fs::OpenOptions::new().write(true).open(scratch.input(file))?.set_len(*length)?;
        }
        for (file, at) in &self.flip {
            let path = scratch.input(file);
            let mut bytes = fs::read(&path)?;
            let byte = bytes.get_mut(*at).with_context(|| format!("{file} has no byte {at}"))?;
            *byte ^= 1;
            fs::write(path, bytes)?;
        }
        let before = scratch.listing("in");
        Ok(Input {
            program: self.program,
            args: self.args.clone(),
            what: self.about.clone(),
            usage: self.usage,
            refuse: false,
            before,
        })
    }

    /// Is it the exit code and the error that are expected?
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, run: &Run) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        if let Some(exit) = self.exit
            && run.end != End::Code(exit)
        {
            wrong.push(format!("{:?} where {exit} is expected", run.end));
        }
        let missing = self.error.iter().filter(|part| !run.stderr.contains(part.as_str()));
        wrong.extend(missing.map(|part| format!("an error without {part:?}")));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
