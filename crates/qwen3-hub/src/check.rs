//! Is a file what the hub describes?

use std::fs::File;
use std::io;
use std::path::Path;

use hf_hub::api::sync::Metadata;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::HubError;

/// What comparing a file with the hub's description gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// Size and hash are the hub's.
    Same,
    /// The size is the hub's, which names no hash.
    SameSize,
    /// What was found and what was expected.
    Differs(String),
}

/// Compares a file with the hub's description. An etag is the SHA-256 of large files, and Git's hash of others.
///
/// # Errors
/// When the file cannot be read.
pub fn compare(path: &Path, metadata: &Metadata) -> Result<Compared, HubError> {
    let failed = || HubError::cache(path, "read");
    let mut file = File::open(path).map_err(failed())?;
    let size = file.metadata().map_err(failed())?.len();
    if size != metadata.size() as u64 {
        return Ok(Compared::Differs(format!("{size} bytes, the hub says {}", metadata.size())));
    }
    let etag = metadata.etag();
    let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (sort, found) = match etag.len() {
        64 if hexadecimal => ("SHA-256", hash(Sha256::new(), &mut file).map_err(failed())?),
        40 if hexadecimal => {
            let blob = Sha1::new_with_prefix(format!("blob {size}\0"));
            ("Git's hash", hash(blob, &mut file).map_err(failed())?)
        }
        _ => return Ok(Compared::SameSize),
    };
    let same = found.eq_ignore_ascii_case(etag);
    let differs = || Compared::Differs(format!("its {sort} is {found}, the hub says {etag}"));
    Ok(if same { Compared::Same } else { differs() })
}

fn hash<D: Digest + io::Write>(mut digest: D, file: &mut File) -> io::Result<String> {
    io::copy(file, &mut digest)?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
