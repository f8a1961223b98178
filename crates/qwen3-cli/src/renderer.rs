//! Chat templates, rendered in a process of their own: a template is a program from whoever made the checkpoint.
//!
//! The library holds it to its limits; this holds the library. The process is asked one JSON line at a time and
//! answers with one, and is ended when it takes too long or too much memory.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qwen3_text::limits::TEMPLATE_TIME;
use qwen3_text::{ChatTemplate, Conversation, RenderOptions, TextError};
use serde::{Deserialize, Serialize};

use crate::failure::{Blame, bad_input};
use crate::model::memory;

/// How much more memory than at its start the process may take.
const MEMORY: u64 = 300 << 20;
/// How long it may take for an answer: the library gives up before that.
const ANSWER: Duration = TEMPLATE_TIME.saturating_add(Duration::from_secs(3));
/// How long it may take to start, when no template has been read yet.
const START: Duration = Duration::from_secs(60);
/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A conversation to be rendered.
#[derive(Serialize, Deserialize)]
pub struct Talk {
    /// JSON, as in a message file.
    pub messages: String,
    /// JSON, as in a file of tools; without it, those of the messages.
    pub tools: Option<String>,
    /// Qwen3's switch.
    pub enable_thinking: Option<bool>,
    /// End with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
}

/// What the process says.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// It runs, or has read the template.
    Ready,
    Prompt(String),
    /// The error.
    Refused(String),
}

/// A checkpoint's chat template, in a process that is started when it is needed.
pub struct Renderer {
    texts: PathBuf,
    /// The template's file, for errors.
    file: PathBuf,
    process: Option<Process>,
}

impl Renderer {
    /// Compiles the template in the folder `texts`, for conversations with or without tools.
    ///
    /// # Errors
    /// When there is none, or it is not sound.
    pub fn open(texts: &Path, tools: bool) -> Result<Self> {
        let file = ChatTemplate::file(texts, tools).bad_input()?;
        let mut renderer = Self { texts: texts.into(), file, process: None };
        renderer.process = Some(renderer.start()?);
        Ok(renderer)
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// The template's, and when it takes too long or too much, or ends the process.
    pub fn render(&mut self, talk: &Talk) -> Result<String> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        let answer = process.ask(talk).map_err(|reason| self.failed(&reason))?;
        // Only a process that answers is asked again.
        self.process = Some(process);
        match answer {
            Answer::Prompt(text) => Ok(text),
            Answer::Refused(reason) => Err(bad_input(reason)),
            Answer::Ready => Err(self.failed("out of step")),
        }
    }

    fn start(&self) -> Result<Process> {
        // A record's template is unpacked for the start alone.
        if !self.texts.is_dir() {
            return Err(self.failed("it was given up before"));
        }
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(program);
        command.arg("rendering-process").arg(&self.texts);
        let mut process = Process::start(command)?;
        process.answer(START).map_err(|reason| self.failed(&reason))?;
        process.before = memory(process.child.id());
        match process.answer(ANSWER).map_err(|reason| self.failed(&reason))? {
            Answer::Refused(reason) => Err(bad_input(reason)),
            _ => Ok(process),
        }
    }

    fn failed(&self, reason: &str) -> anyhow::Error {
        bad_input(format!("{}: the template was given up: {reason}", self.file.display()))
    }
}

/// The running process; dropping it ends it.
struct Process {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Answer>,
    /// Its memory before it read the template, where the system tells.
    before: Option<u64>,
}

impl Process {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C ends an answer, not this.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("starting the process that renders")?;
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, answers) = channel();
        spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            let answers = lines.map_while(|line| serde_json::from_str(&line).ok());
            // Until nobody listens any more.
            answers.map_while(|answer| sender.send(answer).ok()).count()
        });
        Ok(Self { child, stdin, answers, before: None })
    }

    fn ask(&mut self, talk: &Talk) -> Result<Answer, String> {
        let line = serde_json::to_string(talk).map_err(|error| error.to_string())?;
        match writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush()) {
            Ok(()) => self.answer(ANSWER),
            Err(_) => Err(self.obituary()),
        }
    }

    /// The next answer, or why there is none.
    fn answer(&mut self, within: Duration) -> Result<Answer, String> {
        let begun = Instant::now();
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(self.obituary()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if begun.elapsed() > within {
                return Err(format!("no answer in {} s", within.as_secs()));
            }
            let more = self.before.and_then(|before| memory(self.child.id())?.checked_sub(before));
            if more.is_some_and(|more| more > MEMORY) {
                return Err(format!("it takes more than {} MiB of memory", MEMORY >> 20));
            }
        }
    }

    /// How the process ended.
    fn obituary(&mut self) -> String {
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => format!("it ended the process that rendered it ({status})"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to lose, and may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of the hidden command.
#[derive(clap::Args)]
pub struct ProcessArgs {
    texts: PathBuf,
}

/// The process: renders what is asked on standard input, until that ends.
pub fn serve(args: &ProcessArgs) -> Result<()> {
    say(&Answer::Ready)?;
    let template = match ChatTemplate::open(&args.texts) {
        Ok(template) => template,
        Err(error) => return say(&refused(&error)),
    };
    say(&Answer::Ready)?;
    for line in stdin().lines() {
        let talk: Talk = serde_json::from_str(&line?).context("not a conversation")?;
        say(&match rendered(&template, &talk) {
            Ok(text) => Answer::Prompt(text),
            Err(error) => refused(&error),
        })?;
    }
    Ok(())
}

fn rendered(template: &ChatTemplate, talk: &Talk) -> Result<String, TextError> {
    let conversation = Conversation::from_json(&talk.messages, "messages")?;
    let tools = match &talk.tools {
        Some(text) => Some(Conversation::tools_from_json(text, "tools")?),
        None => conversation.tools,
    };
    let options = RenderOptions {
        tools,
        enable_thinking: talk.enable_thinking,
        add_generation_prompt: talk.add_generation_prompt,
        ..RenderOptions::default()
    };
    template.render(&conversation.messages, &options)
}

/// An error in one line, whatever the template put into it.
fn refused(error: &TextError) -> Answer {
    Answer::Refused(error.to_string())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// What is said of a process that does not answer.
    fn given_up(words: &[&str], within: Duration) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let mut process = Process::start(command).unwrap();
        process.before = Some(0);
        process.answer(within).err().unwrap()
    }

    #[test]
    fn a_process_that_does_not_answer_is_given_up() {
        let long = Duration::from_secs(60);
        assert!(given_up(&["sh", "-c", "kill -SEGV $$"], long).contains("signal: 11"));
        assert!(given_up(&["sh", "-c", "echo nonsense; exit 3"], long).contains("it ended the process"));
        assert_eq!(given_up(&["sleep", "60"], Duration::from_millis(50)), "no answer in 0 s");
        // It looks for a line's end in memory.
        assert!(given_up(&["tail", "/dev/zero"], long).contains("more than 300 MiB"));
    }
}
