//! Layers on devices of other processes: `qwen3 serve-device` on this machine, reached over its network.
#![cfg(all(feature = "flex", feature = "remote", unix))]

mod servers;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::remote::RemoteHost;
use burn::tensor::{DType, Device, Tensor};
use qwen3_import::Loader;
use qwen3_model::{DeviceMap, Kernel, Qwen3, Session, SessionOptions};
use serde_json::{Value, json};

use servers::{Proxy, Server};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

fn device(address: &str) -> Device {
    Device::remote_options(&RemoteHost::websocket(&format!("ws://{address}"))).init().unwrap()
}

/// The small trained model, its first two layers on one device and the others on the other.
fn split(devices: [Device; 2], dtype: DType) -> Qwen3 {
    let [first, second] = devices;
    let map = DeviceMap::of_ranges([(0..=1, first), (2..=3, second)], 4).unwrap();
    Loader::on(&map, dtype).checkpoint(tiny()).unwrap()
}

fn bits(logits: Tensor<2>) -> Vec<u8> {
    logits.into_data().as_bytes().to_vec()
}

/// Two processes give the very bits that one device gives when it composes the same operations; so does a model that
/// begins here and ends there. Prompts of unequal length, in chunks, and steps.
#[test]
fn other_processes_give_the_same_bits() {
    let servers = [Server::start(), Server::start()];
    let [first, second] = [0, 1].map(|index| device(&servers[index].address));
    for dtype in [DType::F32, DType::BF16] {
        let alone =
            qwen3_import::load(tiny(), &Device::flex(), dtype).unwrap().with_kernel(Kernel::Reference);
        let there = split([first.clone(), second.clone()], dtype);
        let half = split([Device::flex(), second.clone()], dtype).with_kernel(Kernel::Reference);
        let back = split([first.clone(), Device::flex()], dtype).with_kernel(Kernel::Reference);
        let options = SessionOptions { batch: 2, capacity: 64, chunk_size: 4 };
        let run = |model: &Qwen3| {
            let mut session = Session::new(model, options).unwrap();
            let prompt: Vec<u32> = (0..11).map(|i| (i * 37 + 5) % 480).collect();
            let mut logits = vec![bits(session.prefill(&[&prompt[..], &prompt[3..7]]).unwrap())];
            for token in 0..4 {
                logits.push(bits(session.step(&[token + 30, token + 7]).unwrap()));
            }
            logits
        };
        let expected = run(&alone);
        for (name, model) in [("two processes", there), ("here and there", half), ("there and here", back)] {
            assert!(run(&model) == expected, "{name} in {dtype:?}");
        }
    }
}

/// What goes from one process to the other for each token is the residual stream and little else: it is asked for by
/// its number, and never passes through the client.
#[test]
fn the_edge_carries_the_residual_stream_alone() {
    const STEPS: u64 = 20;
    let servers = [Server::start(), Server::start()];
    let [first, second] = servers.each_ref().map(Proxy::before);
    for dtype in [DType::F32, DType::BF16] {
        let model = split([device(&first.address), device(&second.address)], dtype);
        let mut session =
            Session::new(&model, SessionOptions { capacity: 64, ..Default::default() }).unwrap();
        session.prefill(&[[1, 2, 3]]).unwrap().into_data();
        session.step(&[4]).unwrap().into_data();
        let count = || [&first, &second].map(|proxy| ["/data", "/session"].map(|path| proxy.bytes(path)));
        let before = count();
        for token in 0..STEPS {
            session.step(&[token as u32 + 5]).unwrap().into_data();
        }
        let after = count();
        let per_token = |server: usize, path: usize, way: usize| {
            (after[server][path][way] - before[server][path][way]) as f64 / STEPS as f64
        };
        let residual = (model.config.hidden_size * dtype.size()) as f64;
        let edge = per_token(0, 0, 1);
        println!(
            "{dtype:?}: {edge} bytes per token from server to server for {residual} of residual stream, asked for in \
             {}; the client sends {} and {} and reads {} and {}",
            per_token(0, 0, 0),
            per_token(0, 1, 0),
            per_token(1, 1, 0),
            per_token(0, 1, 1),
            per_token(1, 1, 1),
        );
        assert!((residual..residual + 64.0).contains(&edge), "{edge}");
        assert!(per_token(0, 0, 0) < 64.0);
        assert_eq!((after[1][0], per_token(0, 1, 1)), ([0, 0], 0.0), "nothing else is read");
        // Logits, which the last device has.
        let logits = (model.config.vocab_size * dtype.size()) as f64;
        assert!((logits..logits + 128.0).contains(&per_token(1, 1, 1)));
    }
}

/// A device map of the two servers, and the small model made to never stop, in `folder`.
fn endless(folder: &Path, servers: &[Server; 2]) -> Command {
    for file in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(tiny().join(file), folder.join(file)).unwrap();
    }
    let file = folder.join("generation_config.json");
    let mut generation: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    generation["eos_token_id"] = Value::Null;
    std::fs::write(&file, generation.to_string()).unwrap();
    generate(folder, folder, servers)
}

/// `qwen3 generate` of a model on the two servers; the map is written to `folder`.
fn generate(model: &Path, folder: &Path, servers: &[Server; 2]) -> Command {
    let names = servers.each_ref().map(|server| format!("remote:{}", server.address));
    let [first, second] = &names;
    let devices = json!([{"device": first, "layers": [0, 1]}, {"device": second, "layers": [2, 3]}]);
    let map = folder.join("devices.json");
    std::fs::write(&map, json!({"devices": devices}).to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.args(["generate", "--prompt", "1 2 3 4", "--greedy"]).arg("--model").arg(model);
    command.arg("--device-map").arg(map).stdin(Stdio::null());
    command
}

#[test]
fn the_command_says_the_same() {
    let servers = [Server::start(), Server::start()];
    let folder = tempfile::tempdir().unwrap();
    let run = |mut command: Command| {
        let output = command.arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["generated_ids"].clone()
    };
    let mut alone = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    alone.args(["generate", "--prompt", "1 2 3 4", "--greedy", "--model"]).arg(tiny());
    let expected = run(alone);
    assert!(expected.as_array().unwrap().len() > 3);
    assert_eq!(run(generate(&tiny(), folder.path(), &servers)), expected);
}

/// Whichever server goes, and in whichever way, the command ends within 10 seconds with a line that names it.
#[test]
fn a_server_that_is_lost_ends_the_command() {
    for (lost, signal) in [(0, "-KILL"), (1, "-KILL"), (0, "-STOP"), (1, "-STOP"), (1, "-TERM")] {
        let servers = [Server::start(), Server::start()];
        let folder = tempfile::tempdir().unwrap();
        let mut command = endless(folder.path(), &servers);
        command.args(["--max-new-tokens", "2000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        assert!(!out.fill_buf().unwrap().is_empty(), "no text");
        servers[lost].signal(signal);
        let begun = Instant::now();
        std::io::copy(&mut out, &mut std::io::sink()).unwrap();
        let code = child.wait().unwrap().code();
        let took = begun.elapsed();
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        println!("{signal} of server {lost}: {took:.1?}: {error}");
        assert_eq!(code, Some(1), "{signal}: {error}");
        assert!(took < Duration::from_secs(10), "{signal}: {took:?}");
        let expected = format!("error: device `remote:{}` is lost: ", servers[lost].address);
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{signal}: {error}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named_at_once() {
    let servers = [Server::start(), Server::start()];
    servers[1].signal("-KILL");
    let folder = tempfile::tempdir().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let output = generate(&tiny(), folder.path(), &servers).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    let name = format!("`devices[1].device` is `remote:{}`: no server answers", servers[1].address);
    assert!(error.contains(&name) && begun.elapsed() < Duration::from_secs(10), "{error}");
}
