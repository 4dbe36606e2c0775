//! One connection, from its first bytes on: HTTP/2 or HTTP/1. On a client port HTTP/2 with a gRPC content type is gRPC, everything
//! else is plain HTTP, as on etcd's.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use super::http2::Http2;
use super::{Connections, Protocols, Socket, Stream};
use crate::api::slow::Remote;
use crate::h2::PREFACE;

/// Serves one connection to its end. Once `stop` becomes true it ends as soon as its requests have.
pub(super) async fn serve(
    mut stream: Stream,
    remote: Remote,
    protocols: Protocols,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    if protocols.http.is_none() {
        return grpc_alone(stream, remote, protocols, connections, stop).await;
    }
    let sniffed = tokio::select! {
        sniffed = sniff(&mut stream, connections.handshake) => sniffed,
        _ = stop.wait_for(|&stop| stop) => return,
    };
    match sniffed {
        // In a task of its own, which has room for nothing else: there may be many that are idle.
        Ok((true, _)) if protocols.http1_only => {}
        Ok((true, _)) => {
            let connection = Http2::new(stream, remote, protocols, &connections, stop);
            drop(tokio::spawn(connection.into_future()));
        }
        Ok((false, early)) => http1(Early { early, stream }, protocols, stop).await,
        Err(_gone) => {}
    }
}

/// A port of gRPC alone says its settings before it hears anything, and has nothing else to say to whoever does not speak HTTP/2.
async fn grpc_alone(
    stream: Stream,
    remote: Remote,
    protocols: Protocols,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    let mut connection = Http2::new(stream, remote, protocols, &connections, stop.clone());
    let greeted = tokio::select! {
        greeted = timeout(connections.handshake, connection.greet()) => greeted,
        _ = stop.wait_for(|&stop| stop) => return,
    };
    if let Ok(Ok(true)) = greeted {
        drop(tokio::spawn(connection.into_future()));
    }
}

/// Reads until it is clear whether this is HTTP/2; gives what was read. A client may be silent for as long as it likes, as with etcd, but
/// not in the middle of a word.
async fn sniff(stream: &mut Stream, handshake: Duration) -> io::Result<(bool, Bytes)> {
    let mut early = [0; PREFACE.len()];
    let mut have = stream.read(&mut early).await?;
    let rest = async {
        while (1..PREFACE.len()).contains(&have) && early[..have] == PREFACE[..have] {
            match stream.read(&mut early[have..]).await? {
                0 => break,
                more => have += more,
            }
        }
        io::Result::Ok(early[..have] == *PREFACE)
    };
    let is_http2 =
        timeout(handshake, rest).await.map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok((is_http2, Bytes::copy_from_slice(&early[..have])))
}

async fn http1(io: Early, protocols: Protocols, stop: watch::Receiver<bool>) {
    let Some(http) = protocols.http else { return };
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

/// A stream of which something was read already.
pub(crate) struct Early {
    early: Bytes,
    stream: Stream,
}

impl Early {
    /// What was read and not used, and the socket, taken from the event loop.
    pub(crate) fn into_socket(self) -> io::Result<(Bytes, Socket)> {
        Ok((self.early, self.stream.into_socket()?))
    }
}

impl AsyncRead for Early {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let taken = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_early_comes_first() {
        let (server, mut client) = duplex(64);
        client.write_all(b"late").await.unwrap();
        drop(client);
        let mut io = Early { early: Bytes::from_static(b"early "), stream: Box::new(server) };
        let mut all = String::new();
        io.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "early late");
    }

    #[tokio::test]
    async fn a_client_may_be_silent_but_not_in_the_middle_of_a_word() {
        const BRIEF: Duration = Duration::from_millis(5);
        let (silent, mut speaks) = duplex(64);
        let mut silent: Stream = Box::new(silent);
        let waits = tokio::spawn(async move { sniff(&mut silent, BRIEF).await });
        for said in [&PREFACE[..1], &PREFACE[..23]] {
            let (server, mut client) = duplex(64);
            let mut server: Stream = Box::new(server);
            client.write_all(said).await.unwrap();
            let late = sniff(&mut server, BRIEF).await.unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut, "{said:?}");
        }
        assert!(!waits.is_finished());
        speaks.write_all(PREFACE).await.unwrap();
        assert!(waits.await.unwrap().unwrap().0);
    }

    #[tokio::test]
    async fn http2_is_told_from_all_else() {
        const LONG: Duration = Duration::from_secs(60);
        for (said, expected) in
            [(PREFACE, true), (b"PRI * HTTP/1.1\r\n\r\n", false), (b"GET / HTTP/1.1", false), (b"PRI", false)]
        {
            let (server, mut client) = duplex(64);
            let mut server: Stream = Box::new(server);
            client.write_all(said).await.unwrap();
            drop(client);
            let (is_http2, early) = sniff(&mut server, LONG).await.unwrap();
            assert_eq!((is_http2, &early[..]), (expected, said));
        }
    }
}
