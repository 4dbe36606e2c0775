//! A connection over a pipe, with a client library's and by hand.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use h2::RecvStream;
use http_body::{Body, Frame};

use super::*;
use crate::h2::PREFACE;

const PIECE_BYTES: usize = 64 << 10;
const HANDSHAKE: Duration = Duration::from_millis(200);

fn serve(http: Router, keepalive: Duration) -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
    serve_through(1 << 16, http, keepalive)
}

fn serve_through(
    pipe_bytes: usize,
    http: Router,
    keepalive: Duration,
) -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
    let (mut server, client) = duplex(pipe_bytes);
    let connections = Connections {
        streams_max: 10,
        ping_min: Duration::ZERO,
        keepalive: (keepalive, keepalive),
        handshake: HANDSHAKE,
    };
    let (stop, stopped) = watch::channel(false);
    let protocols = Protocols { grpc: None, http: Some(http), http1_only: false };
    let served = tokio::spawn(async move {
        let mut preface = [0; PREFACE.len()];
        server.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        Http2::new(Box::new(server), Remote(None), protocols, &connections, stopped).await;
    });
    (client, stop, served)
}

/// An answer of so many pieces that counts those taken and tells when it is dropped.
struct Large {
    left: usize,
    taken: Arc<Mutex<usize>>,
    _dropped: oneshot::Sender<()>,
}

impl Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        *lock(&self.taken) += 1;
        Poll::Ready(Some(Ok(Frame::data(vec![7; PIECE_BYTES].into()))))
    }
}

fn large(pieces: usize) -> (Router, Arc<Mutex<usize>>, oneshot::Receiver<()>) {
    let (dropped, is_dropped) = oneshot::channel();
    let taken = Arc::new(Mutex::new(0));
    let body = Large { left: pieces, taken: Arc::clone(&taken), _dropped: dropped };
    let body = Arc::new(Mutex::new(Some(body)));
    let router = Router::new().route(
        "/",
        get(move || async move { Response::new(axum::body::Body::new(lock(&body).take().unwrap())) }),
    );
    (router, taken, is_dropped)
}

async fn ask(client: DuplexStream) -> (RecvStream, impl Sized) {
    let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://localhost/").body(()).unwrap();
    let (answer, _body) = requests.send_request(request, true).unwrap();
    (answer.await.unwrap().into_body(), (requests, connection))
}

#[tokio::test]
async fn an_answer_is_made_as_its_client_takes_it_and_arrives_whole() {
    let (router, taken, _dropped) = large(100);
    let (client, _stop, served) = serve(router, Duration::ZERO);
    let (mut body, connection) = ask(client).await;
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        bytes += data.len();
        assert!(*lock(&taken) * PIECE_BYTES < bytes + (1 << 20), "so much was made after {bytes} bytes");
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(bytes, 100 * PIECE_BYTES);
    drop((body, connection));
    served.await.unwrap();
}

#[tokio::test]
async fn an_answer_goes_with_its_client() {
    let (router, _taken, dropped) = large(100);
    let (client, _stop, _served) = serve(router, Duration::ZERO);
    let (body, connection) = ask(client).await;
    drop(body);
    assert!(dropped.await.is_err(), "the sender is dropped");
    drop(connection);
}

#[tokio::test]
async fn a_stop_ends_the_connection_once_its_requests_have() {
    let (router, _taken, _dropped) = large(3);
    let (client, stop, served) = serve(router, Duration::ZERO);
    let (mut body, _connection) = ask(client).await;
    stop.send(true).unwrap();
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        bytes += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(bytes, 3 * PIECE_BYTES);
    served.await.unwrap();
    stop.closed().await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_left() {
    let (mut client, _stop, served) = serve(Router::new(), Duration::from_millis(5));
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert!(got.windows(9).any(|head| head == b"\0\0\x08\x06\0\0\0\0\0"), "a ping was sent");
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_took_nothing_for_a_while_is_heard_again() {
    const SETTINGS: usize = 200_000;
    let (mut client, _stop, _served) = serve_through(1 << 20, Router::new(), Duration::ZERO);
    client.write_all(PREFACE).await.unwrap();
    client.write_all(&b"\0\0\0\x04\0\0\0\0\0".repeat(SETTINGS)).await.unwrap();
    // The server has filled the pipe, and has more to send than it lets wait.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let (mut got, mut buffer) = (0, vec![0; 2 << 20]);
    while got < SETTINGS * 9 {
        let read = tokio::time::timeout(Duration::from_secs(20), client.read(&mut buffer)).await;
        got += read.expect("the server goes on reading").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_never_says_its_settings_is_left_and_one_that_has_may_be_silent() {
    let (mut settled, _stop, stays) = serve(Router::new(), Duration::ZERO);
    settled.write_all(PREFACE).await.unwrap();
    settled.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut client, _stop, served) = serve(Router::new(), Duration::ZERO);
    client.write_all(PREFACE).await.unwrap();
    client.write_all(b"\0\0\0\x04\0").await.unwrap();
    served.await.unwrap();
    assert!(!stays.is_finished());
}
