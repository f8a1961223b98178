//! One process within limits of time, memory and output.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait4::Wait4;

/// How often a running process is looked at.
const PATIENCE: Duration = Duration::from_millis(4);
/// What is kept of what a process prints.
const KEPT: u64 = 1 << 20;
/// A process that prints more than this is killed.
const MOST_OUTPUT: u64 = 256 << 20;

/// By the clock a process may take this many times what it may compute, for the machine may be busy.
const CLOCK: u32 = 3;
/// Ticks of the processor's time in /proc, on every Linux.
const TICKS: f64 = 100.0;

/// What a process may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Processor time until it is killed; three times that by the clock.
    pub time: Duration,
    /// Resident memory in bytes, of it or one of its own processes, at which it is killed.
    pub memory: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// Killed for its time.
    OverTime,
    /// Killed for its memory.
    OverMemory,
    /// Killed for what it printed.
    OverOutput,
}

/// What became of a process.
#[derive(Debug)]
pub struct Run {
    /// Its end.
    pub end: End,
    /// The beginning of its standard output.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
    /// How long it ran, by the clock.
    pub elapsed: Duration,
    /// The most resident memory of it, or of a process that it waited for.
    pub peak: u64,
    /// Had it left processes behind?
    pub orphans: bool,
}

/// Runs `program` in `folder`, which has `in`, `out` and `tmp` in it, and nothing on its standard input.
///
/// # Errors
/// When it cannot be started.
pub fn run(program: &Path, args: &[OsString], folder: &Path, limits: Limits) -> io::Result<Run> {
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let temporary = folder.join("tmp");
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        // Its own group, so that its workers can be killed with it.
        .process_group(0)
        .env("TMPDIR", &temporary)
        .env("HOME", &temporary)
        .env("HF_HOME", &temporary)
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("RUST_BACKTRACE");
    let start = Instant::now();
    let mut child = command.spawn()?;
    let id = child.id();
    let group = Pid::from_raw(id as i32);
    let (mut peak, mut killed) = (0, None);
    let end = loop {
        if let Some(end) = child.try_wait4()? {
            break end;
        }
        peak = peak.max(resident(id));
        let printed = |file| fs::metadata(file).map_or(0, |metadata| metadata.len());
        let over = if start.elapsed() > limits.time * CLOCK || computed(id) > limits.time {
            Some(End::OverTime)
        } else if peak > limits.memory {
            Some(End::OverMemory)
        } else if printed(&stdout) + printed(&stderr) > MOST_OUTPUT {
            Some(End::OverOutput)
        } else {
            None
        };
        if killed.is_none() && over.is_some() {
            killed = over;
            // It may have ended by now.
            let _ = killpg(group, Signal::SIGKILL);
        }
        sleep(PATIENCE);
    };
    let elapsed = start.elapsed();
    // A worker that was told to end may need a moment.
    let mut orphans = killpg(group, None).is_ok();
    for _ in 0..25 {
        if !orphans {
            break;
        }
        sleep(PATIENCE);
        orphans = killpg(group, None).is_ok();
    }
    if orphans {
        let _ = killpg(group, Signal::SIGKILL);
    }
    peak = peak.max(end.rusage.maxrss);
    let computed = end.rusage.utime + end.rusage.stime;
    let ended = match (end.status.code(), end.status.signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    };
    let end = match killed {
        Some(killed) => killed,
        None if peak > limits.memory => End::OverMemory,
        None if computed > limits.time => End::OverTime,
        None => ended,
    };
    Ok(Run {
        end,
        stdout: beginning(&stdout)?,
        stderr: beginning(&stderr)?,
        elapsed,
        peak,
        orphans: orphans && killed.is_none(),
    })
}

fn beginning(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(KEPT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most memory that a process or one of its children has had; 0 where there is no /proc.
fn resident(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = kilobytes.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok());
    children(id).into_iter().map(resident).fold(kilobytes.unwrap_or(0_u64) * 1024, u64::max)
}

/// The processor's time that a process and its children have had; nothing where there is no /proc.
fn computed(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, user and system time are fields 12 and 13, those of children that
    // have ended the two after them.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u32 = fields.skip(11).take(4).filter_map(|field| field.parse::<u32>().ok()).sum();
    let own = Duration::from_secs_f64(f64::from(ticks) / TICKS);
    children(id).into_iter().map(computed).sum::<Duration>() + own
}

/// The processes that a process has started and not yet waited for.
fn children(id: u32) -> Vec<u32> {
    // Whichever of its threads started them.
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let ids = |ids: String| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>();
    children.flat_map(ids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limits: Limits) -> Run {
        let folder = tempfile::tempdir().unwrap();
        run(Path::new("/bin/sh"), &["-c".into(), script.into()], folder.path(), limits).unwrap()
    }

    const AMPLE: Limits = Limits { time: Duration::from_secs(20), memory: 1 << 30 };

    #[test]
    fn ends_and_output_are_told() {
        let run = shell("echo out; echo error >&2; exit 3", AMPLE);
        assert_eq!((run.end, run.stdout.trim(), run.stderr.trim()), (End::Code(3), "out", "error"));
        assert!(run.peak > 100_000 && !run.orphans);
        assert_eq!(shell("kill -ABRT $$", AMPLE).end, End::Signal(6));
    }

    #[test]
    fn what_goes_over_a_limit_is_killed_with_its_children() {
        let short = Limits { time: Duration::from_millis(100), ..AMPLE };
        let run = shell("sleep 30 & sleep 30", short);
        assert_eq!(run.end, End::OverTime);
        assert!(run.elapsed < Duration::from_secs(10) && !run.orphans);
        let run = shell("while true; do :; done", Limits { time: Duration::from_secs(1), ..AMPLE });
        assert_eq!(run.end, End::OverTime);
        let small = Limits { memory: 200 << 20, ..AMPLE };
        // A child of the shell holds the memory.
        let grow = "(head -c 900m /dev/zero | tail -c 900m; true) | cat >/dev/null; true";
        let run = shell(grow, small);
        assert_eq!(run.end, End::OverMemory, "{run:?}");
    }

    #[test]
    fn a_process_left_behind_is_noticed() {
        assert!(shell("sleep 30 & exit 0", AMPLE).orphans);
    }
}
