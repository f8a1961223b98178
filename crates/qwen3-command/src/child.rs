//! Programs that are started: a signal that ends this one is passed on to them, and they are waited for.

use std::io;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::ending::{OnEnd, Signal, on_end};

/// How long a program may take to end when a signal asks it to.
const GRACE: Duration = Duration::from_secs(20);

/// A running program.
pub struct Running {
    /// The program, its pipes to be taken.
    pub child: Child,
    // Dropped in this order: that it has ended is known before it is no longer waited for.
    _ended: Sender<()>,
    _on_end: OnEnd,
}

/// Starts a program.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: &mut Command) -> io::Result<Running> {
    let (sender, ended) = channel();
    let start = || {
        let child = command.spawn()?;
        let id = child.id();
        Ok((child, move |signal| pass_on(signal, id, &ended)))
    };
    let (child, on_end) = on_end(start)?;
    Ok(Running { child, _ended: sender, _on_end: on_end })
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started.
pub fn status(command: &mut Command) -> io::Result<ExitStatus> {
    spawn(command)?.child.wait()
}

/// Runs a program to its end and gives what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, or read from.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let mut running = spawn(command.stdout(Stdio::piped()))?;
    let mut stdout = Vec::new();
    if let Some(mut pipe) = running.child.stdout.take() {
        io::Read::read_to_end(&mut pipe, &mut stdout)?;
    }
    Ok(Output { status: running.child.wait()?, stdout, stderr: Vec::new() })
}

/// Sends the signal and waits, and kills what does not end.
fn pass_on(signal: Signal, id: u32, ended: &Receiver<()>) {
    let waiting = |time| matches!(ended.recv_timeout(time), Err(RecvTimeoutError::Timeout));
    if waiting(Duration::ZERO) {
        send(signal.number(), id);
        if waiting(GRACE) {
            send(9, id);
        }
    }
}

#[cfg(unix)]
fn send(number: i32, id: u32) {
    use nix::sys::signal::{Signal, kill};
    if let (Ok(signal), Ok(id)) = (Signal::try_from(number), i32::try_from(id)) {
        // It may have ended in the meantime.
        let _ = kill(nix::unistd::Pid::from_raw(id), signal);
    }
}

#[cfg(not(unix))]
fn send(_: i32, _: u32) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_and_how_it_ends() {
        let sh = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        assert_eq!(status(&mut sh("exit 3")).unwrap().code(), Some(3));
        let said = output(&mut sh("echo said; exit 4")).unwrap();
        assert_eq!((said.status.code(), &said.stdout[..]), (Some(4), &b"said\n"[..]));
    }

    /// The program ends as it does at that signal, and is waited for.
    #[test]
    fn a_signal_is_passed_on() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap 'echo ended; exit 0' TERM; echo ready; while :; do sleep 0.01; done"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        io::BufRead::read_line(&mut pipe, &mut line).unwrap();
        let (sender, ended) = channel();
        let id = child.id();
        let waits = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            drop(sender);
            status
        });
        pass_on(Signal::Terminate, id, &ended);
        assert_eq!(waits.join().unwrap().code(), Some(0));
        io::BufRead::read_line(&mut pipe, &mut line).unwrap();
        assert_eq!(line, "ready\nended\n");
    }
}
