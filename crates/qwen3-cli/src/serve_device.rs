//! `qwen3 serve-device`: this machine's device for other processes and machines.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Error, Result, anyhow};
use burn::tensor::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};

use crate::device::DeviceArgs;
use crate::failure::{bad_input, note};
use crate::remote::TOKEN;

const NOTES: &str = "\
Clients name it `remote:HOST:PORT` in a --device-map. It computes what they ask for, in any dtype of its backend, and
hands what lies on it to other servers that they name. Nothing is encrypted: serve on a trusted network only. With
QWEN3_DEVICE_TOKEN set, only clients with the same value are served. Client and servers must be built from one release.";

/// Arguments of `qwen3 serve-device`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// Where to listen; port 0 is any that is free, which the first line on standard error names
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Serves until a signal ends it.
pub fn run(args: &Args) -> Result<()> {
    let (device, _) = args.device.device()?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("--listen {}", args.listen))?;
    let address = listener.local_addr()?;
    let mut server = RemoteServer::new([device]);
    if let Ok(token) = std::env::var(TOKEN) {
        let authorizer = TokenAuthorizer::new(token).map_err(|_| bad_input(format!("{TOKEN} is empty")))?;
        server = server.with_authorizer(authorizer);
    } else if !address.ip().is_loopback() {
        note(&format!("note: whoever reaches {address} can compute here; {TOKEN} is not set"));
    }
    note(&format!("serving {} on {address}", args.device.backend()?));
    let served = server.serve(WebSocketTransport::from_listener(listener));
    served.map_err(|error| Error::msg(error.to_string())).map_err(|error| anyhow!("cannot serve: {error}"))
}
