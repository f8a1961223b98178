//! What a person reads while cases run, and what a program reads afterwards.

use std::io::{IsTerminal, Write, stdout};

use anyhow::Result;
use serde::Serialize;

use crate::backend::Backend;
use crate::manifest::TestDType;
use crate::protocol::{CaseResult, Status, TensorResult};
use crate::tensors::layer_of;

/// The Burn release this workspace is pinned to.
pub const BURN_VERSION: &str = "0.22.1";

/// The results so far, printed as they come.
pub struct Report {
    colour: bool,
    section: Option<(Backend, TestDType)>,
    /// Everything reported, in order.
    pub results: Vec<CaseResult>,
}

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    burn: &'static str,
    results: &'a [CaseResult],
}

impl Report {
    /// An empty report; colour only when standard output is a terminal and `NO_COLOR` is not set.
    pub fn new() -> Self {
        Self {
            colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            section: None,
            results: Vec::new(),
        }
    }

    /// Prints a row, with the details below it when the case did not pass.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn add(&mut self, result: CaseResult) -> Result<()> {
        let mut out = stdout().lock();
        let section = (result.backend, result.dtype);
        if self.section != Some(section) {
            self.section = Some(section);
            let switches = result.switches.map_or(String::new(), |switches| {
                let on = |on| if on { "on" } else { "off" };
                format!(
                    " (fusion {}, autotune {})",
                    on(switches.fusion),
                    on(switches.autotune)
                )
            });
            writeln!(out, "\n{} {}{switches}", result.backend, result.dtype)?;
            writeln!(
                out,
                "  {:<38} {:<34} {:>9} {:>9}  {:<11} {:>9}",
                "case", "worst tensor", "error", "limit", "verdict", "time"
            )?;
        }
        let (worst, error, limit) = match worst(&result.tensors) {
            Some(tensor) => (
                end_of(&tensor.name, 34),
                tensor
                    .max_abs
                    .map_or("not finite".into(), |error| format!("{error:.2e}")),
                format!("{:.2e}", tensor.limit),
            ),
            None => ("-".into(), "-".into(), "-".into()),
        };
        writeln!(
            out,
            "  {:<38} {worst:<34} {error:>9} {limit:>9}  {} {:>6.0} ms",
            result.case,
            self.verdict(result.status),
            result.elapsed_ms
        )?;
        if let Some(reason) = &result.reason {
            writeln!(out, "      {reason}")?;
        }
        if result.status == Status::Fail {
            for line in explain(&result) {
                writeln!(out, "      {line}")?;
            }
        }
        out.flush()?;
        self.results.push(result);
        Ok(())
    }

    /// Prints the last line: how many cases ended how.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn summary(&self, seconds: f64) -> Result<()> {
        writeln!(
            stdout(),
            "\n{} passed, {} failed, {} crashed, {} unavailable in {seconds:.1} s",
            self.count(Status::Pass),
            self.count(Status::Fail),
            self.count(Status::Crash),
            self.count(Status::Unavailable),
        )?;
        Ok(())
    }

    /// How many cases ended so.
    pub fn count(&self, status: Status) -> usize {
        let same = |result: &&CaseResult| result.status == status;
        self.results.iter().filter(same).count()
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// Never for these types; the serialiser's signature has one.
    pub fn to_json(&self) -> Result<String> {
        let json = Json {
            schema: 1,
            burn: BURN_VERSION,
            results: &self.results,
        };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    fn verdict(&self, status: Status) -> String {
        let (name, colour) = match status {
            Status::Pass => ("pass", 32),
            Status::Fail => ("FAIL", 31),
            Status::Crash => ("CRASH", 31),
            Status::Unavailable => ("unavailable", 33),
        };
        match self.colour {
            true => format!("\u{1b}[{colour}m{name:<11}\u{1b}[0m"),
            false => format!("{name:<11}"),
        }
    }
}

/// The tensor closest to, or furthest beyond, its limit; the first to fail if any does.
fn worst(tensors: &[TensorResult]) -> Option<&TensorResult> {
    let ratio = |tensor: &TensorResult| match (tensor.max_abs, tensor.limit) {
        (Some(error), limit) if limit > 0.0 => error / limit,
        (Some(0.0), _) => 0.0,
        _ => f64::INFINITY,
    };
    tensors
        .iter()
        .find(|tensor| !tensor.pass)
        .or_else(|| tensors.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b))))
}

/// The name, or as much of its end as fits into `width` columns.
fn end_of(name: &str, width: usize) -> String {
    let length = name.chars().count();
    match length <= width {
        true => name.into(),
        false => "…"
            .chars()
            .chain(name.chars().skip(length + 1 - width))
            .collect(),
    }
}

/// Says of a failed case where it first goes wrong, by how much, and what that points to.
fn explain(result: &CaseResult) -> Vec<String> {
    let Some(first) = result.tensors.iter().find(|tensor| !tensor.pass) else {
        return Vec::new();
    };
    let failed = result.tensors.iter().filter(|tensor| !tensor.pass).count();
    let number =
        |value: Option<f64>| value.map_or("not finite".into(), |value| format!("{value:.4e}"));
    let mut lines = vec![
        format!(
            "first to differ: {}{} ({failed} of {} tensors differ)",
            first.name,
            layer_of(&first.name).map_or(String::new(), |layer| format!(", in layer {layer}")),
            result.tensors.len()
        ),
        format!(
            "worst element {:?} of shape {:?}: {} instead of {}; max abs {} (limit {:.4e}), rms {} (limit {:.4e})",
            first.max_abs_index,
            first.shape,
            number(first.observed),
            number(first.expected),
            number(first.max_abs),
            first.limit,
            number(first.rms),
            first.limit_rms
        ),
    ];
    lines.extend(first.note.clone());
    lines.push(format!("likely cause: {}", likely_cause(result, first)));
    lines
}

/// What usually makes this tensor the first to differ.
fn likely_cause(result: &CaseResult, first: &TensorResult) -> &'static str {
    use crate::manifest::Kind;
    if first.note.as_deref() == Some("not finite") {
        return "overflow, or a softmax over a row that is masked throughout";
    }
    let name = first.name.rsplit('.').next().unwrap_or(&first.name);
    match (result.kind, name) {
        (Kind::Prefill, _) => {
            "the edges of chunks: positions, slots of the cache, or padding; if the checkpoint's \
             decoder_layer case fails too, begin there"
        }
        (Kind::Greedy, "alone") => {
            "the cached steps: if the checkpoint's full_model case passes, how far the cache reaches"
        }
        (Kind::Greedy, "batched") => {
            "left padding: positions or the mask of rows that are shorter than the longest"
        }
        (Kind::Greedy, _) => "the edges of chunks in a left-padded batch",
        (Kind::Gradients, _) if first.name == "loss" => {
            "the forward pass (look at the full_model cases of the checkpoint), or which tokens count"
        }
        (Kind::Gradients, _) if first.name.contains("embed_tokens") => {
            "the embedding's gradient: rows of a token that occurs twice, or the head's share when tied"
        }
        (Kind::Gradients, _) => {
            "the backward pass of this parameter's operation, or of one between it and the last right one"
        }
        (Kind::ScaledDotProductAttention, "query_states" | "key_states" | "value_states") => {
            "a projection: its layout, or how its features are split into heads"
        }
        (Kind::ScaledDotProductAttention, "cached_keys" | "cached_values") => {
            "the cache: slots overwritten, or shifted against the keys that were written"
        }
        (Kind::ScaledDotProductAttention, "output_training") => {
            "dropout of attention weights: the axes of its mask, or its place before the softmax"
        }
        (Kind::ScaledDotProductAttention, name) if name.starts_with("context") => {
            "the attention product: mask, scale, softmax, which query heads read which key heads, or \
             the slots of the cache that are read"
        }
        (Kind::ScaledDotProductAttention, _) => {
            "the output projection or the order of its features"
        }
        (Kind::RecordRoundtrip, _) => {
            "the record and the checkpoint are read differently (dtype, layout, key)"
        }
        (Kind::RmsNorm, _) | (_, "input_layernorm" | "post_attention_layernorm") => {
            "the norm: its eps, its weight, or the order of rounding (cast back before the weight)"
        }
        (Kind::Mlp, _) | (_, "mlp") => {
            "the feed-forward block: gate and up, the activation, or the matrix product"
        }
        (_, "embedding_output") => "the embedding lookup: row blocks, token ids, or a scale",
        (_, "q_proj" | "k_proj" | "v_proj" | "value_states") => {
            "a projection: its layout, its bias, or k and v exchanged"
        }
        (_, "q_norm" | "k_norm") => {
            "the per-head norm of queries and keys: missing, over the wrong axis, or its eps"
        }
        (_, "cos" | "sin" | "rope_cos" | "rope_sin") => {
            "the rotary tables: theta, head_dim, or positions"
        }
        (_, "q_rope" | "k_rope" | "query_states" | "key_states") => {
            "queries or keys: their norm, the rotation (pairing of halves, theta), or positions"
        }
        (_, "context") => {
            "the attention product: mask, scale, softmax, or which query heads read which key heads"
        }
        (Kind::Attention, "output") | (_, "o_proj") => {
            "attention: mask, scale, grouping of heads, or the output projection"
        }
        (_, "final_norm_output") => {
            "the last norm: applied twice or not at all, its weight, or its eps"
        }
        (_, "logits") => "the head: tied or not, row blocks, or its layout",
        (_, "step_logits" | "generated_ids") => {
            "the cache: positions of cached steps, slots overwritten, or chunk edges"
        }
        _ => "inside this layer; the decoder_layer case of the same checkpoint names the operation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock").replace("\r\n", "\n");
        assert!(lock.contains(&format!("name = \"burn\"\nversion = \"{BURN_VERSION}\"\n")));
    }

    #[test]
    fn long_names_are_cut_at_their_beginning() {
        assert_eq!(end_of("logits", 6), "logits");
        assert_eq!(end_of("layer_00_output", 8), "…_output");
    }
}
