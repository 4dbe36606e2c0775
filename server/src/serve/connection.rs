//! One connection, from its first bytes on: HTTP/2 or HTTP/1. On a client port HTTP/2 with a gRPC content type is gRPC, everything
//! else is plain HTTP, as on etcd's.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tower::ServiceExt;

use super::http2::Http2;
use super::wire::Wire;
use super::{Connections, Protocols, Stream};
use crate::grpc::keepalive::{PREFACE, PingGuard};

/// What an HTTP library reads from and writes to.
pub(super) type Io = Wire<PingGuard<Stream>>;

/// Serves one connection to its end. Once `stop` becomes true it ends as soon as its requests have.
pub(super) async fn serve(
    stream: Stream,
    protocols: Protocols,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    let mut stream = PingGuard::new(stream, connections.ping_min);
    let sniffed = tokio::select! {
        sniffed = sniff(&mut stream) => sniffed,
        _ = stop.wait_for(|&stop| stop) => return,
    };
    match sniffed {
        // In a task of its own, which has room for nothing else: there may be many that are idle.
        Ok((true, early)) => {
            tokio::spawn(Http2::new(Wire::new(stream, early, true), protocols, &connections, stop));
        }
        Ok((false, early)) => http1(Wire::new(stream, early, false), protocols, stop).await,
        Err(_gone) => {}
    }
}

/// Reads until it is clear whether this is HTTP/2; gives what was read.
async fn sniff(stream: &mut PingGuard<Stream>) -> io::Result<(bool, Bytes)> {
    let mut early = [0; PREFACE.len()];
    let mut have = 0;
    loop {
        let more = stream.read(&mut early[have..]).await?;
        have += more;
        let is_http2 = more > 0 && early[..have] == PREFACE[..have];
        if !is_http2 || have == PREFACE.len() {
            return Ok((is_http2, Bytes::copy_from_slice(&early[..have])));
        }
    }
}

async fn http1(io: Io, protocols: Protocols, stop: watch::Receiver<bool>) {
    let http = protocols.http;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        http.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = http1::Builder::new();
    let connection = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service);
    let mut connection = Box::pin(connection.with_upgrades());
    let mut stopping = Stopping::new(stop);
    poll_fn(|context| {
        if stopping.poll(context).is_ready() {
            connection.as_mut().graceful_shutdown();
        }
        // How a connection ends is the client's business.
        connection.as_mut().poll(context).map(drop)
    })
    .await;
}

/// Says once that the server stops. The server knows by these which connections are still there.
pub(super) struct Stopping {
    stop: Pin<Box<dyn Future<Output = watch::Receiver<bool>> + Send>>,
    stopped: Option<watch::Receiver<bool>>,
}

impl Stopping {
    pub(super) fn new(mut stop: watch::Receiver<bool>) -> Stopping {
        let stop = async move {
            drop(stop.wait_for(|&stop| stop).await);
            stop
        };
        Stopping { stop: Box::pin(stop), stopped: None }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.stopped.is_some() {
            return Poll::Pending;
        }
        self.stopped = Some(ready!(self.stop.as_mut().poll(context)));
        Poll::Ready(())
    }
}
