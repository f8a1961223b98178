//! One input: a folder with a changed file, and the command that reads it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::flags;
use crate::format::{Format, Plan, plans};
use crate::json::{Json, quoted};
use crate::mutate::{self, file, json, safetensors, template};
use crate::program::Program;
use crate::random::Random;
use crate::scratch::{Scratch, copy};
use crate::seeds::Seeds;

/// What is given to a program, and what is known of it.
pub struct Input {
    /// The program.
    pub program: Program,
    /// Its words.
    pub args: Vec<String>,
    /// What was done to which file.
    pub what: String,
    /// Is it the command line that is bad?
    pub usage: bool,
    /// Must it be refused?
    pub refuse: bool,
    /// What lies in `in`.
    pub before: BTreeMap<String, u64>,
}

impl Input {
    /// The words for the process.
    pub fn words(&self) -> Vec<OsString> {
        self.args.iter().map(Into::into).collect()
    }
}

/// Makes input `index` of a format in an empty folder; the same one each time.
///
/// # Errors
/// When a seed is missing or a file cannot be written.
pub fn make(format: Format, seed: u64, index: u64, seeds: &Seeds, scratch: &Scratch) -> Result<Input> {
    let mut random = Random::new(seed, format.name(), index);
    if format == Format::Flags {
        return of_flags(&mut random, seeds, scratch);
    }
    let plans = plans(format);
    let plan = random.pick(&plans);
    let mut input = tame(plan, seeds, scratch)?;
    let target = *random.pick(&plan.targets);
    let path = scratch.input(target);
    let (what, refuse) = if random.once_in(15) {
        // A manifest may come through a pipe, and a file of 64 GB is hashed from end to end.
        let odd: &[usize] = match (format, target) {
            (Format::Manifest, "manifest.json") => &[0, 1, 2, 3, 4, 6],
            (Format::Manifest, _) => &file::ODD[..6],
            _ => &file::ODD[..],
        };
        (file::mutate(&mut random, &path, odd)?, false)
    } else {
        let good = fs::read(&path).with_context(|| target.to_string())?;
        let (bytes, what, certain) = changed(&mut random, format, target, &good);
        fs::write(&path, &bytes)?;
        let refuse = bytes != good && must_refuse(format, target, &input.args, certain);
        (what, refuse)
    };
    input.what = format!("{target}: {what}");
    input.refuse = refuse;
    input.before = scratch.listing("in");
    Ok(input)
}

/// The plan's input with nothing changed.
///
/// # Errors
/// As [`make`].
pub fn tame(plan: &Plan, seeds: &Seeds, scratch: &Scratch) -> Result<Input> {
    plan.base.iter().try_for_each(|(from, to)| lay(seeds, scratch, from, to))?;
    Ok(Input {
        program: plan.program,
        args: plan.args.iter().map(ToString::to_string).collect(),
        what: "nothing".into(),
        usage: false,
        refuse: false,
        before: scratch.listing("in"),
    })
}

/// Copies a seed, a file or a folder, to a name below `in`.
///
/// # Errors
/// When there is no such seed.
pub fn lay(seeds: &Seeds, scratch: &Scratch, from: &str, to: &str) -> Result<()> {
    let (source, target) = (seeds.path(from), scratch.input(to));
    let copied = if source.is_dir() {
        copy(&source, &target)
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(&source, &target).map(drop))
    };
    copied.with_context(|| format!("{}", source.display()))
}

fn of_flags(random: &mut Random, seeds: &Seeds, scratch: &Scratch) -> Result<Input> {
    let base = [
        ("checkpoints/trained-tiny", ""),
        ("trained-tiny/prompt1/reference.npz", "reference.npz"),
        ("messages.json", "messages.json"),
        ("manifest", "manifest"),
    ];
    base.iter().try_for_each(|(from, to)| lay(seeds, scratch, from, to))?;
    let (program, args) = flags::line(random);
    let what = "a command line".into();
    Ok(Input { program, args, what, usage: true, refuse: false, before: scratch.listing("in") })
}

/// The changed bytes, what was done, and whether a value has changed for certain that a checksum covers.
fn changed(random: &mut Random, format: Format, target: &str, good: &[u8]) -> (Vec<u8>, String, bool) {
    let ending = Path::new(target).extension().and_then(|ending| ending.to_str());
    let (bytes, what) = match (target, ending) {
        (_, Some("bpk")) => return mutate::record::mutate(random, good),
        (_, Some("safetensors")) => safetensors::mutate(random, good),
        (_, Some("gguf")) => mutate::gguf::mutate(random, good),
        (_, Some("npz")) => mutate::zip::mutate(random, good),
        (_, Some("pt")) => mutate::pickle::mutate(random, good),
        (_, Some("npy")) => {
            let mut array = good.to_vec();
            let what = mutate::npy::mutate(random, &mut array);
            (array, what)
        }
        (_, Some("jinja")) => template::mutate(random, &String::from_utf8_lossy(good)),
        ("tokenizer.json", _) => mutate::tokenizer::mutate(random, good),
        ("tokenizer_config.json", _) if format == Format::Template => inside(random, good),
        _ => match Json::parse(good) {
            Some(document) => json::mutate(random, document),
            None => (good.to_vec(), "no JSON".into()),
        },
    };
    (bytes, what, true)
}

/// A changed template inside `tokenizer_config.json`.
fn inside(random: &mut Random, good: &[u8]) -> (Vec<u8>, String) {
    let text = serde_json::from_slice::<serde_json::Value>(good).unwrap_or_default();
    let before = text["chat_template"].as_str().unwrap_or_default();
    let (template, what) = template::mutate(random, before);
    let mut config = Json::from(&text);
    config.set("chat_template", Json::Raw(quoted(&String::from_utf8_lossy(&template))));
    (config.bytes(), format!("chat_template: {what}"))
}

/// Files with a checksum must be refused when their bytes have changed and all of them are read.
fn must_refuse(format: Format, target: &str, args: &[String], certain: bool) -> bool {
    let whole = matches!(args[0].as_str(), "import" | "generate" | "parity");
    match format {
        Format::Record => certain && whole,
        Format::Manifest => target != "manifest.json" && whole,
        _ => false,
    }
}
