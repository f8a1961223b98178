//! What the whole of a report holds for.

use std::fmt;

use qwen3_trace::Preset;

use super::Change;
use super::row::MORE;
use crate::bench::Limits;
use crate::measure::three_digits;
use crate::{AnyReport, BenchReport, VerifyReport};

/// The place of what makes figures of two runs comparable or not.
pub const MACHINE: &str = "machine";

/// Something that both reports should have in common.
struct Fact {
    /// What it belongs to: `report`, `model`, [`MACHINE`], `limits`, `ratios`, `skipped`.
    place: &'static str,
    name: String,
    value: Value,
}

/// Text that is equal or not, or a measured rate that is never quite equal.
enum Value {
    Text(String),
    Rate(f64, &'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text}"),
            Self::Rate(rate, unit) => write!(f, "{}{unit}", three_digits(*rate)),
        }
    }
}

impl Value {
    fn is_near(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Rate(a, _), Self::Rate(b, _)) => a.max(*b) <= MORE * a.min(*b),
            _ => false,
        }
    }
}

/// Every fact that is not the same in both.
pub fn changes(old: &AnyReport, new: &AnyReport) -> Vec<Change> {
    let (old, new) = (facts(old), facts(new));
    let find = |facts: &[Fact], fact: &Fact| {
        facts.iter().position(|other| (other.place, &other.name) == (fact.place, &fact.name))
    };
    let none = || "none".to_owned();
    let mut changes = Vec::new();
    for before in &old {
        let after = find(&new, before).map(|at| &new[at].value);
        if !after.is_some_and(|after| before.value.is_near(after)) {
            let after = after.map_or_else(none, ToString::to_string);
            changes.push(before.change(&before.value.to_string(), &after));
        }
    }
    let added = new.iter().filter(|fact| find(&old, fact).is_none());
    changes.extend(added.map(|fact| fact.change(&none(), &fact.value.to_string())));
    changes
}

impl Fact {
    fn text(place: &'static str, name: &str, text: &str) -> Self {
        Self { place, name: name.into(), value: Value::Text(text.into()) }
    }

    fn rate(place: &'static str, name: String, rate: f64, unit: &'static str) -> Self {
        Self { place, name, value: Value::Rate(rate, unit) }
    }

    fn change(&self, before: &str, after: &str) -> Change {
        Change { place: self.place.into(), what: format!("{}: {before} -> {after}", self.name) }
    }
}

fn facts(report: &AnyReport) -> Vec<Fact> {
    match report {
        AnyReport::Verify(report) => of_verify(report),
        AnyReport::Parity(report) => vec![Fact::text("report", "burn", &report.burn)],
        AnyReport::Bench(report) => of_bench(report),
    }
}

fn of_verify(report: &VerifyReport) -> Vec<Fact> {
    let outlier = report.consensus.as_ref().and_then(|consensus| consensus.outlier.as_deref());
    let facts = [
        ("burn", report.burn.as_str()),
        ("limits", &report.limits),
        ("model_path", &report.model_path),
        ("observed", report.observed.as_deref().unwrap_or("none")),
        ("outlier", outlier.unwrap_or("none")),
        ("preset", report.preset.map_or("none", Preset::name)),
        ("reference", report.reference.as_deref().unwrap_or("none")),
        ("test_input", &report.test_input),
    ];
    facts.map(|(name, value)| Fact::text("report", name, value)).into()
}

fn of_bench(report: &BenchReport) -> Vec<Fact> {
    let machine = &report.machine;
    let mut facts = vec![
        Fact::text("report", "burn", &report.burn),
        Fact::text("model", "name", &report.model.name),
        Fact::text("model", "parameters", &report.model.parameters.to_string()),
        Fact::text(MACHINE, "processor", &machine.cpu),
        Fact::text(MACHINE, "cores", &machine.cores.to_string()),
        Fact::text(MACHINE, "threads", &report.limits.threads.to_string()),
        Fact::text(MACHINE, "instruction sets", &machine.instruction_sets.join(" ")),
        Fact::rate(MACHINE, "memory".into(), machine.memory_gb, " GiB"),
        Fact::text(MACHINE, "system", &machine.system),
        Fact::text(MACHINE, "huge pages", machine.huge_pages.as_deref().unwrap_or("none")),
        Fact::text(MACHINE, "devices", &machine.devices.join(", ")),
    ];
    facts.extend(of_limits(&report.limits));
    facts.extend(report.ratios.iter().map(|ratio| {
        let name = format!("{} over {}, {}", ratio.label(), ratio.peer, ratio.workload);
        Fact::rate("ratios", name, ratio.ratio, "")
    }));
    facts.extend(report.skipped.iter().map(|skipped| {
        let workload = skipped.workload.map_or(String::new(), |workload| format!(", {workload}"));
        Fact::text("skipped", &format!("{}{workload}", skipped.who), &skipped.reason)
    }));
    facts
}

fn of_limits(limits: &Limits) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (pages, rate) in &limits.read_gb_per_s {
        facts.push(Fact::rate("limits", format!("reading {} pages", pages.name()), *rate, " GB/s"));
    }
    for (dtype, rate) in &limits.matmul_gflop_per_s {
        facts.push(Fact::rate("limits", format!("multiplying {dtype}"), *rate, " GFLOP/s"));
    }
    for device in &limits.devices {
        let name = |what| format!("{} {}, {what}", device.backend, device.dtype);
        facts.push(Fact::rate("limits", name("memory"), device.gb_per_s, " GB/s"));
        facts.push(Fact::rate("limits", name("products"), device.gflop_per_s, " GFLOP/s"));
    }
    facts
}
