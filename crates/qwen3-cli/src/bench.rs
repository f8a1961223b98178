//! `qwen3 bench`: how fast a model loads, reads and decodes on one backend in one dtype.

mod measure;
mod rates;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use qwen3_bench::{Process, Who, assemble, limits, machine, measured};
use qwen3_command::{BenchSizes, OutputFile};
use qwen3_report::BenchReport;
use qwen3_report::bench::ModelFacts;
use qwen3_report::text::{Look, write_bench};

use qwen3_trace::Kernels;

use crate::device::DeviceArgs;
use crate::failure::Blame;
use crate::files::{ModelArg, Need};
use crate::progress;

/// Arguments of `qwen3 bench`.
#[derive(clap::Args)]
#[command(after_help = "`cargo xtask bench` compares backends, dtypes and other engines in rounds.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    device: DeviceArgs,
    /// Whether flex computes with this project's kernels, or is composed of Burn's own operations
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true, value_parser = qwen3_command::kernels())]
    kernels: Kernels,
    #[command(flatten)]
    sizes: BenchSizes,
    /// Write every figure with its samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the process that measures, and print what it measures as one JSON object
    #[arg(long, hide = true, conflicts_with = "json")]
    measurements: bool,
}

/// Measures in a process of its own, and prints.
pub fn run(args: &Args) -> Result<()> {
    if args.measurements {
        let measurements = measure::measurements(args)?;
        stdout().lock().write_all(measurements.to_json().as_bytes())?;
        return Ok(());
    }
    let json = args.json.as_deref().map(|file| OutputFile::prepare("--json", file, [])).transpose();
    let json = json.bad_input()?;
    // What is quick to check goes first; the process that measures opens them again.
    args.device.device()?;
    let (backend, dtype) = (args.device.backend()?, args.device.dtype());
    let weights = args.model.files(Need::Weights)?.weights;
    let config = weights.config()?;
    weights.check_head()?;

    let spinner = progress::spinner("measuring");
    let sizes = BenchSizes { threads: Some(args.sizes.threads()), ..args.sizes.clone() };
    let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
    command.args(["bench", "--measurements", "--model", &args.model.model]);
    command.args(["--backend", backend.name(), "--dtype", dtype.name(), "--kernels", args.kernels.name()]);
    let said = measured(command, &sizes, Duration::MAX)?;
    let mut report = BenchReport {
        model: ModelFacts { name: args.model.model.clone(), parameters: config.num_parameters() },
        machine: machine::machine(),
        limits: limits::limits(sizes.threads(), &[dtype]),
        ..BenchReport::default()
    };
    spinner.finish_and_clear();
    let process = Process {
        who: Who::Ours(backend, args.kernels),
        dtype,
        measurements: said.measurements,
        disturbed: said.disturbed,
    };
    assemble(&mut report, &config, &[process], |_| None);
    let mut out = stdout().lock();
    write_bench(&report, &mut out, Look::of_stdout())?;
    out.flush()?;
    if let Some(json) = json {
        json.write(&report.to_json())?;
    }
    Ok(())
}
