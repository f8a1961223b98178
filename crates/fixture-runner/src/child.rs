//! Starting a process that computes, and keeping the end of what it says on standard error.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

/// How much of a process's standard error is kept.
const LAST_LINES: usize = 12;

/// A command for `program` with its output piped. What was tuned in one run must not decide another,
/// unless the user asks for it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if std::env::var_os("CUBECL_AUTOTUNE_CACHE").is_none() {
        command.env("CUBECL_AUTOTUNE_CACHE", "off");
    }
    command
}

/// The last lines that a process wrote to standard error.
pub struct LastLines {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl LastLines {
    /// Reads until the process closes its end.
    pub fn of(stderr: ChildStderr) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        let reader = spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("no panic while held");
                if kept.len() == LAST_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    /// Waits until the process has closed its end and everything is read.
    pub fn wait(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// How the process ended, with its last lines.
    pub fn obituary(&self, status: String) -> String {
        let lines = self.lines.lock().expect("no panic while held");
        match lines.is_empty() {
            true => status,
            false => format!(
                "{status}: {}",
                Vec::from_iter(lines.iter().cloned()).join(" | ")
            ),
        }
    }
}

/// An exit status in words; on Unix, the signal that killed the process.
pub fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    status.to_string()
}
