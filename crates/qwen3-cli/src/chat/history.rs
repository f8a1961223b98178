//! Where lines are kept from one run to the next.

use std::env::{home_dir, var_os};
use std::fs::DirBuilder;
use std::io;
use std::path::PathBuf;

/// The file, in the state folder of the user (`XDG_STATE_HOME`, or `~/.local/state`), in a folder that is made for its
/// owner alone.
///
/// # Errors
/// When there is no such folder and none can be made.
pub fn file() -> io::Result<PathBuf> {
    // As the specification has it: a path that is not absolute is none.
    let named = var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named.or_else(|| Some(home_dir()?.join(".local/state")));
    let folder = state.ok_or_else(|| io::Error::other("there is no home folder"))?.join("qwen3-burn");
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder)?;
    Ok(folder.join("chat-history"))
}
