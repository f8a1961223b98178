//! Servers, and what passes between them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// A process that serves flex; ended with this.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Server {
    pub fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
        command.args(["serve-device", "--listen", "127.0.0.1:0", "--backend", "flex"]);
        command.env("RUST_LOG", "off").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving flex on ").unwrap_or_else(|| panic!("{line}"));
        let address = address.to_string();
        // Read on, or the server would wait for a reader.
        spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, address }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes by what the connection is for: `/session` from clients, `/data` from other servers, `/` to see whether
/// the server is there; to the server and from it.
type Bytes = BTreeMap<String, [u64; 2]>;

/// Passes what comes on to a server, and counts it.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    bytes: Arc<Mutex<Bytes>>,
}

impl Proxy {
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bytes = Arc::<Mutex<Bytes>>::default();
        let (counted, target) = (Arc::clone(&bytes), server.address.clone());
        spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                pass_on(client, server, &counted);
            }
        });
        Self { address, bytes }
    }

    /// Bytes to the server and from it of connections for `path`, so far.
    pub fn bytes(&self, path: &str) -> [u64; 2] {
        // What was read may not have been counted yet.
        sleep(Duration::from_millis(50));
        self.bytes.lock().unwrap().get(path).copied().unwrap_or_default()
    }
}

/// Copies both ways, in threads of their own, until either side ends.
fn pass_on(client: TcpStream, server: TcpStream, bytes: &Arc<Mutex<Bytes>>) {
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
    }
    let path = Arc::new(Mutex::new(String::new()));
    let ends = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
    for (direction, (mut from, mut to)) in ends.into_iter().enumerate() {
        let (bytes, path) = (Arc::clone(bytes), Arc::clone(&path));
        spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut path = path.lock().unwrap();
                if path.is_empty() {
                    // The client speaks first: `GET /session HTTP/1.1`.
                    let line = String::from_utf8_lossy(&buffer[..count]);
                    *path = line.split_whitespace().nth(1).unwrap_or("?").to_string();
                }
                bytes.lock().unwrap().entry(path.clone()).or_default()[direction] += count as u64;
                drop(path);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            for end in [from, to] {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }
}
