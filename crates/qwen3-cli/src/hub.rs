//! Models by their name on the Hugging Face hub, with what is said while they are downloaded.

use std::path::PathBuf;

use anyhow::{Error, Result};
use indicatif::ProgressBar;
use qwen3_command::{Temporary, line, printable, printable_lines};
use qwen3_hub::{Event, Hub, HubError, HubModel, Need};

use crate::failure::{bad_input, note};
use crate::progress;

/// The folder of a model in the hub's cache, what is missing of it downloaded first. A signal leaves nothing
/// unfinished.
///
/// # Errors
/// When it is not in the cache and cannot be downloaded; what is printed says which files to place where.
pub fn folder(model: &HubModel, need: Need) -> Result<PathBuf> {
    let hub = Hub::from_env();
    hub.cached(model, need).map_or_else(|| download(&hub, model, need), Ok)
}

fn download(hub: &Hub, model: &HubModel, need: Need) -> Result<PathBuf> {
    let cache = hub.cache_folder();
    // Only what is whole comes out of this folder into the cache.
    let mut apart = None;
    let make = || {
        std::fs::create_dir_all(cache)?;
        let made = apart.insert(Temporary::inside(cache, ".qwen3-download-")?);
        Ok(made.path().to_path_buf())
    };
    let place = "is neither a folder nor a file, it is not in the cache, and it ";
    let come = hub.download(model, need, make, &mut shown());
    come.map_err(|error| refused(hub, model, error.into(), place))
}

/// An error in one line.
pub fn reason(error: HubError) -> String {
    line(&error.into())
}

/// What to do without a download is printed; the error is of the input's, and says `place` of where the model is.
pub fn refused(hub: &Hub, model: &HubModel, error: Error, place: &str) -> Error {
    if let Some(HubError::Damaged { .. }) = error.downcast_ref() {
        return bad_input(format!("{model}: {}", line(&error)));
    }
    note(&printable_lines(&hub.by_hand(model)));
    bad_input(format!("{model} {place}cannot be downloaded: {}", line(&error)))
}

/// Shows what happens: a bar for each file.
pub fn shown() -> impl FnMut(Event<'_>) {
    let mut bar: Option<ProgressBar> = None;
    move |event| match event {
        Event::Waiting => note("note: another process downloads this model; it is waited for"),
        Event::Read { file, done, total } => {
            let bar = bar.get_or_insert_with(|| begun(file, done, total));
            bar.set_position(done);
        }
        Event::Ended { .. } => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
        Event::Unhashed { .. } => note("note: the hub names no hash of a file; its size alone is compared"),
    }
}

/// The bar of a file of which an earlier download has left `done` bytes.
fn begun(file: &str, done: u64, total: u64) -> ProgressBar {
    let file = printable(file);
    if done > 0 {
        note(&format!("note: {file}: {done} of {total} bytes are there already"));
    }
    progress::bytes(&file, total).with_position(done)
}
