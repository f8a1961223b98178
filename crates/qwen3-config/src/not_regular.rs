use std::fs::{FileType, Metadata};

/// What is in the place of a regular file: `a folder, not a regular file`.
pub fn not_regular(found: &Metadata) -> String {
    format!("{}, not a regular file", sort(found.file_type()))
}

fn sort(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let special = [
            (found.is_fifo(), "a pipe"),
            (found.is_socket(), "a socket"),
            (found.is_char_device() || found.is_block_device(), "a device"),
        ];
        if let Some((_, name)) = special.into_iter().find(|(is, _)| *is) {
            return name;
        }
    }
    if found.is_dir() { "a folder" } else { "something else" }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_said() {
        let folder = std::env::temp_dir();
        let socket = folder.join(format!("qwen3-config-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (reads, _writes) = std::io::pipe().unwrap();
        let reads = std::fs::File::from(std::os::fd::OwnedFd::from(reads));
        for (metadata, expected) in [
            (std::fs::metadata(&folder), "a folder"),
            (std::fs::metadata("/dev/null"), "a device"),
            (std::fs::metadata(&socket), "a socket"),
            (reads.metadata(), "a pipe"),
        ] {
            assert_eq!(not_regular(&metadata.unwrap()), format!("{expected}, not a regular file"));
        }
        drop(listener);
        std::fs::remove_file(socket).unwrap();
    }
}
