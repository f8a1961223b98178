//! Devices of other processes, and what becomes of this one when they go away.
//!
//! Burn's remote client panics when it reads from a server that is gone, and waits for ever for one that waits for
//! another that is gone, or that no longer answers. So each server is watched; when one is lost, the panic is told as
//! what it came of, and a program that does not end by itself is ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a panic waits to be explained: what is watched is known to be gone by then.
const EXPLAINED: Duration = Duration::from_secs(3);

struct Watched {
    /// How many servers are watched.
    servers: usize,
    /// What was lost first, in words.
    lost: Option<String>,
    /// Whether somebody has asked, and says it.
    told: bool,
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched { servers: 0, lost: None, told: false });
static CHANGED: Condvar = Condvar::new();

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was lost, or is found to be in the next seconds; `None` at once when nothing is watched.
pub fn awaited() -> Option<String> {
    let watched = watched();
    if watched.servers == 0 {
        return None;
    }
    let waited = CHANGED.wait_timeout_while(watched, EXPLAINED, |watched| watched.lost.is_none());
    let (mut watched, _) = waited.unwrap_or_else(PoisonError::into_inner);
    watched.told = watched.lost.is_some();
    watched.lost.clone()
}

/// From now on a server is watched.
pub fn watch() {
    watched().servers += 1;
}

/// A server is gone: says so to whoever waits for an explanation, and ends the program when it does not end by itself.
pub fn lose(what: String) -> ! {
    /// For the thread that computes to see it and to say it.
    const GRACE: Duration = Duration::from_secs(1);
    watched().lost.get_or_insert_with(|| what.clone());
    CHANGED.notify_all();
    std::thread::sleep(GRACE);
    if watched().told {
        std::thread::sleep(GRACE);
    } else {
        crate::failure::note(&format!("error: {}", qwen3_command::printable(&what)));
    }
    qwen3_command::end_program(crate::failure::FAILED)
}
