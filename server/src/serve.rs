//! Listeners: transport (tcp, unix) apart from protocol. On a client port HTTP/2 with a gRPC content type is
//! gRPC, everything else is plain HTTP, as on etcd's.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::api::{Api, router};
use crate::config::Url;
use crate::grpc::keepalive::PingGuard;
use crate::metrics::CountRpcsLayer;

/// Flow-control windows of an HTTP/2 connection, in bytes: large enough that a list of many keys is not
/// held up by round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What the metadata of one request may come to: tokens of many groups, baggage of tracing.
const HEADER_LIST_BYTES: u32 = 1 << 20;
/// How long to rest after the system refused to accept a connection (out of file descriptors, mostly).
const ACCEPT_REST: Duration = Duration::from_millis(50);

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

/// How connections of a listener behave.
#[derive(Debug, Clone)]
pub struct Connections {
    /// HTTP/2 streams a connection may have open.
    pub streams_max: u32,
    /// The shortest time between two pings of a client.
    pub ping_min: Duration,
    /// Pings to idle clients, and how long to wait for their answer; zero: none.
    pub keepalive: (Duration, Duration),
}

/// What a port answers.
#[derive(Clone)]
pub struct Protocols {
    /// gRPC, if the port has it.
    pub grpc: Option<Arc<Api>>,
    /// Plain HTTP.
    pub http: Router,
}

/// Opens the port that `url` names.
///
/// # Errors
/// One line that names the address and the system's reason.
pub async fn listen(url: &Url) -> Result<Listener, String> {
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
    let listener = TcpListener::bind(&address).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            _ => error.to_string(),
        };
        format!("listen tcp {address}: bind: {why}")
    })?;
    Ok(Listener::Tcp(listener))
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
            Ok(stream) => {
                tokio::spawn(connection(stream, protocols.clone(), connections.clone(), stop.clone()));
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

type Stream = Box<dyn Transport>;

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Listener::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
    }
}

async fn connection(
    stream: Stream,
    protocols: Protocols,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let (interval, timeout) = connections.keepalive;
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(connections.streams_max)
        .max_header_list_size(HEADER_LIST_BYTES)
        .keep_alive_interval(Some(interval).filter(|interval| !interval.is_zero()));
    if !timeout.is_zero() {
        builder.http2().keep_alive_timeout(timeout);
    }
    builder.http1().timer(TokioTimer::new());
    let grpc = protocols.grpc.map(|api| {
        let counted = CountRpcsLayer::new(Arc::clone(&api.metrics));
        counted.layer(service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { Ok::<_, Infallible>(router::serve(api, request).await) }
        }))
    });
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = match &grpc {
            Some(grpc) if is_grpc(&request) => Either::Left(grpc.clone().call(request)),
            _ => Either::Right(protocols.http.clone().oneshot(request.map(axum::body::Body::new))),
        };
        async move {
            match answer {
                Either::Left(answer) => answer.await.map(|answer| answer.map(Body::new)),
                Either::Right(answer) => answer.await.map(|answer| answer.map(Body::new)),
            }
        }
    });
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(PingGuard::new(stream, connections.ping_min)), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the client's business.
        _ended = connection.as_mut() => return,
        _ = stop.wait_for(|&stop| stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

/// An answer of one protocol or the other.
enum Either<L, R> {
    Left(L),
    Right(R),
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request.version() == http::Version::HTTP_2
        && request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc_type)
}

fn is_grpc_type(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"application/grpc")
}
