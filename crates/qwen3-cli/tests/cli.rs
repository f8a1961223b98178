//! The command as a user meets it, on the small trained model: output, exit codes and refusals.
#![cfg(feature = "flex")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text")
}

fn fixture(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixtures().join(name)).unwrap()).unwrap()
}

/// As the file has it: the order of keys is part of what is rendered.
#[derive(Deserialize)]
struct Conversation {
    id: String,
    messages: Box<RawValue>,
    tools: Box<RawValue>,
    enable_thinking: Option<bool>,
    add_generation_prompt: bool,
    rendered: String,
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    // No cache and no network: a name on the hub cannot be had.
    command.args(words).env("HF_HOME", "/nonexistent/huggingface").env("HF_ENDPOINT", "http://127.0.0.1:9");
    command
}

fn run(words: &[&str]) -> Output {
    command(words).stdin(Stdio::null()).output().unwrap()
}

fn run_with(words: &[&str], input: &str) -> Output {
    let mut child =
        command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn on_tiny<'a>(words: &[&'a str], tiny: &'a str) -> Vec<&'a str> {
    let (name, rest) = words.split_first().unwrap();
    [*name, "--model", tiny].into_iter().chain(rest.iter().copied()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn done(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// One line of error that has all of `parts`, and exit code 2.
fn refused(output: Output, parts: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(!error.contains("panicked") && !error.contains("internal"), "{error}");
    assert_eq!(text(&output.stdout), "");
}

/// Whoever stops reading has seen enough: `qwen3 ... | head` is no failure.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    for words in [&["inspect"][..], &["generate", "--greedy", "--prompt", "1 2 3"]] {
        let mut command = command(&on_tiny(words, tiny));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("error"), "{words:?}: {said}");
    }
}

/// A record is never written over what it is made from.
#[test]
fn import_keeps_its_input() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(tiny()).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let model = folder.path().to_str().unwrap();
    let weights = folder.path().join("model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let record = folder.path().join("model.bpk");
    let (weights, record) = (weights.to_str().unwrap(), record.to_str().unwrap());
    let code = |model: &str, out: &str| run(&["import", "--model", model, "--out", out]).status.code();
    assert_eq!(code(model, weights), Some(2));
    assert_eq!(std::fs::read(weights).unwrap(), before);
    assert_eq!((code(model, record), code(model, record)), (Some(0), Some(0)));
    assert_eq!(code(record, record), Some(2));
}

#[test]
fn greedy_json_has_transformers_ids() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("tiny.bpk");
    let record = record.to_str().unwrap();
    done(run(&on_tiny(&["import", "--out", record], tiny)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for case in &fixture("greedy.json").as_array().unwrap()[..4] {
        for model in [tiny, record] {
            let prompt = case["prompt"].as_str().unwrap();
            let words = ["generate", "--prompt", prompt, "--greedy", "--json"];
            let words = [&on_tiny(&words, model)[..], &["--max-new-tokens", "64"]].concat();
            let report: Value = serde_json::from_str(&done(run(&words))).unwrap();
            assert_eq!(report["prompt_ids"], case["prompt_ids"]);
            let mut ids = report["generated_ids"].as_array().unwrap().clone();
            assert!([486, 488].contains(&ids.pop().unwrap().as_u64().unwrap()));
            assert_eq!(json!(ids), case["stopped_ids"], "{prompt}");
            assert_eq!(report["finish_reason"], case["finish_reason"]);
            assert!(report["prefill_tok_per_s"].as_f64().unwrap() > 0.0);
            assert!(report["load_s"].as_f64().unwrap() > 0.0);
            for key in ["text", "decode_tok_per_s", "peak_rss_mb"] {
                assert!(!report[key].is_null(), "{key}");
            }
            assert_eq!(report.as_object().unwrap().len(), 8);
        }
    }
}

#[test]
fn text_alone_is_on_standard_output() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let case = &fixture("greedy.json")[1];
    let words = ["generate", "--prompt", case["prompt"].as_str().unwrap(), "--greedy"];
    let words = [&words[..], &["--max-new-tokens", "5"]].concat();
    let output = run(&on_tiny(&words, tiny));
    let json = run(&[&on_tiny(&words, tiny)[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&done(json)).unwrap();
    assert!(text(&output.stderr).contains("tok/s"));
    assert_eq!(done(output), json["text"].as_str().unwrap());
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let tiny = tiny();
    let words = ["generate", "--prompt", "1 2", "--temperature", "2", "--top-k", "0", "--top-p", "1"];
    let of = |seed| {
        let words = [&on_tiny(&words, tiny.to_str().unwrap())[..], &["--seed", seed]].concat();
        done(run(&words))
    };
    assert_eq!(of("7"), of("7"));
    assert_ne!(of("7"), of("8"));
}

#[test]
fn tokens_go_both_ways() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let said = "Déjà vu 😀<|im_end|>\n";
    let ids = done(run(&on_tiny(&["tokenize", "--text", said], tiny)));
    assert_eq!(done(run_with(&on_tiny(&["tokenize"], tiny), said)), ids);
    let back = run_with(&on_tiny(&["tokenize", "--decode"], tiny), &ids);
    assert_eq!(done(back), said);
    let skipped = ["tokenize", "--decode", "--skip-special", "--text", ids.trim()];
    assert_eq!(done(run(&on_tiny(&skipped, tiny))), "Déjà vu 😀\n");
    let json: Value =
        serde_json::from_str(&done(run(&on_tiny(&["tokenize", "--json", "--text", "a"], tiny)))).unwrap();
    assert_eq!(json["ids"].as_array().unwrap().len(), 1);
    assert_eq!(json["tokens"], json!(["a"]));
    refused(run(&on_tiny(&["tokenize", "--decode", "--text", "1 x"], tiny)), &["`x`"]);
    refused(run(&on_tiny(&["tokenize", "--decode", "--text", "99999"], tiny)), &["99999"]);
}

#[test]
fn conversations_are_rendered_byte_by_byte() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let cases = fs::read(fixtures().join("conversations.json")).unwrap();
    let cases: Vec<Conversation> = serde_json::from_slice(&cases).unwrap();
    for case in cases.iter().step_by(3) {
        if case.enable_thinking == Some(true) {
            continue;
        }
        let messages = file("messages.json", case.messages.get());
        let tools = file("tools.json", case.tools.get());
        let mut words = on_tiny(&["render", "--messages", &messages], tiny.to_str().unwrap());
        if case.tools.get() != "null" {
            words.extend(["--tools", &tools]);
        }
        if case.enable_thinking == Some(false) {
            words.push("--no-thinking");
        }
        if case.add_generation_prompt {
            words.push("--add-generation-prompt");
        }
        let rendered = done(run(&words));
        assert_eq!(rendered, case.rendered, "{}", case.id);
    }
}

#[test]
fn inspect_counts_parameters_tensors_and_memory() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let report: Value = serde_json::from_str(&done(run(&on_tiny(&["inspect", "--json"], tiny)))).unwrap();
    let parameters = report["parameters"].as_u64().unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    let values = tensors.iter().map(|tensor| {
        let shape = tensor["shape"].as_array().unwrap();
        shape.iter().map(|size| size.as_u64().unwrap()).product::<u64>()
    });
    assert_eq!(values.sum::<u64>(), parameters);
    assert_eq!(report["dtypes"]["bf16"]["values"], parameters);
    assert_eq!(report["memory"]["f32"]["weights"], 4 * parameters);
    assert_eq!(report["config"]["num_hidden_layers"], 4);
    let people = done(run(&on_tiny(&["inspect"], tiny)));
    assert!(people.contains(&parameters.to_string()) && people.contains("memory in MiB"));
}

#[test]
fn chat_answers_every_line_and_forgets_when_told() {
    let tiny = tiny();
    let words = on_tiny(&["chat", "--greedy", "--no-thinking"], tiny.to_str().unwrap());
    let answers = done(run_with(&words, "What is 3 + 4?\n\nWhat is 2 + 2?\n/clear\nWhat is 3 + 4?\n"));
    let answers = answers.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers[0].contains('7') && answers[1].contains('4'), "{answers:?}");
    assert_eq!(answers[2], answers[0]);
}

#[test]
fn bad_input_ends_with_2_and_says_what() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let generate = |model| run(&["generate", "--model", model, "--prompt", "a"]);
    refused(generate("/no/such/folder"), &["/no/such/folder"]);
    refused(generate("no-such-folder"), &["no-such-folder: no such file or folder"]);
    refused(
        generate("Qwen/Qwen3-0.6B"),
        &["cannot be downloaded", "model.safetensors", "tokenizer.json", "--model FOLDER", "snapshots"],
    );
    refused(run(&on_tiny(&["generate", "--prompt", ""], tiny)), &["--prompt is empty"]);
    let warm = ["generate", "--prompt", "a", "--temperature", "-1"];
    refused(run(&on_tiny(&warm, tiny)), &["temperature"]);
    let narrow = ["generate", "--prompt", "a", "--top-p", "2"];
    refused(run(&on_tiny(&narrow, tiny)), &["top_p"]);
    refused(run(&["generate"]), &["--model"]);
    let double = ["generate", "--prompt", "a", "--dtype", "f64"];
    refused(run(&on_tiny(&double, tiny)), &["f32, f16, bf16"]);
    let metal = ["generate", "--prompt", "a", "--backend", "metal"];
    refused(run(&on_tiny(&metal, tiny)), &["ndarray, flex, wgpu, tch, cuda"]);
    refused(run(&on_tiny(&["import", "--out", "/no/such/folder/a.bpk"], tiny)), &["/no/such/folder"]);
    refused(run(&on_tiny(&["render", "--messages", "/no/such.json"], tiny)), &["/no/such.json"]);

    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("cut.bpk");
    fs::write(&record, b"not a record").unwrap();
    refused(generate(record.to_str().unwrap()), &["cut.bpk"]);
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for file in fs::read_dir(tiny).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), broken.join(file.file_name())).unwrap();
    }
    let weights = fs::read(broken.join("model.safetensors")).unwrap();
    fs::write(broken.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    refused(generate(broken.to_str().unwrap()), &["model.safetensors"]);
    fs::write(broken.join("tokenizer.json"), "{").unwrap();
    refused(generate(broken.to_str().unwrap()), &["tokenizer.json"]);
    // What was there stays when an import fails.
    let out = folder.path().join("kept.bpk");
    fs::write(&out, "kept").unwrap();
    let words = ["import", "--model", broken.to_str().unwrap(), "--out", out.to_str().unwrap()];
    refused(run(&words), &["tokenizer.json"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "kept");
}

#[test]
fn a_prompt_longer_than_the_model_is_refused() {
    let tiny = tiny();
    let prompt = "a ".repeat(4000);
    let words = ["generate", "--prompt", &prompt];
    refused(run(&on_tiny(&words, tiny.to_str().unwrap())), &["2048"]);
}

/// Without generation_config.json the stop tokens are config.json's, in a record too; without a
/// tokenizer, a model can be looked at and imported, not talked with.
#[test]
fn a_record_ends_texts_where_its_folder_does() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(tiny().join(name), copy.join(name)).unwrap();
    }
    let (copy, record) = (copy.to_str().unwrap(), folder.path().join("m.any"));
    let record = record.to_str().unwrap();
    done(run(&["import", "--model", copy, "--out", record, "--dtype", "f32"]));
    let of = |model: &str| {
        let words = ["--prompt", "Question: What is 2+2?\nAnswer:", "--greedy", "--json"];
        let words = [&["generate", "--model", model][..], &words].concat();
        let report: Value = serde_json::from_str(&done(run(&words))).unwrap();
        (report["generated_ids"].clone(), report["finish_reason"].clone())
    };
    assert_eq!(of(copy), of(record));
    assert_eq!(of(copy).1, "stop");

    fs::remove_file(Path::new(copy).join("tokenizer.json")).unwrap();
    let bare = folder.path().join("bare");
    fs::create_dir(&bare).unwrap();
    let bare = bare.join("bare.bpk");
    let bare = bare.to_str().unwrap();
    done(run(&["import", "--model", copy, "--out", bare]));
    done(run(&["inspect", "--model", bare]));
    done(run(&["inspect", "--model", copy]));
    let words = ["generate", "--model", bare, "--prompt", "a"];
    refused(run(&words), &["bare.bpk", "no tokenizer.json"]);
}

#[test]
fn broken_checkpoints_are_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let spoil = |name: &str, bytes: &[u8]| {
        let _ = fs::remove_dir_all(&broken);
        fs::create_dir(&broken).unwrap();
        for file in fs::read_dir(tiny()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), broken.join(file.file_name())).unwrap();
        }
        fs::write(broken.join(name), bytes).unwrap();
    };
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    let mut nan = weights.clone();
    let end = nan.len();
    nan[end - 2..].copy_from_slice(&[0xc0, 0x7f]);
    let config = fs::read_to_string(tiny().join("config.json")).unwrap();
    let wider = config.replace("\"hidden_size\": 112", "\"hidden_size\": 128");
    let absurd = config.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 4000000000");
    assert!(wider != config && absurd != config);
    for (name, bytes, by_header) in [
        ("model.safetensors", &weights[..1000], true),
        ("model.safetensors", &nan, false),
        ("config.json", wider.as_bytes(), true),
        ("config.json", absurd.as_bytes(), true),
        ("config.json", b"[]", true),
    ] {
        spoil(name, bytes);
        let model = broken.to_str().unwrap();
        let out = folder.path().join("out.bpk");
        refused(run(&["generate", "--model", model, "--prompt", "a"]), &["broken"]);
        refused(run(&["import", "--model", model, "--out", out.to_str().unwrap()]), &["broken"]);
        if by_header {
            refused(run(&["inspect", "--model", model]), &["broken"]);
        }
        let mut left = fs::read_dir(folder.path()).unwrap();
        assert!(left.all(|file| file.unwrap().file_name() == "broken"));
    }
}

/// Whatever the session kept from earlier turns, an answer is the one that a new session gives.
#[test]
fn earlier_turns_do_not_change_an_answer() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    for thinking in [&["--no-thinking"][..], &[]] {
        let words = [&on_tiny(&["chat", "--greedy"], tiny)[..], thinking].concat();
        let turns = ["What is 3 + 4?", "Count from 3 to 7.", "What is 12 + 30?"];
        let together = done(run_with(&words, &(turns.join("\n") + "\n")));
        // With one slot less than the next turn needs, the last turn is refused and the others stand.
        let again = done(run_with(&words, &format!("{}\n/exit\n", turns[..2].join("\n"))));
        assert!(together.starts_with(&again), "{together:?} {again:?}");
        let first = done(run_with(&words, &format!("{}\n", turns[0])));
        assert!(again.starts_with(&first), "{again:?} {first:?}");
        // A turn that was cleared leaves no trace.
        let input = format!("{}\n/clear\n{}\n{}\n", turns[2], turns[0], turns[1]);
        let cleared = done(run_with(&words, &input));
        assert!(cleared.ends_with(&again), "{cleared:?} {again:?}");
    }
}

#[test]
fn a_conversation_without_room_is_not_the_end() {
    let tiny = tiny();
    let words = ["chat", "--greedy", "--no-thinking", "--context", "40"];
    let long = "one two three ".repeat(30);
    let input = format!("{long}\nWhat is 3 + 4?\n");
    let output = run_with(&on_tiny(&words, tiny.to_str().unwrap()), &input);
    assert!(text(&output.stderr).contains("room for 40"));
    assert!(done(output).contains('7'));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_text_cleanly() {
    let tiny = tiny();
    let words = ["generate", "--prompt", "1 2", "--max-new-tokens", "1900"];
    // Nothing ends this text but its length: every token is equally likely.
    let words = [&words[..], &["--temperature", "1e6", "--top-k", "0", "--top-p", "1"]].concat();
    let mut child = command(&on_tiny(&words, tiny.to_str().unwrap()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Before its first text the command may be at anything, even before it has taken Ctrl-C over.
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    // Standard output may go on in the middle of a character.
    assert_eq!(output.status.code(), Some(0), "{said}");
    // The text may have come to its end before the signal.
    let reasons = ["(cancelled)", "(stop)", "(length)"];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
}
