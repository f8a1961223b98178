//! Lines that are pasted into a terminal which does not say so (bracketed paste is the editor's): whatever is there at
//! once is one message.

use std::io::{ErrorKind, stdin};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qwen3_command::{OnEnd, on_end};
use rustyline::error::ReadlineError;
use std::os::fd::AsFd;

use super::command::Command;
use super::terminal::{Editor, Pasted};

/// How long more of what is pasted is waited for, in milliseconds.
const MORE: u16 = 20;

/// The line with those that wait behind it, up to a command or the end of the input.
///
/// # Errors
/// When the terminal cannot be used.
pub fn rest(editor: &mut Editor, line: String) -> Result<Pasted> {
    let mut pasted = Pasted { text: line, ..Pasted::default() };
    sleep(Duration::from_millis(MORE.into()));
    let mut begun = String::new();
    loop {
        editor.helper().expect("a helper").begin(&begun);
        let read = {
            let _now = Now::on()?;
            editor.readline_with_initial("", (&begun, ""))
        };
        let seen = editor.helper().expect("a helper").line();
        match read {
            Ok(line) if Command::parse(&line).is_some() => pasted.then = Some(Some(line)),
            Ok(line) => {
                pasted.text = pasted.text + "\n" + &line;
                begun.clear();
                continue;
            }
            Err(ReadlineError::Eof) => pasted.then = Some(None),
            Err(ReadlineError::Interrupted) => pasted = Pasted { unfinished: true, ..Pasted::default() },
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                begun = seen + "\u{fffd}";
                continue;
            }
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let input = stdin();
                let mut waits = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
                if poll(&mut waits, PollTimeout::from(MORE)).is_ok_and(|ready| ready > 0) {
                    begun = seen;
                    continue;
                }
                if !seen.is_empty() {
                    pasted.text = pasted.text + "\n" + &seen;
                    pasted.unfinished = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        return Ok(pasted);
    }
}

/// While it lives, reading standard input does not wait.
struct Now {
    _waits: Waits,
    _on_end: OnEnd,
}

impl Now {
    fn on() -> Result<Self> {
        let (waits, on_end) = on_end(|| {
            let before = OFlag::from_bits_retain(fcntl(stdin(), FcntlArg::F_GETFL)?);
            fcntl(stdin(), FcntlArg::F_SETFL(before | OFlag::O_NONBLOCK))?;
            Ok((Waits(before), move |_| drop(Waits(before))))
        })?;
        Ok(Self { _waits: waits, _on_end: on_end })
    }
}

/// Has standard input wait as before, when it is dropped.
struct Waits(OFlag);

impl Drop for Waits {
    fn drop(&mut self) {
        // A terminal that is gone is not read any more.
        let _ = fcntl(stdin(), FcntlArg::F_SETFL(self.0));
    }
}
