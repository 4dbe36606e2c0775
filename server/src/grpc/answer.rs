//! The body of an answer: messages, then the status as trailers. Nothing is made before the connection takes it, so a
//! slow client costs one message's handles and one piece.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame};
use tokio_stream::Stream;
use tonic::Status;

use super::outgoing::Outgoing;

pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// An answer from this size on is long: its pieces are not made on the threads that serve requests.
const LONG_BYTES: usize = 1 << 20;

/// Among the extensions of an answer that is long, or may become so.
#[derive(Debug, Clone, Copy)]
pub struct Long;

/// The answer to a unary call.
#[must_use]
pub fn unary(outgoing: Outgoing) -> Response<tonic::body::Body> {
    let is_long = outgoing.len() >= LONG_BYTES && !outgoing.is_whole();
    let mut response = respond(tonic::body::Body::new(UnaryBody { message: Some(outgoing), ended: false }));
    if is_long {
        response.extensions_mut().insert(Long);
    }
    response
}

/// The answer to a server-streaming call: the stream's messages, then OK or the stream's error.
#[must_use]
pub fn streaming<S>(messages: S) -> Response<tonic::body::Body>
where
    S: Stream<Item = Result<Outgoing, Status>> + Send + Unpin + 'static,
{
    let mut response = respond(tonic::body::Body::new(StreamBody { messages, message: None, ended: false }));
    response.extensions_mut().insert(Long);
    response
}

fn respond(body: tonic::body::Body) -> Response<tonic::body::Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

fn ok() -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

/// The end of a stream that failed.
pub(crate) fn failed(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(3);
    // A status that cannot be written as headers is still an end of the stream that is not OK.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("2"));
    }
    Frame::trailers(trailers)
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

struct UnaryBody {
    message: Option<Outgoing>,
    ended: bool,
}

impl Body for UnaryBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        if let Some(message) = &mut self.message {
            if let Some(piece) = message.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            self.message = None;
        }
        let first = !std::mem::replace(&mut self.ended, true);
        Poll::Ready(first.then(|| Ok(ok())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

struct StreamBody<S> {
    messages: S,
    message: Option<Outgoing>,
    ended: bool,
}

impl<S> Body for StreamBody<S>
where
    S: Stream<Item = Result<Outgoing, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(piece) = self.message.as_mut().and_then(Outgoing::next_piece) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            self.message = None;
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(message)) => self.message = Some(message),
                end => {
                    self.ended = true;
                    let trailers = end.map_or_else(ok, |error| match error {
                        Ok(_) => ok(),
                        Err(status) => failed(&status),
                    });
                    return Poll::Ready(Some(Ok(trailers)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
