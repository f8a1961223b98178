//! Devices that another process serves (`qwen3 serve-device`), through Burn's remote backend.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;
use burn::tensor::remote::{ConnectError, RemoteHost};
use qwen3_model::{Precision, burn_dtype};

use crate::failure::bad_input;
use crate::lost;

/// The variable with what a server asks of its clients.
pub const TOKEN: &str = "QWEN3_DEVICE_TOKEN";
/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a server is asked whether it is there.
const BEAT: Duration = Duration::from_secs(1);
/// How long it may take to answer. One that computes answers, too.
const ANSWER: Duration = Duration::from_secs(7);

/// The device at `HOST:PORT` or `HOST:PORT/N`, which is watched from now on; `name` is what the user calls it.
///
/// # Errors
/// When nothing listens there, it is no such server, or has no such device or dtype.
pub fn open(address: &str, name: &str, dtype: Precision) -> Result<Device> {
    let (host, index) = match address.split_once('/') {
        Some((host, index)) => (host, index.parse::<usize>().ok()),
        None => (address, Some(0)),
    };
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let (Some(index), Some(_)) = (index, port) else {
        return Err(bad_input("not of the form `remote:HOST:PORT` or `remote:HOST:PORT/N`"));
    };
    // Burn itself tries for 16 seconds.
    watch(connect(host)?, name.into())?;
    let mut server = RemoteHost::websocket(&format!("ws://{host}"));
    if let Ok(token) = std::env::var(TOKEN) {
        server = server.with_credential(token);
    }
    let options = Device::remote_options(&server).device_index(index);
    let device = options.init().map_err(|error| match error {
        ConnectError::NoSuchDevice { .. } => bad_input(error.to_string()),
        error => anyhow!("{error}"),
    })?;
    if device.supports_dtype(burn_dtype(dtype)) {
        Ok(device)
    } else {
        Err(bad_input(format!("it does not compute in {dtype}")))
    }
}

fn connect(host: &str) -> Result<TcpStream> {
    let mut last = anyhow!("no address");
    for address in host.to_socket_addrs().context("its address is not known")? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last.context("no server answers"))
}

/// Watches the server on the other end of `stream` to the end of this program.
fn watch(stream: TcpStream, name: String) -> Result<()> {
    lost::watch();
    let beats = move || {
        let reason = lost_by(stream);
        lost::lose(format!("device `{name}` is lost: {reason}"))
    };
    std::thread::Builder::new().name("watch".into()).spawn(beats)?;
    Ok(())
}

/// Asks the server for nothing, again and again on one connection, until it no longer answers; says how that was seen.
/// The answer, of whatever kind, shows that this very process still serves.
fn lost_by(mut stream: TcpStream) -> String {
    let beat = |stream: &mut TcpStream| -> std::io::Result<()> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: device\r\n\r\n")?;
        stream.set_read_timeout(Some(ANSWER))?;
        read(stream)?;
        stream.set_read_timeout(Some(BEAT))?;
        loop {
            match read(stream) {
                Err(error) if is_timeout(&error) => return Ok(()),
                read => read?,
            }
        }
    };
    loop {
        match beat(&mut stream) {
            Ok(()) => {}
            Err(error) if is_timeout(&error) => return format!("no answer for {} seconds", ANSWER.as_secs()),
            Err(error) => return error.to_string(),
        }
    }
}

fn read(stream: &mut TcpStream) -> std::io::Result<()> {
    match stream.read(&mut [0; 1024])? {
        0 => Err(std::io::Error::new(ErrorKind::ConnectionAborted, "the server closed the connection")),
        _ => Ok(()),
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_goes_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect(&listener.local_addr().unwrap().to_string()).unwrap();
        let serve = std::thread::spawn(move || {
            let (mut served, _) = listener.accept().unwrap();
            for _ in 0..2 {
                assert!(served.read(&mut [0; 1024]).unwrap() > 0);
                served.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let reason = lost_by(stream);
        serve.join().unwrap();
        assert!(reason.contains("closed the connection") || reason.contains("reset"), "{reason}");
    }

    #[test]
    fn an_address_has_a_port() {
        for address in ["10.0.0.1", "10.0.0.1:http", "10.0.0.1:3000/first"] {
            let error = open(address, address, Precision::F32).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{address}: {error}");
        }
    }
}
