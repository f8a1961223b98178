//! Runs every example on the small trained model.
#![cfg(feature = "flex")]

use std::path::PathBuf;
use std::process::Command;

/// What an example prints. cargo has built it beside this test.
fn output(name: &str, args: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example = folder.join("examples").join(name);
    let example = PathBuf::from(format!("{}{}", example.display(), std::env::consts::EXE_SUFFIX));
    let output = Command::new(&example).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn generate_answers() {
    let text = output("generate", &[]);
    assert!(text.trim().contains('7'), "{text:?}");
}

#[test]
fn chat_streams_an_answer_to_its_end() {
    let text = output("chat", &[]);
    assert!(text.ends_with("(stop)\n"), "{text:?}");
    let thoughts = (text.matches('[').count(), text.matches(']').count());
    assert_eq!(thoughts.0, thoughts.1, "{text:?}");
}

#[test]
fn the_loss_of_the_frozen_encoders_head_falls() {
    let text = output("frozen_encoder", &[]);
    let losses = text.lines().map(|line| line.rsplit(' ').next().unwrap());
    let losses = losses.map(|loss| loss.parse::<f32>().unwrap());
    let losses = losses.collect::<Vec<_>>();
    assert_eq!(losses.len(), 5, "{text}");
    assert!(losses[4] < 0.5 * losses[0], "{text}");
}
