//! Command lines made of what the programs know, with values that they do not expect.

use crate::hostile;
use crate::program::Program;
use crate::random::Random;

/// What a flag takes.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    Number,
    Text,
    /// A file that is read.
    Read,
    /// A file that is written.
    Write,
    Model,
    Backend,
    Dtype,
    Layers,
    Ids,
}
use Takes::{Backend, Dtype, Ids, Layers, Model, Nothing, Number, Read, Text, Write};

type Flags = &'static [(&'static str, Takes)];

const SAMPLING: Flags = &[
    ("--model", Model),
    ("--adapter", Model),
    ("--prompt", Text),
    ("--backend", Backend),
    ("--dtype", Dtype),
    ("--json", Nothing),
    ("--greedy", Nothing),
    ("--temperature", Number),
    ("--top-k", Number),
    ("--top-p", Number),
    ("--min-p", Number),
    ("--repetition-penalty", Number),
    ("--presence-penalty", Number),
    ("--seed", Number),
    ("--stop", Text),
    ("--device-map", Read),
];

/// Programs, commands, what the command needs, and its other flags.
const COMMANDS: [(Program, &[&str], Flags); 11] = [
    (Program::Qwen3, &["inspect"], &[("--model", Model), ("--json", Nothing)]),
    (
        Program::Qwen3,
        &["tokenize"],
        &[
            ("--model", Model),
            ("--text", Text),
            ("--decode", Nothing),
            ("--skip-special", Nothing),
            ("--json", Nothing),
        ],
    ),
    (
        Program::Qwen3,
        &["render"],
        &[
            ("--model", Model),
            ("--messages", Read),
            ("--tools", Read),
            ("--no-thinking", Nothing),
            ("--add-generation-prompt", Nothing),
        ],
    ),
    (Program::Qwen3, &["import"], &[("--model", Model), ("--out", Write), ("--dtype", Dtype)]),
    (Program::Qwen3, &["generate", "--max-new-tokens", "1"], SAMPLING),
    (Program::Qwen3, &["chat"], SAMPLING),
    (
        Program::Qwen3,
        &["embed"],
        &[
            ("--model", Model),
            ("--text", Text),
            ("--file", Read),
            ("--instruct", Text),
            ("--dimensions", Number),
            ("--max-length", Number),
            ("--backend", Backend),
            ("--dtype", Dtype),
            ("--json", Nothing),
        ],
    ),
    (
        Program::Qwen3,
        &["rerank"],
        &[
            ("--model", Model),
            ("--query", Text),
            ("--document", Text),
            ("--file", Read),
            ("--instruct", Text),
            ("--max-length", Number),
            ("--backend", Backend),
            ("--dtype", Dtype),
            ("--json", Nothing),
        ],
    ),
    (
        Program::FixtureRunner,
        &["parity"],
        &[
            ("--manifest", Read),
            ("--backend", Backend),
            ("--dtype", Dtype),
            ("--filter", Text),
            ("--json", Write),
            ("--junit", Write),
            ("--fail-only", Nothing),
            ("--list", Nothing),
            ("--unavailable", Text),
        ],
    ),
    (
        Program::FixtureRunner,
        &["verify", "--diagnose-for", "1"],
        &[
            ("--model", Model),
            ("--adapter", Model),
            ("--reference", Read),
            ("--observed", Read),
            ("--backend", Backend),
            ("--dtype", Dtype),
            ("--mode", Text),
            ("--layers", Layers),
            ("--preset", Text),
            ("--atol", Number),
            ("--rtol", Number),
            ("--strict", Nothing),
            ("--fail-only", Nothing),
            ("--diagnose-for", Number),
            ("--ids", Ids),
            ("--json", Write),
            ("--junit", Write),
            ("--html", Write),
        ],
    ),
    (
        Program::Qwen3Verify,
        &["--diagnose-for", "1"],
        &[
            ("--model", Model),
            ("--adapter", Model),
            ("--reference", Read),
            ("--observed", Read),
            ("--dtype", Dtype),
            ("--layers", Layers),
            ("--atol", Number),
            ("--rtol", Number),
            ("--strict", Nothing),
            ("--fail-only", Nothing),
            ("--json", Write),
            ("--junit", Write),
            ("--html", Write),
        ],
    ),
];

/// A program and its words. Files are below `in`, `out` and `absent`; nothing else is written to.
pub fn line(random: &mut Random) -> (Program, Vec<String>) {
    let (program, start, flags) = *random.pick(&COMMANDS);
    let mut words: Vec<String> = start.iter().map(ToString::to_string).collect();
    for (flag, takes) in flags {
        // The first is needed, and mostly there.
        let taken = if *flag == flags[0].0 { !random.once_in(8) } else { random.once_in(3) };
        if taken {
            push(random, &mut words, flag, *takes);
        }
    }
    match random.below(10) {
        0 => {
            words.push((*random.pick(&["--", "-", "--nope", "-x", "help", "--help", "--version", ""])).into())
        }
        1 => {
            let (flag, takes) = *random.pick(flags);
            push(random, &mut words, flag, takes);
        }
        2 => {
            words.pop();
        }
        3 if words.len() > 1 => words.swap(0, 1),
        _ => {}
    }
    // No process can be given a NUL.
    words.iter_mut().for_each(|word| word.retain(|c| c != '\0'));
    (program, words)
}

fn push(random: &mut Random, words: &mut Vec<String>, flag: &str, takes: Takes) {
    let Some(value) = value(random, takes) else {
        return words.push(flag.into());
    };
    if random.once_in(2) {
        words.push(format!("{flag}={value}"));
    } else {
        words.extend([flag.into(), value]);
    }
}

fn value(random: &mut Random, takes: Takes) -> Option<String> {
    let one = |random: &mut Random, choices: &[&str]| Some((*random.pick(choices)).to_string());
    // A word is at most 128 KB long.
    let text = |random: &mut Random| hostile::text(random).chars().take(20_000).collect::<String>();
    match takes {
        Nothing => None,
        Number if random.once_in(6) => Some(text(random)),
        Number => Some(hostile::number(random)),
        Text => Some(text(random)),
        Read => one(
            random,
            &[
                "in/messages.json",
                "in/reference.npz",
                "in/manifest/manifest.json",
                "in/config.json",
                "in",
                "absent",
                "absent/x",
                "/dev/null",
                "",
                "in/messages.json/x",
                "in/\x1b[31m",
            ],
        ),
        Write => one(
            random,
            &[
                "out/a.bpk",
                "out/b.json",
                "out",
                "out/",
                "out/new/",
                "absent/x",
                "in/config.json",
                "in/model.safetensors",
                "in/messages.json/x",
                "",
                "/dev/full",
                "in/manifest/manifest.json",
            ],
        ),
        Model if random.once_in(3) => one(
            random,
            &[
                "absent",
                "a/b",
                "in/config.json",
                "in/model.safetensors",
                "",
                "in/model.bpk",
                "/dev/null",
                "\x1b[31m",
            ],
        ),
        Model => Some("in".into()),
        // Neither wgpu nor all: a software GPU takes long to start.
        Backend => {
            one(random, &["ndarray", "flex", "ndarray,flex", "cuda", "metal", "", ",", "flex,flex", "Flex"])
        }
        Dtype => one(random, &["f32", "f16", "bf16", "f64", "", "F32", "f32,f32"]),
        Layers => {
            one(random, &["0..1", "1..", "..=0", "3..1", "0..99999999999999999999", "-1", "x", "", "1"])
        }
        Ids => one(random, &["1,2,3", "", "-1", "99999999", "4294967296", "1,,2", "1 2", "x"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_input_is_written() {
        for index in 0..2000 {
            let (_, words) = line(&mut Random::new(0, "flags", index));
            let mut words = words.iter().map(String::as_str);
            while let Some(word) = words.next() {
                let file = match word.split_once('=') {
                    Some((flag, file)) if ["--out", "--json", "--junit", "--html"].contains(&flag) => file,
                    None if ["--out", "--junit", "--html"].contains(&word) => {
                        words.next().unwrap_or_default()
                    }
                    _ => continue,
                };
                let inside =
                    ["in", "out", "absent", "/dev/full", "", "-"].iter().any(|start| file.starts_with(start));
                assert!(inside && !file.contains(".."), "{word} {file}");
            }
        }
    }
}
