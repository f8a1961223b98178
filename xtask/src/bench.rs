//! `cargo xtask bench`: builds the programs and, where they are asked for, other engines, and starts the benchmark.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwen3_command::{BackendWord, BenchArgs, BenchSizes, Peer, Synthetic, backends, child, line};
use qwen3_trace::{Backend, Kernels, Precision};

use crate::fixtures::python;
use crate::launch::{self, SetUp};
use crate::programs;
use crate::runner::executable;
use crate::workspace::{Workspace, exit_code};

/// The end of `cargo xtask bench --help`.
pub const NOTES: &str = "\
Each backend in each dtype runs in a process of its own, once in every round, with other tokens and in another order
each time, when the machine is otherwise idle. Beside each figure stand the most that this machine can do, measured in
the same run, and what parity says of the backend: only ratios within one run count.

Models of random weights are made once, in `bench` of the target directory. Transformers runs in the oracle's Python
environment (see `cargo xtask fixtures --help`); llama.cpp where `llama_cpp` can be imported, by the Python that
QWEN3_PEERS_PYTHON names, by that of tools/.venv, or by python3; candle is built from tools/peers/candle on first use.

Examples:
  cargo xtask bench --synthetic tiny                         a minute, to see what it prints
  cargo xtask bench --backend flex,tch --dtype f32,bf16 --peers transformers --json bench.json --html bench.html
  cargo xtask bench --model DIR --backend all --prompt 512 --context 128 --batch 1

Exit codes:
  0  everything was measured that can be had here
  1  a run failed or crashed, or parity fails on what was measured
  2  usage, set-up or build failure, or a bad model
  3  nothing failed, but a backend asked for by name has no figures on this machine";

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    shared: BenchArgs,
}

impl Args {
    /// Two rounds of a small model on every backend, whatever else the machine does.
    pub fn small(json: PathBuf, html: PathBuf) -> Self {
        let sizes = BenchSizes {
            prompt: vec![8, 64],
            generate: 8,
            context: vec![16, 200],
            batch: vec![1, 3],
            runs: 2,
            threads: None,
            seed: 7,
        };
        let shared = BenchArgs {
            backend: Backend::ALL.map(BackendWord::One).into(),
            kernels: vec![Kernels::On],
            dtype: vec![Precision::F32],
            model: None,
            synthetic: Some(Synthetic::Tiny),
            sizes,
            peers: Vec::new(),
            wait: 0,
            give_up: 120,
            json: Some(json),
            markdown: None,
            html: Some(html),
        };
        Self { shared }
    }
}

/// Builds and measures; returns the program's exit code.
///
/// # Errors
/// When something is missing before the build, or the build fails.
pub fn run(args: &Args) -> Result<u8> {
    let Args { shared } = args;
    let workspace = Workspace::find()?;
    launch::check_outputs([
        ("--json", &shared.json),
        ("--html", &shared.html),
        ("--markdown", &shared.markdown),
    ])?;
    if let Some(model) = &shared.model {
        ensure!(model.exists(), "--model {}: no such file or folder", model.display());
    }
    let asked = backends(&shared.backend);
    let set_up = SetUp::of(&workspace.root, &asked, false);
    let names = ["qwen3", "fixture-runner", "qwen3-bench"];
    let [qwen3, runner, bench] = programs::build(&workspace, &asked, set_up.libtorch.as_deref(), names)?;

    let mut command = Command::new(bench);
    command.args(shared.words());
    command.arg("--qwen3").arg(qwen3).arg("--fixture-runner").arg(runner);
    command.arg("--manifest").arg(workspace.root.join("manifest.json"));
    command.arg("--work").arg(workspace.target.join("bench"));
    command.arg("--peers-folder").arg(workspace.root.join("tools/peers"));
    command.args(launch::unavailable(&set_up));
    for &peer in &shared.peers {
        match program(&workspace, peer) {
            Ok(program) => command.arg("--peer").arg(format!("{peer}={}", program.display())),
            Err(error) => command.arg("--unavailable").arg(format!("{peer}={}", line(&error))),
        };
    }
    let status = child::status(&mut command).context("qwen3-bench cannot be started")?;
    Ok(exit_code("qwen3-bench", status))
}

/// What runs another engine, brought or built where it has to be.
fn program(workspace: &Workspace, peer: Peer) -> Result<PathBuf> {
    match peer {
        Peer::Transformers => python(&workspace.root),
        Peer::LlamaCpp => llama_python(&workspace.root),
        Peer::Candle => candle(workspace),
    }
}

/// The first Python that can import `llama_cpp`.
fn llama_python(root: &Path) -> Result<PathBuf> {
    let named = std::env::var_os("QWEN3_PEERS_PYTHON").map(PathBuf::from);
    let own = root.join("tools/.venv").join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let imports = |python: &PathBuf| {
        let mut python = Command::new(python);
        python.args(["-c", "import llama_cpp, gguf"]).stdin(Stdio::null());
        let ended = child::status(python.stdout(Stdio::null()).stderr(Stdio::null()));
        ended.is_ok_and(|status| status.success())
    };
    let found = named.into_iter().chain([own, "python3".into()]).find(imports);
    found.context(
        "no Python here imports llama_cpp and gguf: `pip install --require-hashes -r \
         tools/peers/requirements.txt`, and name it by QWEN3_PEERS_PYTHON",
    )
}

/// The program in tools/peers/candle.
fn candle(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("xtask: building tools/peers/candle; the first time takes minutes");
    let mut cargo = workspace.cargo(None);
    cargo.args(["build", "--release", "--locked", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--manifest-path").arg(workspace.root.join("tools/peers/candle/Cargo.toml"));
    cargo.arg("--target-dir").arg(workspace.target.join("candle"));
    let output = child::output(cargo.stdin(Stdio::null()).stderr(Stdio::inherit()))
        .context("cargo cannot be started")?;
    ensure!(output.status.success(), "tools/peers/candle could not be built");
    executable(&String::from_utf8_lossy(&output.stdout), "candle-peer")
        .context("cargo named no executable for tools/peers/candle")
}
