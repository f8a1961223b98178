//! A process that computes: what it says, and how it ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qwen3_command::{OnEnd, on_end};
use serde::de::DeserializeOwned;

use crate::protocol::REPLY_PREFIX;

/// How much of a process's standard error is kept.
const LAST_LINES: usize = 12;
/// A process that says nothing for so long is taken for hung and killed.
const SILENCE: Duration = Duration::from_secs(900);
/// How long a process that has closed its standard output may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A command for `program` with its output piped. What was tuned in one run must not decide another,
/// unless the user asks for it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its temporary files go with ours, even when it is killed.
    command.env("TMPDIR", tempfile::env::temp_dir());
    if std::env::var_os("CUBECL_AUTOTUNE_CACHE").is_none() {
        command.env("CUBECL_AUTOTUNE_CACHE", "off");
    }
    command
}

/// A running process that says values of `T`, as JSON lines on standard output. Dropping it kills it, and so does a
/// signal that ends this program.
pub struct Speaker<T> {
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    _on_end: OnEnd,
    said: Receiver<T>,
    stderr: LastLines,
}

impl<T: DeserializeOwned + Send + 'static> Speaker<T> {
    /// Starts a [`command`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let spawn_child = || {
            let child = Arc::new(Mutex::new(command.spawn()?));
            let there = Arc::clone(&child);
            Ok((child, move |_| kill(&there)))
        };
        let (child, _on_end) = on_end(spawn_child).context("starting a process")?;
        let mut pipes = locked(&child);
        let stdin = pipes.stdin.take();
        let stdout = pipes.stdout.take().expect("piped");
        let stderr = LastLines::of(pipes.stderr.take().expect("piped"));
        drop(pipes);
        let (sender, said) = channel();
        spawn(move || {
            for line in lines(stdout) {
                let value = line.strip_prefix(REPLY_PREFIX);
                let value = value.and_then(|value| serde_json::from_str(value).ok());
                if let Some(value) = value
                    && sender.send(value).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, _on_end, said, stderr })
    }

    /// Its standard input, where that is piped and has not been taken.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// What it says next, or how it ended.
    ///
    /// # Errors
    /// How it ended, with the last lines it wrote to standard error; it is killed when it hangs.
    pub fn next(&mut self) -> Result<T, String> {
        self.said.recv_timeout(SILENCE).map_err(|error| match error {
            RecvTimeoutError::Disconnected => self.obituary(),
            RecvTimeoutError::Timeout => {
                let _ = locked(&self.child).kill();
                format!("no answer in {} s; {}", SILENCE.as_secs(), self.obituary())
            }
        })
    }

    /// Waits for the end of one that has said everything; one that is too slow to end is killed, which is no mistake of
    /// what it said: a busy machine may take its time to unload a library.
    ///
    /// # Errors
    /// How it ended, if not well.
    pub fn finish(self) -> Result<(), String> {
        self.finish_within(GRACE)
    }

    fn finish_within(mut self, grace: Duration) -> Result<(), String> {
        match self.ended_within(grace) {
            Some(status) if !status.success() => Err(self.stderr.obituary(describe(status))),
            _ => Ok(()),
        }
    }

    /// How it ended, with the last lines it wrote to standard error.
    pub fn obituary(&mut self) -> String {
        let hung = || format!("it said no more and did not end in {} s", GRACE.as_secs());
        let status = self.ended_within(GRACE).map_or_else(hung, describe);
        self.stderr.obituary(status)
    }

    /// Waits for its end; `None` when it took longer, and was killed.
    fn ended_within(&mut self, grace: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() <= grace {
            if let Some(status) = locked(&self.child).try_wait().ok()? {
                return Some(status);
            }
            sleep(Duration::from_millis(2));
        }
        kill(&self.child);
        None
    }
}

impl<T> Drop for Speaker<T> {
    fn drop(&mut self) {
        kill(&self.child);
    }
}

/// Never held while waiting for a process that lives.
fn locked(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a process and waits for its end.
fn kill(child: &Mutex<Child>) {
    let mut child = locked(child);
    let _ = child.kill();
    let _ = child.wait();
}

/// Lines, whatever bytes are in them, until the end or an error.
fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let mut stream = BufReader::new(stream);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let read = stream.read_until(b'\n', &mut line).ok()?;
        let text = String::from_utf8_lossy(&line);
        (read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_string())
    })
}

/// The last lines that a process wrote to standard error.
struct LastLines {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl LastLines {
    /// Reads until the process closes its end.
    fn of(stderr: ChildStderr) -> Self {
        let kept_lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&kept_lines);
        let reader = spawn(move || {
            for line in lines(stderr) {
                let mut kept = kept.lock().expect("no panic while held");
                if kept.len() == LAST_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self { lines: kept_lines, reader: Some(reader) }
    }

    /// How the process ended, with its last lines, all of which are waited for.
    fn obituary(&mut self, status: String) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let lines = self.lines.lock().expect("no panic while held");
        if lines.is_empty() {
            return status;
        }
        format!("{status}: {}", Vec::from_iter(lines.iter().cloned()).join(" | "))
    }
}

/// An exit status in words; on Unix, the signal that killed the process.
fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    status.to_string()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn speaker(script: &str) -> Speaker<u32> {
        let mut command = command(Path::new("/bin/sh"));
        Speaker::start(command.args(["-c", script])).unwrap()
    }

    #[test]
    fn what_it_says_and_how_it_ends() {
        let noise = format!("echo noise; printf '\\377\\n'; echo '{REPLY_PREFIX}7'");
        let mut good = speaker(&noise);
        assert_eq!(good.next(), Ok(7));
        assert_eq!(good.finish(), Ok(()));
        let mut bad = speaker(&format!("{noise}; printf 'last \\377 word\\n' >&2; exit 3"));
        assert_eq!(bad.next(), Ok(7));
        let end = bad.next().unwrap_err();
        assert!(end.contains('3') && end.contains("last \u{fffd} word"), "{end}");
    }

    #[test]
    fn one_that_is_slow_to_end_has_said_what_it_said() {
        let said = |rest: &str, grace| {
            let mut speaker = speaker(&format!("echo '{REPLY_PREFIX}7'; {rest}"));
            assert_eq!(speaker.next(), Ok(7));
            speaker.finish_within(grace)
        };
        assert_eq!(said("exec sleep 600", Duration::from_millis(50)), Ok(()));
        assert!(said("exit 3", Duration::from_secs(60)).unwrap_err().contains('3'));
    }
}
