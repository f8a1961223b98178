//! What is verified, opened and checked.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qwen3_blame::{ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_command::{VerifyArgs, progress};
use qwen3_config::{Qwen3Config, Site, layer_key};
use qwen3_report::{Label, OBSERVED, RunResult, Status, VerifyReport, peak_rss_mb};
use qwen3_trace::{Limits, Mode, Names, Reference, Scope, TokenTexts, Trace, Verdicts};

/// An open checkpoint and reference, and what is to be looked at.
pub struct Given<'a> {
    /// What was asked for.
    pub args: &'a VerifyArgs,
    /// The checkpoint, with its adapter.
    pub checkpoint: Checkpoint,
    /// What should come out, or a prompt alone.
    pub reference: Reference,
    /// Its file.
    pub reference_file: PathBuf,
    /// How far values may be from it.
    pub limits: Limits,
    /// The layers to look at.
    pub scope: Scope,
    /// Read when there are tokens.
    texts: OnceCell<TokenTexts>,
}

impl<'a> Given<'a> {
    /// Opens and checks what the arguments name; `prompt` gives a file with a prompt alone where there is no reference.
    ///
    /// # Errors
    /// Bad input.
    pub fn open(args: &'a VerifyArgs, prompt: impl FnOnce(&Qwen3Config) -> Result<PathBuf>) -> Result<Self> {
        let VerifyArgs { model, adapter, reference, mode, layers, .. } = args;
        let checkpoint = Checkpoint::open(model)?;
        let checkpoint = match adapter {
            Some(folder) => checkpoint.with_adapter(folder)?,
            None => checkpoint,
        };
        let config = checkpoint.config();
        let count = config.num_hidden_layers;
        for (layer, there) in [(count - 1, true), (count, false)] {
            let norm = layer_key(layer, "input_layernorm.weight");
            ensure!(
                checkpoint.contains(&norm) == there,
                "{}: num_hidden_layers is {count}, but the checkpoint has {} `{norm}`",
                if model.is_file() { model.clone() } else { model.join("config.json") }.display(),
                if there { "no" } else { "a" },
            );
        }
        let scope = match layers {
            Some(text) => Scope::parse(text, count).with_context(|| {
                format!("--layers {text}: not a range of layers within 0..{count}, as in 3..7")
            })?,
            None => Scope::whole(count),
        };
        if scope.has_end() {
            checkpoint.check_head()?;
        }
        ensure!(
            scope.has_end() || mode[..] != [Mode::Patched],
            "--mode patched compares logits, and --layers ends at {} of {count}",
            scope.layers.end
        );
        let reference_file = match reference {
            Some(file) => file.clone(),
            None => prompt(config)?,
        };
        let reference = Reference::open(&reference_file, config, reference.is_some())?;
        let first = Site::output(scope.layers.start, count);
        ensure!(
            scope.layers.start == 0 || reference.has(first),
            "--layers begins at {}, but the reference has no `{first}`",
            scope.layers.start
        );
        let limits = Limits::new(&reference, args.dtype, count)?;
        Ok(Self { args, checkpoint, reference, reference_file, limits, scope, texts: OnceCell::new() })
    }

    /// A report of what is given, without runs.
    pub fn report(&self) -> VerifyReport {
        let args = self.args;
        let name = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let limits = match (args.tolerance(), args.preset, &args.reference) {
            (Some(tolerance), _, _) => tolerance.to_string(),
            (None, Some(preset), _) => format!("preset {}", preset.name()),
            (None, None, Some(_)) => self.limits.source(),
            (None, None, None) => {
                "none: there is no reference, the backends are compared with each other".into()
            }
        };
        VerifyReport {
            model_path: args.model.display().to_string(),
            adapter: name(&args.adapter),
            reference: name(&args.reference),
            observed: name(&args.observed),
            test_input: self.reference.test_input.clone(),
            preset: args.preset,
            tolerance: args.tolerance(),
            limits,
            ..VerifyReport::new(self.checkpoint.config(), args.dtype)
        }
    }

    /// Checks somebody else's activations.
    ///
    /// # Errors
    /// When they cannot be compared.
    pub fn check_observed(&self, file: &Path) -> Result<RunResult> {
        let (start, args) = (Instant::now(), self.args);
        let label = Label::new(OBSERVED, args.dtype);
        let say = label.to_string();
        let names = args.names.as_deref().map(Names::read).transpose()?;
        let options = ExamineOptions {
            dtype: args.dtype,
            scope: Some(self.scope.clone()),
            preset: args.preset,
            tolerance: args.tolerance(),
            names: names.as_ref(),
            strict: args.strict,
            diagnose_for: args.diagnose_for(),
            progress: &mut |what| progress::say(&say, what),
        };
        let found = examine(&self.checkpoint, &self.reference, &Trace::open(file)?, options)?;
        Ok(RunResult {
            status: Status::of(found.verdicts.pass()),
            verdicts: self.with_texts(found.verdicts),
            diagnosis: found.diagnosis,
            taken: found.taken,
            left: found.left,
            unread: found.unread,
            meant: found.meant,
            elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
            peak_rss_mb: peak_rss_mb(),
            ..RunResult::new(label)
        })
    }

    /// The same verdicts, with what the ids of tokens stand for where the model's `tokenizer.json` tells.
    pub fn with_texts(&self, mut verdicts: Verdicts) -> Verdicts {
        let read = || match self.checkpoint.texts().unwrap_or_default().get("tokenizer.json") {
            Some(inside) => TokenTexts::parse(inside.as_bytes()),
            None => TokenTexts::read(&self.args.model),
        };
        let texts = || self.texts.get_or_init(read);
        let text = |id: i64| texts().get(id).map(Into::into);
        for token in &mut verdicts.tokens {
            (token.expected_text, token.observed_text) = (text(token.expected.into()), text(token.observed));
        }
        verdicts
    }
}
