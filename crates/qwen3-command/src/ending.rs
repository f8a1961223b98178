//! Programs that a signal ends: what is unfinished is undone first.

use std::collections::BTreeMap;
use std::io;
use std::process::exit;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The signals that ask a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

impl Signal {
    /// Those that this program was not started to ignore, as `nohup` and a shell's `&` have it.
    pub fn heard() -> impl Iterator<Item = Self> {
        let ignored = ignored();
        let all = [Self::Interrupt, Self::Terminate, Self::HangUp];
        all.into_iter().filter(move |signal| ignored >> (signal.number() - 1) & 1 == 0)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
            Self::HangUp => 1,
        }
    }

    /// The shell's exit code for a program that it ended.
    pub fn exit_code(self) -> i32 {
        128 + self.number()
    }
}

type Undo = Box<dyn FnOnce(Signal) + Send>;

/// What has to be undone, by its number; numbers grow.
struct Unfinished {
    next: u64,
    undo: BTreeMap<u64, Undo>,
}

static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { next: 0, undo: BTreeMap::new() });

fn unfinished() -> MutexGuard<'static, Unfinished> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, something is undone when a signal ends the program.
pub struct OnEnd(u64);

impl Drop for OnEnd {
    fn drop(&mut self) {
        unfinished().undo.remove(&self.0);
    }
}

/// Makes something and says how it is undone when a signal ends the program; no signal falls between the two. What
/// was made last is undone first.
///
/// # Errors
/// Those of `make`.
pub fn on_end<T, U: FnOnce(Signal) + Send + 'static>(
    make: impl FnOnce() -> io::Result<(T, U)>,
) -> io::Result<(T, OnEnd)> {
    let mut unfinished = unfinished();
    let (made, undo) = make()?;
    let number = unfinished.next;
    unfinished.next += 1;
    unfinished.undo.insert(number, Box::new(undo));
    Ok((made, OnEnd(number)))
}

/// Takes SIGINT, SIGTERM and SIGHUP over from now on, but for those that the program was started to ignore: each
/// ends it with its exit code, what is unfinished undone, unless `survives` says that the program goes on.
///
/// # Errors
/// When the system refuses.
pub fn on_signal(mut survives: impl FnMut(Signal) -> bool + Send + 'static) -> io::Result<()> {
    let mut arrived = move |signal| {
        if !survives(signal) {
            end(signal);
        }
    };
    #[cfg(unix)]
    {
        let mut signals = signal_hook::iterator::Signals::new(Signal::heard().map(Signal::number))?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for number in signals.forever() {
                if let Some(signal) = Signal::heard().find(|signal| signal.number() == number) {
                    arrived(signal);
                }
            }
        })?;
        Ok(())
    }
    #[cfg(not(unix))]
    ctrlc::set_handler(move || arrived(Signal::Interrupt)).map_err(io::Error::other)
}

/// A bit for each signal that this program was started to ignore; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Undoes what is unfinished and ends the program.
fn end(signal: Signal) -> ! {
    end_with(signal, signal.exit_code())
}

/// Ends the program with this exit code, as a signal would: what is unfinished is undone. For a thread that sees that
/// another will never be done.
pub fn end_program(code: u8) -> ! {
    end_with(Signal::Terminate, code.into())
}

fn end_with(signal: Signal, code: i32) -> ! {
    // Held to the end, so that the work that is ended cannot go on to fail for want of what is undone.
    let mut unfinished = unfinished();
    while let Some((_, undo)) = unfinished.undo.pop_last() {
        undo(signal);
    }
    exit(code)
}
