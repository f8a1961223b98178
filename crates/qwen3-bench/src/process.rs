//! A process that measures: started, watched, and read.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use qwen3_command::{BenchSizes, child};

use crate::idle::Watch;
use crate::{Measurements, MeasurementsError};

/// How often a running process is looked at.
const PATIENCE: Duration = Duration::from_millis(20);
/// What is kept of what a process prints as errors.
const KEPT: usize = 64 << 10;
/// By this code an engine says that it cannot be had here.
const UNAVAILABLE: i32 = 3;

/// What a process said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its measurements.
    pub measurements: Measurements,
    /// Did others use the machine in the meantime?
    pub disturbed: bool,
    /// How long it took in all.
    pub elapsed: Duration,
}

/// Why a process has no measurements.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What it measures cannot be had here, for this reason.
    #[error("{0}")]
    Unavailable(String),
    /// It took too long.
    #[error("took longer than {} s", .0.as_secs())]
    Late(Duration),
    /// It could not be started or read.
    #[error("cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It failed.
    #[error("{status}{}", colon(.message))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last line that it printed as an error.
        message: String,
    },
    /// What it said cannot be used.
    #[error(transparent)]
    Said(#[from] MeasurementsError),
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Failure {
    /// Is it no fault, but something that is not to be had or too slow here?
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Late(_))
    }
}

/// Starts `command` with the words of `sizes` and as many threads as they say, and reads its measurements. After
/// `most` it is killed.
///
/// # Errors
/// When it has none.
pub fn measured(mut command: Command, sizes: &BenchSizes, most: Duration) -> Result<Said, Failure> {
    command.args(sizes.words()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let threads = sizes.threads().to_string();
    // Rayon's, for Burn and candle; OpenMP's, for PyTorch and llama.cpp; and of libraries that PyTorch may use.
    for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
        command.env(variable, &threads);
    }
    let (watch, begun) = (Watch::start(), Instant::now());
    let mut running = child::spawn(&mut command)?;
    let stdout = read(running.child.stdout.take());
    let stderr = read(running.child.stderr.take());
    let ended = loop {
        if let Some(ended) = ended(&mut running.child)? {
            break ended;
        }
        if begun.elapsed() > most {
            running.child.kill()?;
            running.child.wait()?;
            return Err(Failure::Late(most));
        }
        sleep(PATIENCE);
    };
    let disturbed = ended.computed.is_some_and(|own| watch.disturbed(own));
    let elapsed = begun.elapsed();
    let [stdout, stderr] = [stdout, stderr].map(|pipe| pipe.join().unwrap_or_default());
    if ended.status.success() {
        return Ok(Said { measurements: Measurements::from_json(&stdout)?, disturbed, elapsed });
    }
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let message = last.trim().trim_start_matches("error: ").to_string();
    Err(match ended.status.code() {
        Some(UNAVAILABLE) => Failure::Unavailable(message),
        _ => Failure::Failed { status: ended.status, message },
    })
}

/// Reads a pipe to its end; of much, the end.
fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        let Some(mut pipe) = pipe else { return String::new() };
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            kept.extend_from_slice(&piece[..count]);
            if kept.len() > 64 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

/// How a process ended, and how long it computed, in seconds.
struct Ended {
    status: ExitStatus,
    computed: Option<f64>,
}

#[cfg(unix)]
fn ended(child: &mut std::process::Child) -> io::Result<Option<Ended>> {
    use wait4::Wait4;
    let ended = child.try_wait4()?;
    Ok(ended.map(|ended| Ended {
        status: ended.status,
        computed: Some((ended.rusage.utime + ended.rusage.stime).as_secs_f64()),
    }))
}

#[cfg(not(unix))]
fn ended(child: &mut std::process::Child) -> io::Result<Option<Ended>> {
    Ok(child.try_wait()?.map(|status| Ended { status, computed: None }))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sizes() -> BenchSizes {
        BenchSizes {
            prompt: vec![1],
            generate: 1,
            context: vec![1],
            batch: vec![1],
            runs: 1,
            threads: Some(3),
            seed: 0,
        }
    }

    fn run(script: &str, most: Duration) -> Result<Said, Failure> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]);
        measured(command, &sizes(), most)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_said_is_read_and_threads_are_given() {
        let said = Measurements::new("qwen3", "v".into(), 3).to_json();
        let script = format!("[ $RAYON_NUM_THREADS$OMP_NUM_THREADS = 33 ] && echo '{}'", said.trim());
        assert_eq!(run(&script, LONG).unwrap().measurements.threads, 3);
    }

    #[test]
    fn failures_are_told_apart() {
        let failure = |script: &str, most| run(script, most).unwrap_err();
        let absent = failure("echo 'error: no engine' >&2; exit 3", LONG);
        assert!(absent.is_absence() && absent.to_string() == "no engine", "{absent}");
        let failed = failure("echo 'a' >&2; echo b >&2; exit 1", LONG);
        assert!(!failed.is_absence() && failed.to_string() == "exit status: 1: b", "{failed}");
        assert!(failure("kill -9 $$", LONG).to_string().contains("signal: 9"));
        assert!(matches!(failure("echo '{}'", LONG), Failure::Said(_)));
        let begun = Instant::now();
        let late = failure("exec sleep 50", Duration::from_millis(100));
        assert!(late.is_absence() && begun.elapsed() < Duration::from_secs(20), "{late}");
    }
}
