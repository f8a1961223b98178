//! A hub on loopback, which may lie.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::common::tiny;

pub const NAME: &str = "owner/model";
pub const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with a file as it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// Half of it, as if that were all.
    Short,
    /// Half of it, and the connection is closed.
    Cut,
    /// Half of it, and nothing more.
    Stalled,
    /// A changed byte.
    Flipped,
    /// It is whole, but its size is told as larger.
    Size,
    /// It is not there.
    Absent,
    /// An etag that leads out of the cache.
    Etag,
}

/// A file and how it is served: by a redirect and with its SHA-256, or directly and with Git's hash.
#[derive(Clone)]
struct Served {
    bytes: Vec<u8>,
    large: bool,
    /// What is wrong, and how often.
    lie: Option<(Lie, usize)>,
    asked: usize,
    /// From which byte it was asked for last.
    first: usize,
}

/// A running hub with the small trained model's files.
pub struct Hub {
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    pub endpoint: String,
}

impl Hub {
    /// A hub that lies about `file` so many times.
    pub fn new(file: &str, lie: Option<(Lie, usize)>) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(tiny()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let large = ["model.safetensors", "tokenizer.json"].contains(&&name[..]);
            let lie = lie.filter(|_| name == file);
            files.insert(name, Served { bytes: fs::read(path).unwrap(), large, lie, asked: 0, first: 0 });
        }
        let files = Arc::new(Mutex::new(files));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (there, own) = (Arc::clone(&files), endpoint.clone());
        spawn(move || {
            for stream in listener.incoming() {
                let (files, endpoint) = (Arc::clone(&there), own.clone());
                // A client that goes away is no failure of the test.
                spawn(move || drop(answer(&mut stream.unwrap(), &files, &endpoint)));
            }
        });
        Self { files, endpoint }
    }

    /// How often a file's bytes were asked for.
    pub fn asked(&self, file: &str) -> usize {
        self.files.lock().unwrap()[file].asked
    }

    /// From which byte a file was asked for last.
    pub fn asked_from(&self, file: &str) -> usize {
        self.files.lock().unwrap()[file].first
    }
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(
    stream: &mut TcpStream,
    files: &Mutex<BTreeMap<String, Served>>,
    endpoint: &str,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or("").to_string();
    let headers: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let range = headers
        .iter()
        .find_map(|line| line.to_lowercase().replace(' ', "").strip_prefix("range:bytes=").map(String::from));
    let probe = range.as_deref() == Some("0-0");
    let first = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
    let mut say = |head: &str, length: usize, body: &[u8]| {
        write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(body)?;
        stream.flush()
    };
    if path.starts_with("/api/models/") {
        let names = files.lock().unwrap();
        let siblings: Vec<_> = names.keys().map(|name| json!({"rfilename": name})).collect();
        let body = json!({"sha": SHA, "siblings": siblings}).to_string();
        return say("200 OK\r\nContent-Type: application/json", body.len(), body.as_bytes());
    }
    let name = path.rsplit('/').next().unwrap_or("").to_string();
    let (file, lie) = {
        let mut files = files.lock().unwrap();
        let Some(file) = files.get_mut(&name) else {
            return say("404 Not Found", 0, b"");
        };
        let redirected = file.large && !path.starts_with("/lfs/");
        if !probe && !redirected {
            file.asked += 1;
            file.first = first;
        }
        let tries = file.asked;
        let lie = file.lie.filter(|(_, times)| probe || tries <= *times).map(|(lie, _)| lie);
        (file.clone(), lie)
    };
    let (size, bytes) = (file.bytes.len(), file.bytes);
    let told = if lie == Some(Lie::Size) { size + 1 } else { size };
    let etag = match (lie, file.large) {
        (Some(Lie::Etag), _) => "../../../../etag".into(),
        (_, true) => hex(Sha256::digest(&bytes)),
        (_, false) => {
            let blob = Sha1::new_with_prefix(format!("blob {size}\0")).chain_update(&bytes);
            hex(blob.finalize())
        }
    };
    if lie == Some(Lie::Absent) {
        return say("404 Not Found", 0, b"");
    }
    if file.large && !path.starts_with("/lfs/") {
        let head = format!(
            "302 Found\r\nX-Repo-Commit: {SHA}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {size}\r\n\
             Location: {endpoint}/lfs/{name}"
        );
        return say(&head, 0, b"");
    }
    let head = |range: &str| {
        let linked = if file.large { "\"of the store\"".into() } else { format!("\"{etag}\"") };
        format!(
            "206 Partial Content\r\nX-Repo-Commit: {SHA}\r\nETag: {linked}\r\nContent-Range: bytes {range}/{told}"
        )
    };
    if probe {
        return say(&head("0-0"), 1, &bytes[..1]);
    }
    // From where it is asked for, as the hub's store does.
    let (whole, half) = (head(&format!("{first}-{}", size - 1)), size / 2);
    let (bytes, size, half) = (&bytes[first..], size - first, half.max(first) - first);
    match lie {
        Some(Lie::Short) => say(&whole, half, &bytes[..half]),
        Some(Lie::Cut) => say(&whole, size, &bytes[..half]),
        Some(Lie::Stalled) => {
            say(&whole, size, &bytes[..half])?;
            sleep(Duration::from_secs(30));
            Ok(())
        }
        Some(Lie::Flipped) => {
            let mut changed = bytes.to_vec();
            changed[half] ^= 1;
            say(&whole, size, &changed)
        }
        _ => say(&whole, size, bytes),
    }
}
