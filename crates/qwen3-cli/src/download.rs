//! `qwen3 download`: a model from the hub, ahead of its use.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use qwen3_command::printable_text;
use qwen3_hub::{Hub, HubError, HubModel, Need};

use crate::failure::{bad_input, note};
use crate::generate::say;
use crate::hub::{reason, refused, shown};

const NOTES: &str = "\
What is fetched is what the other commands read: the config, the weights as safetensors, the tokenizer and the chat
template, into the cache that Hugging Face's own programs use (HF_HUB_CACHE, or hub in HF_HOME). Every file is compared
with the hub's size and hash. What a broken connection or a signal leaves of a file is kept in .qwen3-unfinished in the
cache, and the next `qwen3 download` goes on from there; a server that does not send parts of files is asked for the
whole again. HF_TOKEN is for models that need one, HF_ENDPOINT for another hub, HF_HUB_OFFLINE=1 for none.

Examples:
  qwen3 download Qwen/Qwen3-0.6B
  qwen3 chat --model \"$(qwen3 download Qwen/Qwen3-0.6B --revision refs/pr/1)\"";

/// Arguments of `qwen3 download`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The model's name on the hub: OWNER/MODEL
    #[arg(value_name = "NAME")]
    name: String,
    /// A branch, a tag, a commit, or a reference such as refs/pr/1
    #[arg(long, value_name = "REVISION", default_value = HubModel::MAIN)]
    revision: String,
}

/// Downloads what the cache lacks, and prints the folder.
pub fn run(args: &Args) -> Result<()> {
    let model = HubModel::parse(&args.name).ok_or_else(|| {
        bad_input(format!("{}: no name on the hub, which is OWNER/MODEL, as Qwen/Qwen3-0.6B", args.name))
    })?;
    let model = model.at(&args.revision).ok_or_else(|| {
        bad_input(format!("--revision {}: no name of a branch, tag, commit or reference", args.revision))
    })?;
    let hub = Hub::from_env();
    let need = Need::Weights;
    let folder = match hub.download(&model, need, || Ok(hub.unfinished_folder()), &mut shown()) {
        Ok(folder) => folder,
        // Whatever the hub has now, this is whole.
        Err(error @ (HubError::Offline | HubError::List { .. })) => match hub.cached(&model, need) {
            Some(folder) => {
                note(&format!("note: taken from the cache, the hub was not asked: {}", reason(error)));
                folder
            }
            None => return Err(refused(&hub, &model, error.into(), "")),
        },
        Err(error) => return Err(refused(&hub, &model, error.into(), "")),
    };
    let folder = format!("{}\n", folder.display());
    let mut out = stdout().lock();
    if out.is_terminal() { say(&mut out, &printable_text(&folder)) } else { say(&mut out, &folder) }
}
