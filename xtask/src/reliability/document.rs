//! docs/RELIABILITY.md: tables of what was tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use qwen3_command::printable;
use qwen3_fuzz::report::Report;
use qwen3_trace::Precision;

use super::survey::{Honest, Sized, Survey};

/// The page.
pub struct Document<'a> {
    pub command: String,
    pub seed: u32,
    pub survey: &'a Survey,
    pub fuzz: &'a Report,
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, survey, .. } = self;
        writeln!(f, "# Reliability\n")?;
        writeln!(f, "Written by `{command}`; not by hand.\n")?;
        writeln!(f, "## Honest runs\n")?;
        writeln!(
            f,
            "{} checkpoints of `tools/oracle.py wild`: sharp attention, outlier channels, massive first tokens, up to \
             24 layers, and tame ones. Judged are Transformers' own runs, by references with its noise floors in them \
             and by the same without, and runs of our backends in all three modes. A run is accused when one tensor or \
             token does not pass, and none should be. The last column is the worst error over its limit of a whole \
             run: 1 would be accused. One of them again: `tools/oracle.py wild --output-dir DIR --count {} --seed {}`, \
             then `cargo xtask verify --model DIR/000-head-norms-2 --reference \
             DIR/000-head-norms-2/reference.npz --dtype bf16`, with `--backend all` or `--observed \
             DIR/000-head-norms-2/honest-bf16-eager.npz`.\n",
            survey.checkpoints, survey.checkpoints, self.seed
        )?;
        let engine = |run: &Honest| {
            let without = if run.stored { "" } else { ", no floors stored" };
            format!("{}{without} | {}", run.engine, run.dtype)
        };
        self.honest(f, "whose run | dtype", "---|---", engine)?;
        writeln!(f)?;
        self.honest(f, "checkpoints", "---", |run| run.kind.clone())?;
        self.total(f)?;
        self.sized(f)?;
        self.hostile(f)
    }
}

/// Honest runs of one row.
#[derive(Default)]
struct Row {
    runs: usize,
    accused: usize,
    causes: usize,
    worst: f64,
}

impl Row {
    fn add(&mut self, run: &Honest) {
        self.runs += 1;
        self.accused += usize::from(run.accused.is_some());
        self.causes += usize::from(!run.causes.is_empty());
        self.worst = self.worst.max(run.ratio);
    }
}

impl Document<'_> {
    fn honest(
        &self,
        f: &mut fmt::Formatter<'_>,
        head: &str,
        line: &str,
        key: impl Fn(&Honest) -> String,
    ) -> fmt::Result {
        let mut rows = BTreeMap::<String, Row>::new();
        for run in &self.survey.honest {
            rows.entry(key(run)).or_default().add(run);
        }
        writeln!(f, "| {head} | runs | accused | with a cause | worst |\n|{line}|---|---|---|---|")?;
        for (key, row) in rows {
            writeln!(f, "| {key} | {} | {} | {} | {:.2} |", row.runs, row.accused, row.causes, row.worst)?;
        }
        Ok(())
    }

    fn total(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Row::default();
        self.survey.honest.iter().for_each(|run| all.add(run));
        writeln!(f, "\n{} honest runs: {} accused, {} with a cause.\n", all.runs, all.accused, all.causes)?;
        for run in &self.survey.honest {
            if let Some(what) = &run.accused {
                // A reason is the last lines of what a program printed.
                let what = printable(what.lines().next().unwrap_or_default());
                writeln!(f, "- accused: {}, {}: {what}", run.engine, run.dtype)?;
            }
        }
        if all.accused > 0 { writeln!(f) } else { Ok(()) }
    }

    fn sized(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = &self.survey.sized;
        writeln!(f, "## How small a mistake is seen\n")?;
        writeln!(
            f,
            "Transformers' runs with a mistake of a size in the middle layer, of which only the layers' outputs, the \
             final norm and the logits are given. A cell says how many of how many were missed, and in brackets how \
             many of those seen begin in another layer. A mistake below one unit in the last place of its dtype is not \
             there at all. `down_proj-row` and `norm-channel`: one row, or one weight, too large by this share; \
             `q_proj-weights`: every weight off by about it, each in its own way; `attention-scale`: scores too large \
             by it; `one-value`: one value of one token off by this share of the token's rms. One of them again: \
             `tools/oracle.py wild` with `--sized-on`, then `cargo xtask verify` with `--observed \
             DIR/000-head-norms-2/sized-f32-one-value-1e-03.npz`.\n"
        )?;
        // From small to large, as the exponents say.
        let mut sizes: Vec<&str> = runs.iter().map(|run| run.size.as_str()).collect();
        sizes.sort_by(|a, b| number(a).total_cmp(&number(b)));
        sizes.dedup();
        let mistakes: BTreeSet<&str> = runs.iter().map(|run| run.mistake.as_str()).collect();
        writeln!(f, "| mistake | dtype | {} |", sizes.join(" | "))?;
        writeln!(f, "|---|---{}|", "|---".repeat(sizes.len()))?;
        for mistake in mistakes {
            for dtype in Precision::ALL {
                let cell = |size: &&str| {
                    let of = |run: &&Sized| run.mistake == mistake && run.dtype == dtype && run.size == *size;
                    cell(&runs.iter().filter(of).collect::<Vec<_>>())
                };
                let cells: Vec<String> = sizes.iter().map(cell).collect();
                writeln!(f, "| {mistake} | {dtype} | {} |", cells.join(" | "))?;
            }
        }
        writeln!(f)
    }

    fn hostile(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fuzz = self.fuzz;
        writeln!(f, "## Hostile inputs\n")?;
        writeln!(
            f,
            "`cargo xtask fuzz --seed {}`, {:.0} minutes: good files changed one at a time, given to the programs, each in \
             a process of its own. A finding is a panic, a signal, more than {} s or {} MB, a refusal without one \
             line that names the file, or something left behind. `corpus` is `fixtures/hostile`.\n",
            fuzz.seed,
            fuzz.seconds / 60.0,
            fuzz.limit_seconds,
            fuzz.limit_mb
        )?;
        writeln!(f, "| class | tried | read | told apart | refused | findings | slowest, s | largest, MB |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for (class, tally) in &fuzz.classes {
            writeln!(
                f,
                "| {class} | {} | {} | {} | {} | {} | {:.1} | {} |",
                tally.tried,
                tally.accepted,
                tally.judged,
                tally.refused,
                tally.findings,
                tally.slowest_seconds,
                tally.largest_mb
            )?;
        }
        let sum = |of: fn(&qwen3_fuzz::report::Tally) -> u64| fuzz.classes.values().map(of).sum::<u64>();
        writeln!(f, "\n{} inputs, {} findings.", sum(|class| class.tried), sum(|class| class.findings))
    }
}

fn number(size: &str) -> f64 {
    size.parse().unwrap_or(f64::NAN)
}

/// `3 of 16 missed (1)`, `-` where there are no runs.
fn cell(runs: &[&Sized]) -> String {
    let seen = runs.iter().filter(|run| run.seen).count();
    let elsewhere = runs.iter().filter(|run| run.seen && !run.placed).count();
    match (runs.len(), elsewhere) {
        (0, _) => "-".into(),
        (all, 0) => format!("{} of {all}", all - seen),
        (all, elsewhere) => format!("{} of {all} ({elsewhere})", all - seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_say_what_was_tried() {
        let honest = |engine: &str, accused: Option<&str>, ratio| Honest {
            kind: "sink".into(),
            engine: engine.into(),
            dtype: Precision::F32,
            stored: true,
            accused: accused.map(String::from),
            causes: Vec::new(),
            ratio,
        };
        let sized = |size: &str, seen, placed| Sized {
            mistake: "down_proj-row".into(),
            size: size.into(),
            dtype: Precision::F32,
            seen,
            placed,
        };
        let survey = Survey {
            honest: vec![
                honest("flex", None, 0.5),
                honest("flex", Some("001-sink: isolated logits 1.50 of its limit"), 1.5),
                honest("tch", None, 0.1),
            ],
            sized: vec![
                sized("1e-01", true, false),
                sized("1e-02", true, true),
                sized("1e-02", false, false),
            ],
            checkpoints: 1,
        };
        let fuzz = Report::default();
        let page = Document { command: "c".into(), seed: 1, survey: &survey, fuzz: &fuzz }.to_string();
        for line in [
            "| flex | f32 | 2 | 1 | 0 | 1.50 |",
            "| sink | 3 | 1 | 0 | 1.50 |",
            "3 honest runs: 1 accused, 0 with a cause.",
            "- accused: flex, f32: 001-sink: isolated logits 1.50 of its limit",
            "| mistake | dtype | 1e-02 | 1e-01 |",
            "| down_proj-row | f32 | 1 of 2 | 0 of 1 (1) |",
            "| down_proj-row | bf16 | - | - |",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
