//! What may lie in a file's place.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::random::Random;

/// What may lie there, by its number: nothing, a folder, links to itself, to /dev/zero and to nothing, a named pipe, and
/// a file of 64 GB.
pub const ODD: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

/// Puts one of the `odd` things in the place of `file`.
///
/// # Errors
/// Those of the file system.
pub fn mutate(random: &mut Random, file: &Path, odd: &[usize]) -> io::Result<String> {
    let bytes = fs::read(file)?;
    fs::remove_file(file)?;
    Ok(match *random.pick(odd) {
        0 => "missing".into(),
        1 => {
            fs::create_dir(file)?;
            "a folder".into()
        }
        2 => {
            let name = file.file_name().unwrap_or_default();
            symlink(name, file)?;
            "a link to itself".into()
        }
        3 => {
            symlink("/dev/zero", file)?;
            "a link to /dev/zero".into()
        }
        4 => {
            symlink("nowhere", file)?;
            "a link to nothing".into()
        }
        5 => {
            mkfifo(file, Mode::S_IRWXU)?;
            "a named pipe".into()
        }
        _ => {
            // A hole: as long as a large model, without a byte on the disk.
            fs::write(file, bytes)?;
            fs::OpenOptions::new().write(true).open(file)?.set_len(1 << 36)?;
            "with a hole of 64 GB behind it".into()
        }
    })
}
