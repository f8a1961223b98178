//! What takes turns: backends of ours in each dtype, and other engines.

use std::path::Path;
use std::process::Command;

use qwen3_bench::{Who, machine};
use qwen3_command::{BenchArgs, Peer, backends};
use qwen3_config::Precision;
use qwen3_trace::{Backend, Kernels};

use crate::Programs;
use crate::model::Model;

/// Memory beside weights and cache that a run may take, as a share of those.
const SPARE: f64 = 1.15;

/// One of those that take turns.
pub struct Subject {
    /// Who it is.
    pub who: Who,
    /// What it computes in.
    pub dtype: Precision,
    /// How it is started; or why it cannot be.
    command: Result<Vec<std::ffi::OsString>, String>,
}

impl Subject {
    /// Everything that the arguments ask for.
    pub fn all(args: &BenchArgs, programs: &Programs, model: &Model) -> Vec<Self> {
        let mut all = Vec::new();
        for dtype in dtypes(args) {
            let room = room(model, args, dtype);
            let mut add = |who: Who, command: Result<Vec<_>, String>| {
                let name = match &who {
                    Who::Ours(backend, _) => backend.name(),
                    Who::Peer(peer) => peer,
                };
                let command = unavailable(programs, name).and(room.clone()).and(command);
                all.push(Self { who, dtype, command });
            };
            for backend in backends(&args.backend) {
                for kernels in backend.kernels(&args.kernels) {
                    add(Who::Ours(backend, kernels), Ok(ours(programs, model, (backend, kernels), dtype)));
                }
            }
            let mut peers = args.peers.clone();
            peers.sort();
            peers.dedup();
            for peer in peers {
                add(Who::Peer(peer.to_string()), theirs(programs, model, peer, dtype));
            }
        }
        all
    }

    /// What starts it.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn command(&self) -> Result<Command, String> {
        let words = self.command.as_ref().map_err(String::clone)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Ok(command)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.who, self.dtype)
    }
}

/// Each once, in the order of reports.
fn dtypes(args: &BenchArgs) -> impl Iterator<Item = Precision> {
    Precision::ALL.into_iter().filter(|dtype| args.dtype.contains(dtype))
}

/// What is known not to work here.
fn unavailable(programs: &Programs, name: &str) -> Result<(), String> {
    let reason = programs.unavailable.iter().find_map(|known| known.strip_prefix(name)?.strip_prefix('='));
    reason.map_or(Ok(()), |reason| Err(reason.into()))
}

/// Is there memory enough?
fn room(model: &Model, args: &BenchArgs, dtype: Precision) -> Result<(), String> {
    let (needed, there) = (SPARE * model.bytes(dtype, &args.sizes), machine::available_memory());
    match there {
        Some(there) if needed > there => {
            Err(format!("needs about {:.1} GB of memory, and {:.1} GB are free", needed / 1e9, there / 1e9))
        }
        _ => Ok(()),
    }
}

fn ours(
    programs: &Programs,
    model: &Model,
    (backend, kernels): (Backend, Kernels),
    dtype: Precision,
) -> Vec<std::ffi::OsString> {
    let program = programs.qwen3.clone().into_os_string();
    let words = ["bench", "--measurements", "--backend", backend.name(), "--kernels", kernels.name()];
    let words = words.into_iter().chain(["--dtype", dtype.name(), "--model"]).map(Into::into);
    [program].into_iter().chain(words).chain([model.path.clone().into_os_string()]).collect()
}

fn theirs(
    programs: &Programs,
    model: &Model,
    peer: Peer,
    dtype: Precision,
) -> Result<Vec<std::ffi::OsString>, String> {
    if !model.path.is_dir() {
        return Err("reads folders of Hugging Face's layout, and this model is a record".into());
    }
    let name = peer.to_string();
    let given = programs.peer.iter().find_map(|given| given.strip_prefix(&name)?.strip_prefix('='));
    let program = given.ok_or("no program was given for it")?;
    let script = match peer {
        Peer::Transformers => Some("transformers_peer.py"),
        Peer::LlamaCpp => Some("llama_cpp_peer.py"),
        Peer::Candle => None,
    };
    let mut words = vec![program.into()];
    if let Some(script) = script {
        let folder = programs.peers_folder.as_deref().unwrap_or(Path::new("."));
        words.push(folder.join(script).into_os_string());
    }
    words.extend(["--model".into(), model.path.clone().into_os_string()]);
    words.extend(["--dtype".into(), dtype.name().into()]);
    Ok(words)
}
