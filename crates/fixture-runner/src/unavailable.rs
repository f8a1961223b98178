//! What the program that starts this one knows of the machine.

use qwen3_trace::Backend;

/// Backends that are known not to work.
#[derive(clap::Args)]
pub struct Unavailable {
    /// Report a backend as unavailable without trying it: NAME=REASON.
    #[arg(long = "unavailable", hide = true, value_name = "NAME=REASON", value_parser = name_and_reason)]
    pub known: Vec<(Backend, String)>,
}

fn name_and_reason(text: &str) -> Result<(Backend, String), String> {
    let (name, reason) = text.split_once('=').ok_or("expected NAME=REASON")?;
    Ok((Backend::parse(name).ok_or("no backend has that name")?, reason.into()))
}

impl Unavailable {
    /// Why `backend` does not work, if that is known.
    pub fn reason(&self, backend: Backend) -> Option<&str> {
        let known = self.known.iter().find(|(name, _)| *name == backend);
        known.map(|(_, reason)| &reason[..])
    }
}
