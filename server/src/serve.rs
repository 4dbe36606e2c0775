//! Listeners: transport (tcp, unix) apart from protocol, which is `connection`'s.

mod connection;
mod http2;
mod keepalive;
mod socket;

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::api::Api;
use crate::api::slow::Remote;
use crate::config::Url;

pub(crate) use connection::Early;
pub(crate) use socket::Socket;

/// How long to rest after the system refused to accept a connection (out of file descriptors, mostly).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long a client says nothing until the system asks it, how often it asks again, and how many times: as etcd's ports.
const SILENT: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(15);
const ASKS_MAX: u32 = 9;

/// So many connections wait to be accepted.
const BACKLOG: u32 = 1024;

/// An open port of this member.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket; its file goes with it.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Moves the port to the event loop that this is called on.
    ///
    /// # Errors
    /// What the system says.
    pub fn rehome(self) -> io::Result<Listener> {
        Ok(match self {
            Listener::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener.into_std()?)?),
            Listener::Unix(listener, path) => {
                Listener::Unix(UnixListener::from_std(listener.into_std()?)?, path)
            }
        })
    }
}

/// How long clients have to say that they speak HTTP/2, with gRPC-Go's servers.
pub const HANDSHAKE: Duration = Duration::from_secs(120);

/// How connections of a listener behave.
#[derive(Debug, Clone)]
pub struct Connections {
    /// HTTP/2 streams a connection may have open.
    pub streams_max: u32,
    /// The shortest time between two pings of a client.
    pub ping_min: Duration,
    /// Pings to idle clients, and how long to wait for their answer; zero: none.
    pub keepalive: (Duration, Duration),
    /// A client that has begun to say that it speaks HTTP/2 has so long to say it whole, its settings included.
    pub handshake: Duration,
}

/// What a port answers.
#[derive(Clone)]
pub struct Protocols {
    /// gRPC, if the port has it.
    pub grpc: Option<Arc<Api>>,
    /// Plain HTTP, if the port has it.
    pub http: Option<Router>,
    /// Whether it is HTTP/1 alone: connections that speak HTTP/2 are closed.
    pub http1_only: bool,
}

/// Opens the port that `url` names; with `shared`, others who want so may have it too (`SO_REUSEPORT`).
///
/// # Errors
/// One line that names the address and the system's reason.
pub async fn listen(url: &Url, shared: bool) -> Result<Listener, String> {
    let address = url.address();
    if url.scheme().is_unix() {
        let path = PathBuf::from(&address);
        // A socket file outlives a killed process; binding over it is what its owner would do by hand.
        if std::fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            let _gone = std::fs::remove_file(&path);
        }
        let listener =
            UnixListener::bind(&path).map_err(|error| format!("listen unix {address}: bind: {error}"))?;
        return Ok(Listener::Unix(listener, path));
    }
    let bound = if shared { bind_shared(&address).await } else { TcpListener::bind(&address).await };
    let listener = bound.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            _ => error.to_string(),
        };
        format!("listen tcp {address}: bind: {why}")
    })?;
    mind_the_silent(&listener).map_err(|error| format!("listen tcp {address}: {error}"))?;
    Ok(Listener::Tcp(listener))
}

/// The system asks clients that say nothing whether they are still there, and breaks their connections otherwise: those inherit it from
/// their port.
fn mind_the_silent(listener: &TcpListener) -> io::Result<()> {
    let pace = TcpKeepalive::new().with_time(SILENT).with_interval(ASK_AGAIN).with_retries(ASKS_MAX);
    SockRef::from(listener).set_tcp_keepalive(&pace)
}

/// The first of the address's that can be had.
async fn bind_shared(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in tokio::net::lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Serves `listener` until `stop` becomes true; then connections end once their requests have.
pub async fn serve(
    listener: Listener,
    protocols: Protocols,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => break,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (protocols, connections) = (protocols.clone(), connections.clone());
                tokio::spawn(connection::serve(stream, remote, protocols, connections, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        let _gone = std::fs::remove_file(path);
    }
}

/// An accepted connection, whatever carries it.
pub(crate) type Stream = Box<dyn Transport>;

/// A stream of bytes in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket, taken from the event loop.
    fn into_socket(self: Box<Self>) -> io::Result<Socket>;
}

impl Transport for TcpStream {
    fn into_socket(self: Box<Self>) -> io::Result<Socket> {
        self.into_std().map(Socket::Tcp)
    }
}

impl Transport for UnixStream {
    fn into_socket(self: Box<Self>) -> io::Result<Socket> {
        self.into_std().map(Socket::Unix)
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    fn into_socket(self: Box<Self>) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn accept(listener: &Listener) -> io::Result<(Stream, Remote)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, remote) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Remote(Some(remote))))
        }
        Listener::Unix(listener, _) => Ok((Box::new(listener.accept().await?.0), Remote(None))),
    }
}
