//! HTTP/2, requests to tasks: by hand on the frame library, because the path of a call of microseconds has room for nothing else,
//! and ten thousand idle connections pay for every field.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use tokio::sync::watch;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::connection::{Io, Stopping};
use super::keepalive::KeepAlive;
use super::{Connections, Protocols};
use crate::api::router;
use crate::metrics::CountRpcsLayer;

/// Flow-control windows of a connection, in bytes: large enough that a list of many keys is not held up by round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What the metadata of one request may come to: tokens of many groups, baggage of tracing.
const HEADER_LIST_BYTES: u32 = 1 << 20;
/// How much of an answer waits in a stream for its connection. More would let a large one keep a thread for longer at a time.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// One connection. Ready when it has ended.
pub(super) struct Http2 {
    state: State,
    io: Io,
    protocols: Protocols,
    keepalive: Option<KeepAlive>,
    stopping: Stopping,
}

enum State {
    Handshake(Handshake<Io, Bytes>),
    Serving(h2::server::Connection<Io, Bytes>),
}

impl Http2 {
    pub(super) fn new(
        io: Io,
        protocols: Protocols,
        connections: &Connections,
        stop: watch::Receiver<bool>,
    ) -> Http2 {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(connections.streams_max)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .handshake(io.clone());
        let keepalive = KeepAlive::new(connections.keepalive);
        Http2 { state: State::Handshake(handshake), io, protocols, keepalive, stopping: Stopping::new(stop) }
    }

    /// Everything but the sending.
    fn poll_connection(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stop = self.stopping.poll(context).is_ready();
        if let State::Handshake(handshake) = &mut self.state {
            if stop {
                return Poll::Ready(());
            }
            let Ok(connection) = ready!(Pin::new(handshake).poll(context)) else { return Poll::Ready(()) };
            self.state = State::Serving(connection);
        }
        let State::Serving(connection) = &mut self.state else { return Poll::Pending };
        if stop {
            connection.graceful_shutdown();
        }
        if let Some(keepalive) = &mut self.keepalive
            && keepalive.poll(context, connection, || self.io.was_read()).is_ready()
        {
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        while let Some(accepted) = ready!(connection.poll_accept(context)) {
            let Ok((request, reply)) = accepted else { return Poll::Ready(()) };
            dispatch(&self.protocols, request.map(RequestBody), reply);
        }
        Poll::Ready(())
    }
}

impl Future for Http2 {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let ended = this.poll_connection(context);
        match this.io.poll_send(context) {
            Poll::Ready(Err(_broken)) => Poll::Ready(()),
            _ => ended,
        }
    }
}

/// Starts the task of a request.
fn dispatch(protocols: &Protocols, request: Request<RequestBody>, reply: SendResponse<Bytes>) {
    match &protocols.grpc {
        Some(api) if is_grpc(&request) => {
            let api = Arc::clone(api);
            let counted = CountRpcsLayer::new(Arc::clone(&api.metrics));
            let mut service = counted.layer(service_fn(move |request| {
                let api = Arc::clone(&api);
                async move { Ok::<_, Infallible>(router::serve(api, request).await) }
            }));
            tokio::spawn(answer(service.call(request), reply));
        }
        _ => {
            let call = protocols.http.clone().oneshot(request.map(axum::body::Body::new));
            tokio::spawn(answer(call, reply));
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let is_type = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    request.headers().get(header::CONTENT_TYPE).is_some_and(is_type)
}

/// Makes the answer and sends it; gives up as soon as the client does.
async fn answer<B>(
    call: impl Future<Output = Result<Response<B>, Infallible>>,
    mut reply: SendResponse<Bytes>,
) where
    B: Body<Data = Bytes>,
{
    let made = {
        let mut call = pin!(call);
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(made) => Poll::Ready(Some(made)),
            Poll::Pending => reply.poll_reset(context).map(|_gone| None),
        })
        .await
    };
    let Some(Ok(response)) = made else { return };
    let (parts, body) = response.into_parts();
    let ends = body.is_end_stream();
    if let Ok(stream) = reply.send_response(Response::from_parts(parts, ()), ends)
        && !ends
    {
        send(body, stream).await;
    }
}

/// Sends a body, as fast as the client takes it.
async fn send<B: Body<Data = Bytes>>(body: B, mut stream: SendStream<Bytes>) {
    let mut body = pin!(body);
    let mut first = true;
    loop {
        let frame = poll_fn(|context| match body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => stream.poll_reset(context).map(|_gone| None),
        });
        let Some(frame) = frame.await else { return };
        let sent = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    // The first piece need not ask whether there is room: a stream has as much in any case.
                    if !std::mem::take(&mut first) && !has_room(&mut stream, data.len()).await {
                        return;
                    }
                    let ends = body.is_end_stream();
                    stream.send_data(data, ends).map(|()| !ends)
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(trailers).map(|()| false),
                    Err(_unknown) => Ok(true),
                },
            },
            Some(Err(_)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                Ok(false)
            }
            None => stream.send_data(Bytes::new(), true).map(|()| false),
        };
        if !matches!(sent, Ok(true)) {
            return;
        }
    }
}

/// Waits until the client takes some of `len` bytes; false when it has gone away.
async fn has_room(stream: &mut SendStream<Bytes>, len: usize) -> bool {
    stream.reserve_capacity(len);
    poll_fn(|context| {
        loop {
            if stream.capacity() > 0 || len == 0 {
                return Poll::Ready(true);
            }
            match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return stream.poll_reset(context).map(|_gone| false),
            }
        }
    })
    .await
}

/// The body of a request. Its flow-control window opens as it is read.
struct RequestBody(RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(context)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(context)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::super::wire::Wire;
    use super::*;
    use crate::grpc::keepalive::PingGuard;
    use crate::sync::lock;

    const PIECE_BYTES: usize = 64 << 10;

    fn serve(http: Router, keepalive: Duration) -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
        let (server, client) = duplex(1 << 16);
        let io = Wire::new(PingGuard::new(Box::new(server) as _, Duration::ZERO), Bytes::new(), true);
        let connections =
            Connections { streams_max: 10, ping_min: Duration::ZERO, keepalive: (keepalive, keepalive) };
        let (stop, stopped) = watch::channel(false);
        let protocols = Protocols { grpc: None, http };
        (client, stop, tokio::spawn(Http2::new(io, protocols, &connections, stopped)))
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
}
