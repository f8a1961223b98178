//! What is expected of a program, whatever it was given.

use std::collections::BTreeMap;

use crate::process::{End, Run};
use crate::program::Program;
use crate::scratch::Scratch;

/// What a panic or a crash of a worker leaves in what is printed.
const CRASHES: [&str; 8] = [
    "panicked at",
    "internal error",
    "RUST_BACKTRACE",
    "stack overflow",
    "memory allocation of",
    "killed by signal",
    "the backend dies",
    "a worker",
];

/// What is known of an input beforehand.
pub struct Expectation<'a> {
    /// The program.
    pub program: Program,
    /// Its words.
    pub args: &'a [String],
    /// Is it the command line that is bad, and not a file?
    pub usage: bool,
    /// Must it be refused?
    pub refuse: bool,
    /// `in` before the run.
    pub before: &'a BTreeMap<String, u64>,
}

/// What became of an input that nothing is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Accepted,
    /// Exit code 1 or 3 of a comparison: read, and found different or not to be run.
    Judged,
    /// Exit code 2.
    Refused,
}

/// What is wrong, one line each; how it ended when nothing is.
///
/// # Errors
/// The lines.
pub fn judge(run: &Run, expected: &Expectation, scratch: &Scratch) -> Result<Outcome, Vec<String>> {
    let mut wrong = Vec::new();
    let compares = expected.program != Program::Qwen3;
    let outcome = match run.end {
        End::Code(0) => Outcome::Accepted,
        End::Code(1) if compares => Outcome::Judged,
        End::Code(3) if expected.program == Program::FixtureRunner => Outcome::Judged,
        End::Code(2) => Outcome::Refused,
        End::Code(code) => {
            wrong.push(format!("exit code {code}"));
            Outcome::Refused
        }
        End::Signal(signal) => return Err(vec![format!("ended by signal {signal}")]),
        End::OverTime => return Err(vec![format!("not done after {:.1} s", run.elapsed.as_secs_f64())]),
        End::OverMemory => return Err(vec![format!("{} MB of memory", run.peak >> 20)]),
        End::OverOutput => return Err(vec!["prints without end".into()]),
    };
    for crash in CRASHES {
        if run.stderr.contains(crash) || (expected.program != Program::Qwen3 && run.stdout.contains(crash)) {
            wrong.push(format!("prints `{crash}`"));
        }
    }
    if outcome == Outcome::Refused && wrong.is_empty() {
        wrong.extend(refusal(&run.stderr, expected));
    }
    if expected.refuse && outcome != Outcome::Refused {
        wrong.push("read as if nothing were wrong with it".into());
    }
    let text = if is_text(expected.args) { "" } else { &run.stdout };
    if let Some(control) = text.chars().chain(run.stderr.chars()).find(|c| c.is_control() && *c != '\n') {
        wrong.push(format!("prints the control character {control:?}"));
    }
    if run.orphans {
        wrong.push("leaves a process behind".into());
    }
    if scratch.listing("in") != *expected.before {
        wrong.push("changes the files beside its input".into());
    }
    let mut left: Vec<_> = scratch.listing("tmp").into_keys().collect();
    if outcome == Outcome::Refused {
        left.extend(scratch.listing("out").into_keys());
    }
    left.extend(scratch.listing("out").into_keys().filter(|name| name.starts_with('.')));
    if let [first, ..] = &left[..] {
        wrong.push(format!("leaves {first} behind"));
    }
    if wrong.is_empty() { Ok(outcome) } else { Err(wrong) }
}

/// Does this command print a text of the model's or the user's, byte for byte?
fn is_text(args: &[String]) -> bool {
    let first = args.first().map_or("", String::as_str);
    matches!(first, "render" | "generate" | "chat" | "tokenize")
}

/// What is wrong with how bad input was refused: one line, which names a file.
fn refusal(stderr: &str, expected: &Expectation) -> Option<String> {
    let lines: Vec<_> = stderr.lines().collect();
    // Notes may come before it.
    let Some(line) = lines.last() else { return Some("refuses without a word".into()) };
    let is_error = |line: &str| line.starts_with(expected.program.error_prefix());
    // clap has its own form, which goes on with the usage.
    let of_clap = lines.iter().any(|line| line.starts_with("For more information, try '--help'"));
    let errors = lines.iter().filter(|line| is_error(line)).count();
    if errors == 0 && !of_clap {
        return Some(format!("an error that begins otherwise: {line:?}"));
    }
    if expected.usage {
        return None;
    }
    if of_clap {
        return Some("a usage error for a bad file".into());
    }
    if errors > 1 || !is_error(line) {
        return Some(format!("an error of {} lines", lines.len()));
    }
    let mut names = expected.before.keys().filter(|name| !name.is_empty());
    // One that is not there is named by its path.
    if !names.any(|name| line.contains(name.as_str())) && !line.contains("in/") {
        return Some(format!("an error that names no file of the input: {line:?}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(end: End, stdout: &str, stderr: &str, refuse: bool) -> Result<Outcome, Vec<String>> {
        let run = Run {
            end,
            stdout: stdout.into(),
            stderr: stderr.into(),
            elapsed: Duration::ZERO,
            peak: 0,
            orphans: false,
        };
        let scratch = Scratch::new().unwrap();
        std::fs::write(scratch.input("a.json"), "{").unwrap();
        let before = scratch.listing("in");
        let args = ["inspect".to_string()];
        let program = Program::Qwen3;
        let expected = Expectation { program, args: &args, usage: false, refuse, before: &before };
        judge(&run, &expected, &scratch)
    }

    #[test]
    fn one_line_that_names_the_file_is_right() {
        let right = judged(End::Code(2), "", "error: in/a.json: EOF\n", true);
        assert_eq!(right, Ok(Outcome::Refused));
        assert_eq!(judged(End::Code(0), "fine\n", "", false), Ok(Outcome::Accepted));
    }

    #[test]
    fn everything_else_is_wrong() {
        let wrong = |end, stdout, stderr, refuse, part: &str| {
            let wrong = judged(end, stdout, stderr, refuse).unwrap_err().join("; ");
            assert!(wrong.contains(part), "{wrong}");
        };
        wrong(End::Code(2), "", "error: EOF\n", false, "names no file");
        wrong(End::Code(2), "", "error: a.json\nmore\n", false, "2 lines");
        wrong(End::Code(2), "", "a.json\n", false, "begins otherwise");
        wrong(End::Code(2), "", "", false, "without a word");
        wrong(End::Code(2), "", "error: a.json \x1b[31m\n", false, "control");
        wrong(End::Code(0), "\x07", "", false, "control");
        wrong(End::Code(0), "", "thread 'main' panicked at", false, "panicked");
        wrong(End::Code(0), "", "", true, "as if nothing");
        wrong(End::Code(1), "", "error: a.json\n", false, "exit code 1");
        wrong(End::Signal(6), "", "", false, "signal 6");
        wrong(End::OverTime, "", "", false, "not done");
        wrong(End::OverMemory, "", "", false, "memory");
    }

    #[test]
    fn what_is_left_is_wrong() {
        let run = || Run {
            end: End::Code(2),
            stdout: String::new(),
            stderr: "error: usage\n".into(),
            elapsed: Duration::ZERO,
            peak: 0,
            orphans: false,
        };
        for left in ["out/x.bpk", "tmp/x", "in/x"] {
            let scratch = Scratch::new().unwrap();
            let before = scratch.listing("in");
            std::fs::write(scratch.path().join(left), "").unwrap();
            let program = Program::Qwen3;
            let expected = Expectation { program, args: &[], usage: true, refuse: false, before: &before };
            assert!(judge(&run(), &expected, &scratch).is_err(), "{left}");
        }
    }
}
